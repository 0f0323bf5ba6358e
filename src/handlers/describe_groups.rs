//! DescribeGroups (key 15).

use super::Handlers;
use super::groups::{code_of, shared, text, text_option};
use crate::coordinator::CoordinatorError;
use crate::coordinator::group::DescribedGroup as Described;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use rookery_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

pub async fn handle(handlers: &Handlers, version: i16, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let ids = request.groups.iter().map(shared).collect();
    let groups = handlers.groups.describe_groups(ids).await;
    DescribeGroupsResponse { groups: groups.into_iter().map(|g| describe(version, g)).collect(), ..Default::default() }
}

fn describe(version: i16, group: Described) -> DescribedGroup {
    // Only version 6 knows the error for a group that does not exist; it is `Dead` for older ones.
    let error = group.error.filter(|e| version >= 6 || *e != CoordinatorError::GroupIdNotFound);
    DescribedGroup {
        error_code: error.map_or(0, code_of),
        error_message: error.filter(|_| version >= 6).map(|e| SmolStr::new(e.to_string())),
        group_id: text(&group.group_id),
        group_state: group.state.into(),
        protocol_type: text(&group.protocol_type),
        protocol_data: text(&group.protocol),
        members: group
            .members
            .iter()
            .map(|m| DescribedGroupMember {
                member_id: text(&m.member_id),
                group_instance_id: text_option(m.group_instance_id.as_ref()),
                client_id: text(&m.client_id),
                client_host: text(&m.client_host),
                member_metadata: m.metadata.clone(),
                member_assignment: m.assignment.clone(),
            })
            .collect(),
        ..Default::default()
    }
}
