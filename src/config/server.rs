//! What a node makes of its settings.

use super::listeners::{self, HostPort, Listener};
use super::{ConfigError, Settings, Source};
use rookery_raft::ids::NodeId;
use rookery_raft::image::config_def::{MESSAGE_BYTES_MAX, is_cluster_wide, topic_config_of_broker_config};
use rookery_raft::image::topic_configs::TopicConfigs;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// An initial voter: who, and its peer address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Whose.
    pub node_id: NodeId,
    /// Its `peer.listener` as others reach it.
    pub address: HostPort,
}

/// Everything a node must know before it starts.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// `node.id`.
    pub node_id: NodeId,
    /// Whether partitions live here.
    pub is_broker: bool,
    /// Whether this node can be a voter of the metadata quorum.
    pub is_controller: bool,
    /// `log.dirs`.
    pub data_dir: PathBuf,
    /// `listeners` with what is advertised for each.
    pub listeners: Vec<Listener>,
    /// `peer.listener`.
    pub peer_bind: HostPort,
    /// `advertised.peer.listener`.
    pub peer_advertised: HostPort,
    /// `http.listener`, unless switched off.
    pub http: Option<HostPort>,
    /// `controller.quorum.voters`; this node alone if not set.
    pub voters: Vec<Voter>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Topics made without saying how.
    pub topics: TopicDefaults,
    /// What topics' configs are on this broker.
    pub topic_configs: Arc<TopicConfigs>,
    /// Settings that the cluster takes from the node that forms it, and from no node later.
    pub first_cluster_configs: BTreeMap<String, String>,
    /// The group coordinator.
    pub groups: GroupSettings,
    /// Replication and detection of failures.
    pub timing: Timing,
    /// Bounds on what clients can make this node hold.
    pub limits: Limits,
    /// All of it as text, for those who ask what is set.
    pub settings: Settings,
}

/// Topics made without saying how.
#[derive(Debug, Clone)]
pub struct TopicDefaults {
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// `auto.create.topics.enable`.
    pub auto_create: bool,
}

/// The group coordinator.
#[derive(Debug, Clone)]
pub struct GroupSettings {
    /// `offsets.topic.num.partitions`.
    pub offsets_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_replication_factor: i16,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offset.metadata.max.bytes`.
    pub metadata_bytes_max: usize,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.max.size`.
    pub size_max: usize,
}

/// Replication and detection of failures.
#[derive(Debug, Clone)]
pub struct Timing {
    /// `broker.heartbeat.interval.ms`.
    pub broker_heartbeat: Duration,
    /// `broker.session.timeout.ms`.
    pub broker_session: Duration,
    /// `auto.leader.rebalance.enable`.
    pub leader_rebalance: bool,
    /// `leader.imbalance.check.interval.seconds`.
    pub leader_rebalance_interval: Duration,
    /// `leader.imbalance.per.broker.percentage`.
    pub leader_imbalance_percent: u8,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_max: Duration,
    /// `replica.fetch.wait.max.ms`.
    pub replica_fetch_wait: Duration,
    /// `log.retention.check.interval.ms`.
    pub retention_check: Duration,
    /// `log.scrub.interval.ms`; zero: never.
    pub scrub_interval: Duration,
    /// `controlled.shutdown.timeout.ms`.
    pub controlled_shutdown: Duration,
    /// `quorum.heartbeat.interval.ms`.
    pub quorum_heartbeat: Duration,
    /// `quorum.election.timeout.min.ms`.
    pub quorum_election_min: Duration,
    /// `quorum.election.timeout.max.ms`.
    pub quorum_election_max: Duration,
    /// `gossip.enable`.
    pub gossip: bool,
    /// `gossip.profile` is `fast`.
    pub gossip_fast: bool,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
}

/// Bounds on what clients can make this node hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `max.connections`.
    pub connections: usize,
    /// `socket.request.max.bytes`.
    pub request_bytes: usize,
    /// `queued.max.request.bytes`.
    pub queued_request_bytes: usize,
    /// `queued.max.response.bytes`.
    pub queued_response_bytes: usize,
    /// `connections.max.idle.ms`.
    pub connection_idle: Duration,
    /// `fetch.max.bytes`.
    pub fetch_bytes: usize,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions: usize,
    /// `replica.fetch.max.bytes`.
    pub replica_fetch_partition_bytes: usize,
    /// `replica.fetch.response.max.bytes`.
    pub replica_fetch_bytes: usize,
    /// `log.cache.bytes`.
    pub log_cache_bytes: usize,
    /// `log.dirs.free.bytes.soft`.
    pub free_bytes_soft: u64,
    /// `log.dirs.free.bytes.hard`.
    pub free_bytes_hard: u64,
    /// `log.dirs.reserve.bytes`.
    pub reserve_bytes: u64,
    /// `log.scrub.io.max.bytes.per.second`.
    pub scrub_bytes_per_second: u64,
}

