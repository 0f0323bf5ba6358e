//! JoinGroup (key 11).

use super::groups::{code_of, client_host, shared, shared_option, text, text_option};
use super::{Handlers, RequestContext};
use crate::coordinator::group::{JoinGroupRequest as Join, JoinProtocol};
use rookery_protocol::messages::join_group::JoinGroupResponseMember;
use rookery_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

pub async fn handle(handlers: &Handlers, context: &RequestContext, request: JoinGroupRequest) -> JoinGroupResponse {
    let version = context.version;
    let join = Join {
        group_id: shared(&request.group_id),
        session_timeout_ms: request.session_timeout_ms,
        // Version 0 has one time-out for both.
        rebalance_timeout_ms: if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
        member_id: shared(&request.member_id),
        group_instance_id: shared_option(request.group_instance_id.as_ref()),
        protocol_type: shared(&request.protocol_type),
        protocols: request
            .protocols
            .into_iter()
            // A copy of its own: a member's metadata lives as long as its group and must not pin the frame.
            .map(|p| JoinProtocol { name: shared(&p.name), metadata: bytes::Bytes::copy_from_slice(&p.metadata) })
            .collect(),
        client_id: context.client_id(),
        client_host: client_host(&context.connection),
        requires_known_member_id: version >= 4,
        supports_skipping_assignment: version >= 9,
    };
    let joined = handlers.groups.join_group(join).await;
    let protocol_name = text_option(joined.protocol_name.as_ref());
    JoinGroupResponse {
        error_code: joined.error.map_or(0, code_of),
        generation_id: joined.generation,
        protocol_type: text_option(joined.protocol_type.as_ref()),
        // Versions below 7 cannot say "none".
        protocol_name: if version < 7 { Some(protocol_name.unwrap_or_default()) } else { protocol_name },
        leader: text(&joined.leader),
        skip_assignment: joined.skip_assignment,
        member_id: text(&joined.member_id),
        members: joined
            .members
            .into_iter()
            .map(|m| JoinGroupResponseMember {
                member_id: text(&m.member_id),
                group_instance_id: text_option(m.group_instance_id.as_ref()),
                metadata: m.metadata,
            })
            .collect(),
        ..Default::default()
    }
}
