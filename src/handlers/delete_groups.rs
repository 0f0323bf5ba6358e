//! DeleteGroups (key 42).

use super::Handlers;
use super::groups::shared;
use crate::coordinator::CoordinatorError;
use crate::coordinator::group::{GroupRequest, GroupResponse};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::delete_groups::DeletableGroupResult;
use rookery_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

pub async fn handle(handlers: &Handlers, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for id in &request.groups_names {
        let error = match handlers.groups.request(id, GroupRequest::DeleteGroups(vec![shared(id)])).await {
            Ok(GroupResponse::DeleteGroups(outcomes)) => {
                outcomes.first().map_or(Some(CoordinatorError::UnknownServerError), |(_, error)| *error)
            }
            Ok(_) => Some(CoordinatorError::UnknownServerError),
            Err(error) => Some(error),
        };
        let code = error.map_or(0, CoordinatorError::code);
        results.push(DeletableGroupResult {
            group_id: id.clone(),
            error_code: code,
            error_message: ErrorCode::from_code(code).filter(|_| error.is_some()).map(|e| SmolStr::new(e.message())),
        });
    }
    DeleteGroupsResponse { results, ..Default::default() }
}
