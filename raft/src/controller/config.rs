//! What an operator can set about decisions.

use std::collections::BTreeMap;
use std::time::Duration;

/// Settings of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// `num.partitions`: of a topic that names no count.
    pub default_partitions: i32,
    /// `default.replication.factor`: of a topic that names none; never more than the cluster is meant to have brokers.
    pub default_replication_factor: i16,
    /// `broker.session.timeout.ms`: a broker silent for longer is fenced.
    pub session_timeout: Duration,
    /// For how long a broker's disk may be at one and the same commit before the broker loses leaderships and ISR places.
    ///
    /// Whoever waits for an acknowledgement waits for this, for the next heartbeat (100 ms), for the decision (a commit of the metadata log on
    /// the disks that are well), and for the new leader's first commit: a second leaves another one for all of that, which a busy machine
    /// needs. It is twice what a sync takes now and then on such a machine, and several times what a commit takes on a disk that is only slow (eight
    /// writes a second: 125 to 400 ms, whatever waits behind it). Where a disk that is well takes longer once, leaderships move for nothing, in
    /// order, and come back with the next balancing.
    pub commit_stall_max: Duration,
    /// `auto.leader.rebalance.enable`: whether leadership is moved back to preferred leaders by itself.
    pub leader_rebalance: bool,
    /// `leader.imbalance.check.interval.seconds`: how often.
    pub leader_rebalance_interval: Duration,
    /// `leader.imbalance.per.broker.percentage`: to a broker that lacks more of the leaderships meant for it, in percent.
    pub leader_imbalance_percent: u8,
    /// How many partitions are moved back at once.
    pub leader_rebalance_partitions_max: u32,
    /// How many partitions one request may create.
    pub partitions_per_request_max: i32,
    /// The first cluster-wide configs of a cluster that this controller forms, by name; valid.
    pub first_configs: BTreeMap<String, String>,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            default_partitions: 1,
            default_replication_factor: 3,
            session_timeout: Duration::from_secs(3),
            commit_stall_max: Duration::from_secs(1),
            leader_rebalance: true,
            leader_rebalance_interval: Duration::from_secs(5),
            leader_imbalance_percent: 0,
            leader_rebalance_partitions_max: 100,
            partitions_per_request_max: 10_000,
            first_configs: BTreeMap::new(),
        }
    }
}