impl ServerConfig {
    /// Check everything; the first thing wrong comes back as one line.
    pub fn new(settings: Settings) -> Result<ServerConfig, ConfigError> {
        let s = &settings;
        let node_id = NodeId(s.number("node.id", 0, i32::MAX)?);
        let topic_defaults = topic_defaults(s)?;
        let (is_broker, is_controller) = roles(s)?;
        let listed = parse_voters(s)?;
        let peer_bind = peer_bind(s, node_id, &listed)?;
        let peer_advertised = match s.text("advertised.peer.listener") {
            "" if peer_bind.is_wildcard() => {
                return Err(ConfigError::Conflict(format!(
                    "peer.listener binds to every interface ({peer_bind}): say in advertised.peer.listener what other nodes shall connect to"
                )));
            }
            "" => peer_bind.clone(),
            _ => address(s, "advertised.peer.listener")?,
        };
        let voters = voters(s, listed, node_id, is_controller, &peer_advertised)?;
        Ok(ServerConfig {
            node_id,
            is_broker,
            is_controller,
            data_dir: data_dir(s)?,
            listeners: listeners::listeners(s)?,
            http: if s.text("http.listener").trim().is_empty() { None } else { Some(address(s, "http.listener")?) },
            peer_bind,
            peer_advertised,
            voters,
            rack: Some(s.text("broker.rack").trim()).filter(|r| !r.is_empty()).map(str::to_owned),
            topics: TopicDefaults {
                num_partitions: s.number("num.partitions", 1, 100_000)?,
                replication_factor: s.number("default.replication.factor", 1, 1000)?,
                auto_create: boolean(s, "auto.create.topics.enable")?,
            },
            topic_configs: Arc::new(TopicConfigs::new(node_id, topic_defaults.clone())),
            first_cluster_configs: topic_defaults
                .into_iter()
                .filter(|(name, _)| is_cluster_wide(name))
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            groups: groups(s)?,
            timing: timing(s)?,
            limits: limits(s)?,
            settings,
        })
    }

    /// This node alone is the cluster.
    pub fn is_single_node(&self) -> bool {
        self.voters.len() == 1 && self.voters[0].node_id == self.node_id
    }
}

/// The settings that are defaults of topic configs and were really set, by the names of broker configs.
fn topic_defaults(s: &Settings) -> Result<BTreeMap<&'static str, String>, ConfigError> {
    let mut set = BTreeMap::new();
    for (name, value, source) in s.iter() {
        if let Some(config) = topic_config_of_broker_config(name) {
            let expected = |why| format!("a value of the topic config {} ({why})", config.name);
            config.kind.check(value).map_err(|why| s.invalid(name, expected(why)))?;
            if *source != Source::Default {
                set.insert(name, value.to_owned());
            }
        }
    }
    // Kafka's older units of the same setting; the finest that is set counts.
    for (name, unit_ms) in [("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)] {
        if !s.text(name).is_empty() {
            let units: i64 = s.number(name, -1, i64::from(i32::MAX))?;
            let ms = if units < 0 { -1 } else { units * unit_ms };
            set.entry("log.retention.ms").or_insert(ms.to_string());
        }
    }
    Ok(set)
}

fn roles(s: &Settings) -> Result<(bool, bool), ConfigError> {
    let (mut broker, mut controller) = (false, false);
    for role in s.text("process.roles").split(',').map(str::trim) {
        match role {
            "broker" => broker = true,
            "controller" => controller = true,
            _ => return Err(s.invalid("process.roles", "`broker`, `controller`, or `broker,controller`")),
        }
    }
    Ok((broker, controller))
}

fn data_dir(s: &Settings) -> Result<PathBuf, ConfigError> {
    let text = s.text("log.dirs").trim();
    if text.is_empty() || text.contains(',') {
        return Err(s.invalid("log.dirs", "one directory"));
    }
    Ok(PathBuf::from(text))
}

const VOTERS: &str = "controller.quorum.voters";

/// Where other nodes connect: as set, or as the list of voters says of this node.
fn peer_bind(s: &Settings, me: NodeId, listed: &[Voter]) -> Result<HostPort, ConfigError> {
    match listed.iter().find(|v| v.node_id == me) {
        Some(voter) if *s.source("peer.listener") == Source::Default => Ok(voter.address.clone()),
        _ => address(s, "peer.listener"),
    }
}

