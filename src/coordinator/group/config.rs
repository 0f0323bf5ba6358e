//! Settings of the group coordinator: Kafka's names, Kafka's defaults.

use std::time::Duration;

/// What a broker's configuration says about classic groups and offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members before its first generation.
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`, in members.
    pub size_max: usize,
    /// How long a member that joins for the first time may be parked before it is forgotten, if its client does not ask
    /// again. (Kafka's constant `CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`.)
    pub new_member_join_timeout: Duration,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// Tombstones made by one pass of the retention; what remains waits for the next pass.
    pub expirations_per_pass_max: usize,
    /// `offset.commit.timeout.ms`: how long an assignment may take to commit before the group rebalances again.
    pub offset_commit_timeout: Duration,
    /// The largest record of one group, in bytes; just below the topic's `max.message.bytes`.
    pub group_record_bytes_max: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::from_secs(3),
            size_max: i32::MAX as usize,
            new_member_join_timeout: Duration::from_secs(5 * 60),
            offset_metadata_bytes_max: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offsets_retention_check_interval: Duration::from_secs(10 * 60),
            expirations_per_pass_max: 50_000,
            offset_commit_timeout: Duration::from_secs(5),
            group_record_bytes_max: (1 << 20) - 1024,
        }
    }
}
