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
    /// How old the oldest unfinished commit of a broker may be before it loses leaderships and ISR places.
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
            commit_stall_max: Duration::from_secs(2),
            leader_rebalance: true,
            leader_rebalance_interval: Duration::from_secs(5),
            leader_imbalance_percent: 0,
            leader_rebalance_partitions_max: 100,
            partitions_per_request_max: 10_000,
            first_configs: BTreeMap::new(),
        }
    }
}
