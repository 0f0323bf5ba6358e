//! ListGroups (key 16): the groups that this broker coordinates; administrators ask every broker.

use super::Handlers;
use super::groups::{code_of, text};
use crate::coordinator::group::ListGroupsFilter;
use rookery_protocol::messages::list_groups::ListedGroup;
use rookery_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

pub async fn handle(handlers: &Handlers, request: ListGroupsRequest) -> ListGroupsResponse {
    let filter = ListGroupsFilter {
        states: request.states_filter.iter().map(ToString::to_string).collect(),
        types: request.types_filter.iter().map(ToString::to_string).collect(),
    };
    match handlers.groups.list_groups(&filter).await {
        Err(error) => ListGroupsResponse { error_code: code_of(error), ..Default::default() },
        Ok(groups) => ListGroupsResponse {
            groups: groups
                .iter()
                .map(|g| ListedGroup {
                    group_id: text(&g.group_id),
                    protocol_type: text(&g.protocol_type),
                    group_state: g.state.into(),
                    group_type: g.group_type.into(),
                })
                .collect(),
            ..Default::default()
        },
    }
}
