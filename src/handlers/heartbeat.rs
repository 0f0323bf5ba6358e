//! Heartbeat (key 12) of a group's member.

use super::Handlers;
use super::groups::{code_of, shared, shared_option};
use crate::coordinator::group::HeartbeatRequest as Heartbeat;
use rookery_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

pub async fn handle(handlers: &Handlers, request: HeartbeatRequest) -> HeartbeatResponse {
    let heartbeat = Heartbeat {
        group_id: shared(&request.group_id),
        generation: request.generation_id,
        member_id: shared(&request.member_id),
        group_instance_id: shared_option(request.group_instance_id.as_ref()),
    };
    let result = handlers.groups.heartbeat(heartbeat).await;
    HeartbeatResponse { error_code: result.err().map_or(0, code_of), ..Default::default() }
}