fn parse_voters(s: &Settings) -> Result<Vec<Voter>, ConfigError> {
    let mut voters: Vec<Voter> = Vec::new();
    for item in s.text(VOTERS).split(',').map(str::trim).filter(|i| !i.is_empty()) {
        let parsed = item.split_once('@').and_then(|(id, address)| {
            let id: i32 = id.trim().parse().ok().filter(|id| *id >= 0)?;
            Some(Voter {
                node_id: NodeId(id),
                address: HostPort::parse(address).filter(|a| !a.is_wildcard() && a.port != 0)?,
            })
        });
        let voter =
            parsed.ok_or_else(|| s.invalid(VOTERS, format!("ID@HOST:PORT, comma-separated; `{item}` is not that")))?;
        if voters.iter().any(|v| v.node_id == voter.node_id) {
            return Err(s.invalid(VOTERS, format!("every id once; {} is there twice", voter.node_id)));
        }
        voters.push(voter);
    }
    voters.sort_by_key(|v| v.node_id);
    Ok(voters)
}

fn voters(
    s: &Settings,
    mut voters: Vec<Voter>,
    me: NodeId,
    is_controller: bool,
    my_address: &HostPort,
) -> Result<Vec<Voter>, ConfigError> {
    if voters.is_empty() {
        if !is_controller {
            return Err(ConfigError::Conflict(format!(
                "a node that is no controller needs {VOTERS}: where is its cluster?"
            )));
        }
        voters.push(Voter { node_id: me, address: my_address.clone() });
    }
    if ![1, 3, 5].contains(&voters.len()) {
        return Err(s.invalid(VOTERS, "1, 3 or 5 voters"));
    }
    match (voters.iter().any(|v| v.node_id == me), is_controller) {
        (true, false) => {
            Err(ConfigError::Conflict(format!("node {me} is listed in {VOTERS} but process.roles has no `controller`")))
        }
        (false, true) => Err(ConfigError::Conflict(format!(
            "node {me} is a controller by process.roles but not listed in {VOTERS}: list it, or set process.roles = broker"
        ))),
        _ => Ok(voters),
    }
}

fn groups(s: &Settings) -> Result<GroupSettings, ConfigError> {
    let result = GroupSettings {
        offsets_partitions: s.number("offsets.topic.num.partitions", 1, 1000)?,
        offsets_replication_factor: s.number("offsets.topic.replication.factor", 1, 1000)?,
        offsets_retention: Duration::from_secs(60 * s.number("offsets.retention.minutes", 1u64, 5_256_000)?),
        metadata_bytes_max: s.number("offset.metadata.max.bytes", 0, 1 << 20)?,
        initial_rebalance_delay: millis(s, "group.initial.rebalance.delay.ms", 0, 3_600_000)?,
        session_timeout_min: millis(s, "group.min.session.timeout.ms", 1, 86_400_000)?,
        session_timeout_max: millis(s, "group.max.session.timeout.ms", 1, 86_400_000)?,
        size_max: s.number("group.max.size", 1, i32::MAX as usize)?,
    };
    if result.session_timeout_min > result.session_timeout_max {
        return Err(ConfigError::Conflict(format!(
            "group.min.session.timeout.ms ({}) is above group.max.session.timeout.ms ({})",
            s.text("group.min.session.timeout.ms"),
            s.text("group.max.session.timeout.ms")
        )));
    }
    Ok(result)
}

