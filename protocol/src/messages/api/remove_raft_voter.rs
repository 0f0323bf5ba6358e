//! RemoveRaftVoter, API key 81.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    RemoveRaftVoter: versions 0..=0, flexible 0;

    request RemoveRaftVoterRequest {
        cluster_id: Option<SmolStr> = Some("".into()),
        voter_id: i32,
        voter_directory_id: Uuid,
    }

    response RemoveRaftVoterResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
    }
}
