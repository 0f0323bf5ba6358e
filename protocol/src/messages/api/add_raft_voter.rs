//! AddRaftVoter, API key 80.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    AddRaftVoter: versions 0..=1, flexible 0;

    request AddRaftVoterRequest {
        cluster_id: Option<SmolStr> = Some("".into()),
        timeout_ms: i32,
        voter_id: i32,
        voter_directory_id: Uuid,
        listeners: Vec<Listener>,
        ack_when_committed: bool [from(1)] = true,
    }
    struct Listener {
        name: SmolStr,
        host: SmolStr,
        port: u16,
    }

    response AddRaftVoterResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
    }
}
