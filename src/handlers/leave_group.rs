//! LeaveGroup (key 13): one member before version 3, several since.

use super::Handlers;
use super::groups::{code_of, shared, shared_option, text, text_option};
use crate::coordinator::CoordinatorError;
use crate::coordinator::group::{LeaveGroupRequest as Leave, MemberIdentity};
use rookery_protocol::messages::leave_group::MemberResponse;
use rookery_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

pub async fn handle(handlers: &Handlers, version: i16, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let members = if version < 3 {
        vec![MemberIdentity { member_id: shared(&request.member_id), group_instance_id: None }]
    } else {
        let identity = |m: &rookery_protocol::messages::leave_group::MemberIdentity| MemberIdentity {
            member_id: shared(&m.member_id),
            group_instance_id: shared_option(m.group_instance_id.as_ref()),
        };
        request.members.iter().map(identity).collect()
    };
    let leave = Leave { group_id: shared(&request.group_id), members };
    let refused = |error: CoordinatorError| LeaveGroupResponse { error_code: code_of(error), ..Default::default() };
    match handlers.groups.leave_group(leave).await {
        Ok(left) if version < 3 => {
            left.first().and_then(|m| m.error).map_or_else(LeaveGroupResponse::default, refused)
        }
        Ok(left) => LeaveGroupResponse {
            members: left
                .iter()
                .map(|m| MemberResponse {
                    member_id: text(&m.identity.member_id),
                    group_instance_id: text_option(m.identity.group_instance_id.as_ref()),
                    error_code: m.error.map_or(0, code_of),
                })
                .collect(),
            ..Default::default()
        },
        Err(error) => refused(error),
    }
}