fn timing(s: &Settings) -> Result<Timing, ConfigError> {
    let t = Timing {
        broker_heartbeat: millis(s, "broker.heartbeat.interval.ms", 10, 60_000)?,
        broker_session: millis(s, "broker.session.timeout.ms", 100, 600_000)?,
        leader_rebalance: boolean(s, "auto.leader.rebalance.enable")?,
        leader_rebalance_interval: Duration::from_secs(s.number(
            "leader.imbalance.check.interval.seconds",
            1u64,
            86_400,
        )?),
        leader_imbalance_percent: s.number("leader.imbalance.per.broker.percentage", 0, 100)?,
        replica_lag_max: millis(s, "replica.lag.time.max.ms", 100, 3_600_000)?,
        replica_fetch_wait: millis(s, "replica.fetch.wait.max.ms", 1, 60_000)?,
        scrub_interval: millis(s, "log.scrub.interval.ms", 0, 1 << 50)?,
        retention_check: millis(s, "log.retention.check.interval.ms", 100, 86_400_000)?,
        controlled_shutdown: millis(s, "controlled.shutdown.timeout.ms", 0, 600_000)?,
        quorum_heartbeat: millis(s, "quorum.heartbeat.interval.ms", 5, 10_000)?,
        quorum_election_min: millis(s, "quorum.election.timeout.min.ms", 20, 60_000)?,
        quorum_election_max: millis(s, "quorum.election.timeout.max.ms", 40, 120_000)?,
        gossip: boolean(s, "gossip.enable")?,
        gossip_fast: match s.text("gossip.profile") {
            "lan" => false,
            "fast" => true,
            _ => return Err(s.invalid("gossip.profile", "`lan` or `fast`")),
        },
        producer_id_expiration: millis(s, "producer.id.expiration.ms", 1_000, i64::MAX as u64)?,
    };
    if t.quorum_heartbeat * 2 > t.quorum_election_min || t.quorum_election_min >= t.quorum_election_max {
        return Err(ConfigError::Conflict(
            "quorum time-outs must grow: 2 × quorum.heartbeat.interval.ms ≤ quorum.election.timeout.min.ms < quorum.election.timeout.max.ms"
                .to_owned(),
        ));
    }
    if t.broker_heartbeat * 3 > t.broker_session {
        return Err(ConfigError::Conflict(
            "broker.session.timeout.ms must be at least three times broker.heartbeat.interval.ms".to_owned(),
        ));
    }
    Ok(t)
}

fn limits(s: &Settings) -> Result<Limits, ConfigError> {
    let limits = Limits {
        connections: s.number("max.connections", 1, 1_000_000)?,
        request_bytes: s.number("socket.request.max.bytes", 1024, i32::MAX as usize)?,
        queued_request_bytes: s.number("queued.max.request.bytes", 1 << 20, 1 << 40)?,
        queued_response_bytes: s.number("queued.max.response.bytes", 1 << 20, u32::MAX as usize)?,
        connection_idle: millis(s, "connections.max.idle.ms", 1_000, 86_400_000)?,
        fetch_bytes: s.number("fetch.max.bytes", 1024, i32::MAX as usize)?,
        fetch_sessions: s.number("max.incremental.fetch.session.cache.slots", 0, 1_000_000)?,
        replica_fetch_partition_bytes: s.number("replica.fetch.max.bytes", 1024, i32::MAX as usize)?,
        // One answer is one frame: as much as the largest batch, and no more.
        replica_fetch_bytes: s.number("replica.fetch.response.max.bytes", 1024, MESSAGE_BYTES_MAX as usize)?,
        log_cache_bytes: s.number("log.cache.bytes", 0, 1 << 40)?,
        free_bytes_soft: s.number("log.dirs.free.bytes.soft", 0, 1 << 50)?,
        free_bytes_hard: s.number("log.dirs.free.bytes.hard", 0, 1 << 50)?,
        reserve_bytes: s.number("log.dirs.reserve.bytes", 0, 1 << 40)?,
        scrub_bytes_per_second: s.number("log.scrub.io.max.bytes.per.second", 0, 1 << 50)?,
    };
    if limits.free_bytes_hard > limits.free_bytes_soft {
        return Err(ConfigError::Conflict(format!(
            "log.dirs.free.bytes.hard ({}) is above log.dirs.free.bytes.soft ({})",
            limits.free_bytes_hard, limits.free_bytes_soft
        )));
    }
    if limits.request_bytes > limits.queued_request_bytes {
        return Err(ConfigError::Conflict(format!(
            "socket.request.max.bytes ({}) is above queued.max.request.bytes ({}): such a request could never be read",
            limits.request_bytes, limits.queued_request_bytes
        )));
    }
    Ok(limits)
}

fn address(s: &Settings, name: &str) -> Result<HostPort, ConfigError> {
    HostPort::parse(s.text(name)).ok_or_else(|| s.invalid(name, "HOST:PORT"))
}

fn boolean(s: &Settings, name: &str) -> Result<bool, ConfigError> {
    s.get(name, "`true` or `false`")
}

