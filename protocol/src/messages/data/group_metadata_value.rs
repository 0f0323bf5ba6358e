//! `GroupMetadataValue`.

use bytes::Bytes;
use smol_str::SmolStr;

data! {
    versions 0..=4, flexible 4;

    value GroupMetadataValue {
        protocol_type: SmolStr,
        generation: i32,
        protocol: Option<SmolStr> = Some("".into()),
        leader: Option<SmolStr> = Some("".into()),
        current_state_timestamp: i64 [from(2).ignorable()] = -1,
        members: Vec<MemberMetadata>,
    }
    struct MemberMetadata {
        member_id: SmolStr,
        group_instance_id: Option<SmolStr> [from(3).ignorable()],
        client_id: SmolStr,
        client_host: SmolStr,
        rebalance_timeout: i32 [from(1).ignorable()] = -1,
        session_timeout: i32,
        subscription: Bytes,
        assignment: Bytes,
    }
}
