//! SyncGroup (key 14).

use super::Handlers;
use super::groups::{code_of, shared, shared_option, text_option};
use crate::coordinator::group::SyncGroupRequest as Sync;
use bytes::Bytes;
use rookery_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

pub async fn handle(handlers: &Handlers, request: SyncGroupRequest) -> SyncGroupResponse {
    let sync = Sync {
        group_id: shared(&request.group_id),
        generation: request.generation_id,
        member_id: shared(&request.member_id),
        group_instance_id: shared_option(request.group_instance_id.as_ref()),
        protocol_type: shared_option(request.protocol_type.as_ref()),
        protocol_name: shared_option(request.protocol_name.as_ref()),
        assignments: request
            .assignments
            .iter()
            // A copy of its own, for the same reason as a member's metadata.
            .map(|a| (shared(&a.member_id), Bytes::copy_from_slice(&a.assignment)))
            .collect(),
    };
    match handlers.groups.sync_group(sync).await {
        Ok(synced) => SyncGroupResponse {
            protocol_type: text_option(synced.protocol_type.as_ref()),
            protocol_name: text_option(synced.protocol_name.as_ref()),
            assignment: synced.assignment,
            ..Default::default()
        },
        Err(error) => SyncGroupResponse { error_code: code_of(error), ..Default::default() },
    }
}
