//! What a voter is told at its start.

use super::error::QuorumError;
use super::network::RpcTimeouts;
use super::observer::ObserverConfig;
use super::storage_thread::StorageExecution;
use super::types::QuorumNode;
use crate::ids::{ClusterId, NodeId, QuorumNodeId};
use openraft::{SnapshotPolicy, StepDownPolicy};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A voter's settings. Times are the defaults of a local network; slow disks want them doubled.
#[derive(Clone, Debug)]
pub struct QuorumConfig {
    /// Who this node is: its id and the directory id on its disk.
    pub me: QuorumNodeId,
    /// The voters of the command line, this node among them. Used for the first formation only.
    pub voters: BTreeMap<NodeId, QuorumNode>,
    /// A random id; becomes the cluster's if this node comes to form it.
    pub new_cluster_id: ClusterId,
    /// Between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// The shortest election timeout, above the heartbeat; also how long a heartbeat or a vote may take.
    pub election_min: Duration,
    /// The longest election timeout; also the leader's lease.
    pub election_max: Duration,
    /// Entries between two snapshots.
    pub snapshot_after: u64,
    /// Entries kept behind a snapshot for followers and observers that lag.
    pub keep_entries: u64,
    /// Between two attempts of the first formation.
    pub formation_retry: Duration,
    /// Between two looks of the active controller at its brokers' sessions, and at leaders to move back.
    pub controller_tick: Duration,
    /// A leader whose disk has not finished a write for so long gives up the leadership. Above the controller's own limit for brokers
    /// ([`ControllerConfig::commit_stall_max`](crate::controller::ControllerConfig::commit_stall_max)): a controller whose disk hangs still decides, by
    /// the others' disks, and moves its own node's leaderships away before it goes. With the election that follows (100 to 300 ms) its office has
    /// moved within two seconds. It is higher because it costs more: the log is opened anew, and this voter is out for two seconds at least.
    pub disk_stall_max: Duration,
    /// Where the disk's blocking calls run.
    pub execution: StorageExecution,
    /// The time told in the event log, in milliseconds since 1970. Nothing is decided by it; simulations have another.
    pub wall_clock: fn() -> i64,
}

impl QuorumConfig {
    /// The defaults.
    pub fn new(me: QuorumNodeId, voters: BTreeMap<NodeId, QuorumNode>, new_cluster_id: ClusterId) -> Self {
        Self {
            me,
            voters,
            new_cluster_id,
            heartbeat: Duration::from_millis(40),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(350),
            snapshot_after: 10_000,
            keep_entries: 2_000,
            formation_retry: Duration::from_millis(100),
            controller_tick: Duration::from_millis(250),
            disk_stall_max: Duration::from_millis(1500),
            execution: StorageExecution::Thread,
            wall_clock: unix_ms,
        }
    }

    /// How this node observes while it has no vote.
    pub(super) fn observer(&self) -> ObserverConfig {
        let mut others = self.voters.clone();
        others.remove(&self.me.node_id);
        ObserverConfig { execution: self.execution, ..ObserverConfig::new(self.me, others, None) }
    }

    pub(super) fn timeouts(&self) -> RpcTimeouts {
        RpcTimeouts {
            short: self.election_min,
            append: self.election_max * 5,
            snapshot: self.election_max * 5 + Duration::from_secs(30),
        }
    }

    /// openraft's settings, checked.
    pub(super) fn openraft(&self) -> Result<openraft::Config, QuorumError> {
        if !self.voters.contains_key(&self.me.node_id) {
            return Err(QuorumError::Config(format!("node {} is not in its own list of voters", self.me.node_id)));
        }
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let election_max = ms(self.election_max);
        let config = openraft::Config {
            cluster_name: "metadata".into(),
            // How long an answer may take; the heartbeats themselves are the lease's.
            heartbeat_interval: ms(self.election_min).saturating_sub(1),
            enable_heartbeat: false,
            election_timeout_min: ms(self.election_min),
            election_timeout_max: election_max,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_after),
            max_in_snapshot_log_to_keep: self.keep_entries,
            replication_lag_threshold: self.snapshot_after.saturating_add(self.keep_entries),
            install_snapshot_timeout: ms(self.timeouts().snapshot),
            removed_leader_step_down: StepDownPolicy::After(election_max),
            enable_pre_vote: Some(true),
            // A restarted leader lacks its soft state: it has to be elected again.
            enable_leader_restore: Some(false),
            backoff: "50ms 100ms 200ms ...400ms".into(),
            ..openraft::Config::default()
        };
        config.validate().map_err(|e| QuorumError::Config(e.to_string()))
    }
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