fn millis(s: &Settings, name: &str, min: u64, max: u64) -> Result<Duration, ConfigError> {
    s.number(name, min, max).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_raft::image::MetadataImage;

    fn with(pairs: &[(&str, &str)]) -> Result<ServerConfig, ConfigError> {
        let mut settings = Settings::default();
        for (name, value) in pairs {
            settings.set(name, *value, Source::Flag("--set".into())).unwrap();
        }
        ServerConfig::new(settings)
    }

    #[test]
    fn a_topic_default_that_is_no_value_of_its_config_is_refused() {
        for (name, value) in
            [("message.max.bytes", "5MB"), ("log.retention.ms", "5d"), ("log.message.timestamp.type", "x")]
        {
            let refused = with(&[(name, value)]).unwrap_err().to_string();
            assert!(refused.contains(name) && refused.contains(value) && refused.contains("--set"), "{refused}");
        }
        with(&[("log.retention.ms", "-1")]).unwrap();
    }

    #[test]
    fn the_finest_unit_of_retention_counts() {
        let retention = |pairs: &[(&str, &str)]| {
            let image = MetadataImage::empty();
            with(pairs).unwrap().topic_configs.number(&image, "t", "retention.ms")
        };
        assert_eq!(retention(&[]), 604_800_000);
        assert_eq!(retention(&[("log.retention.hours", "2")]), 7_200_000);
        assert_eq!(retention(&[("log.retention.hours", "-1")]), -1);
        assert_eq!(retention(&[("log.retention.hours", "2"), ("log.retention.minutes", "1")]), 60_000);
        assert_eq!(retention(&[("log.retention.minutes", "1"), ("log.retention.ms", "7")]), 7);
        assert!(with(&[("log.retention.hours", "two")]).unwrap_err().to_string().contains("log.retention.hours"));
    }

    #[test]
    fn what_replicas_agree_on_goes_to_the_forming_controller() {
        let config = with(&[("min.insync.replicas", "1"), ("message.max.bytes", "5")]).unwrap();
        assert_eq!(config.first_cluster_configs, BTreeMap::from([("min.insync.replicas".into(), "1".into())]));
        assert!(with(&[]).unwrap().first_cluster_configs.is_empty());
    }

    #[test]
    fn the_table_shows_the_defaults_that_count() {
        for definition in crate::config::definitions::DEFINITIONS {
            if let Some(config) = topic_config_of_broker_config(definition.name) {
                assert_eq!(definition.default, config.default, "{}", definition.name);
            }
        }
    }

    #[test]
    fn no_settings_at_all_are_a_cluster_of_one() {
        let config = with(&[]).unwrap();
        assert!(config.is_single_node() && config.is_broker && config.is_controller);
    }

    #[test]
    fn a_listed_voter_binds_where_the_list_says() {
        let voters = ("controller.quorum.voters", "3@c:3,1@a:1,2@b:2");
        let config = with(&[voters, ("node.id", "2")]).unwrap();
        assert_eq!(config.peer_bind.to_string(), "b:2");
        assert_eq!(config.voters.iter().map(|v| v.node_id.0).collect::<Vec<_>>(), [1, 2, 3]);
        let config =
            with(&[voters, ("node.id", "2"), ("peer.listener", "0.0.0.0:2"), ("advertised.peer.listener", "b:2")])
                .unwrap();
        assert_eq!(config.peer_bind.to_string(), "0.0.0.0:2");
    }

    #[test]
    fn wrong_settings_are_one_clear_line() {
        for (pairs, part) in [
            (&[("controller.quorum.voters", "1@a:1,2@b:2")][..], "1, 3 or 5 voters"),
            (&[("controller.quorum.voters", "1@a:1,1@b:2,3@c:3")], "there twice"),
            (&[("controller.quorum.voters", "1@a")], "ID@HOST:PORT"),
            (&[("process.roles", "broker")], "where is its cluster"),
            (&[("process.roles", "zookeeper")], "`broker`, `controller`"),
            (&[("process.roles", "broker"), ("controller.quorum.voters", "1@a:1")], "has no `controller`"),
            (&[("node.id", "4"), ("controller.quorum.voters", "1@a:1")], "not listed"),
            (&[("log.dirs", "/a,/b")], "one directory"),
            (&[("num.partitions", "0")], "from 1 to 100000"),
            (&[("leader.imbalance.per.broker.percentage", "101")], "from 0 to 100"),
            (&[("leader.imbalance.check.interval.seconds", "0")], "from 1 to 86400"),
            (&[("min.insync.replicas", "many")], "not a 32-bit integer"),
            (&[("message.max.bytes", "104857601")], "must be between 0 and 104857600"),
            (&[("replica.fetch.response.max.bytes", "104857601")], "from 1024 to 104857600"),
            (&[("num.partitions", "many")], "whole number"),
            (&[("quorum.heartbeat.interval.ms", "130")], "time-outs must grow"),
            (&[("broker.session.timeout.ms", "200")], "three times"),
            (&[("peer.listener", "0.0.0.0:9192")], "advertised.peer.listener"),
            (&[("group.min.session.timeout.ms", "2000000")], "is above group.max.session.timeout.ms"),
        ] {
            let error = with(pairs).unwrap_err().to_string();
            assert!(error.contains(part), "{pairs:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
