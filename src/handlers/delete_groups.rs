//! DeleteGroups (key 42).

use super::Handlers;
use super::groups::{code_of, shared, text};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::messages::delete_groups::DeletableGroupResult;
use rookery_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

pub async fn handle(handlers: &Handlers, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let ids = request.groups_names.iter().map(shared).collect();
    let results = handlers.groups.delete_groups(ids).await.into_iter().map(|(id, error)| DeletableGroupResult {
        group_id: text(&id),
        error_code: error.map_or(0, code_of),
        error_message: error.map(|e| SmolStr::new(e.to_string())),
    });
    DeleteGroupsResponse { results: results.collect(), ..Default::default() }
}
