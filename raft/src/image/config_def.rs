//! What config names mean: every topic config of Kafka 4.4 with type, default and valid range, and the broker configs
//! that may be changed while the cluster runs.
//!
//! The defaults are Kafka's, but for `min.insync.replicas`, which is 2 here (a broker that acknowledges with one copy
//! does not keep the promise). A value is validated before it enters the log, so readers parse without doubt.

use crate::record::{ConfigResource, ConfigResourceType};

/// `min.insync.replicas`.
pub const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
/// What [`MIN_INSYNC_REPLICAS`] is when nobody sets it.
pub(super) const MIN_INSYNC_REPLICAS_DEFAULT: usize = 2;
/// `unclean.leader.election.enable`.
pub const UNCLEAN_LEADER_ELECTION_ENABLE: &str = "unclean.leader.election.enable";

/// `log.cleanup.policy`.
const LOG_CLEANUP_POLICY: &str = "log.cleanup.policy";

/// The most that `max.message.bytes` may be: a larger batch would be taken and never replicated, since followers get it whole, in one
/// frame between brokers, and frames have a bound. It is also what `socket.request.max.bytes` lets a client send unless raised.
pub const MESSAGE_BYTES_MAX: i32 = 100 << 20;

/// Defaults of topic configs that every replica and the controller must see alike: who counts towards a commit, who may
/// lead, what may be dropped. They live in the metadata log, for a topic or for the whole cluster.
pub const CLUSTER_WIDE: &[&str] = &[MIN_INSYNC_REPLICAS, UNCLEAN_LEADER_ELECTION_ENABLE, LOG_CLEANUP_POLICY];

/// The type of a config's value, with its valid range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// A switch for what this build does not have: only `false` is valid.
    Disabled,
    /// A 32-bit integer, both bounds included.
    Int(i32, i32),
    /// A 64-bit integer, both bounds included.
    Long(i64, i64),
    /// A fraction, both bounds included.
    Double(f64, f64),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A comma-separated list out of these, without duplicates.
    ListOf(&'static [&'static str]),
    /// `*`, nothing, or `partition:broker,…` (replication throttles).
    ThrottledReplicas,
    /// Any text.
    Text,
}

/// One config.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfigDef {
    /// Kafka's name.
    pub name: &'static str,
    /// The broker config that is its cluster-wide default; empty if there is none.
    pub broker_name: &'static str,
    /// Its type and range.
    pub kind: ConfigType,
    /// What it is when nobody sets it.
    pub default: &'static str,
}

const LONG: i64 = i64::MAX;
const INT: i32 = i32::MAX;
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

const fn def(name: &'static str, broker_name: &'static str, kind: ConfigType, default: &'static str) -> ConfigDef {
    ConfigDef { name, broker_name, kind, default }
}

/// Every topic config, sorted by name.
#[rustfmt::skip]
pub const TOPIC_CONFIGS: &[ConfigDef] = &[
    def("cleanup.policy", LOG_CLEANUP_POLICY, ConfigType::ListOf(&["compact", "delete"]), "delete"),
    def("compression.gzip.level", "compression.gzip.level", ConfigType::Int(-1, 9), "-1"),
    def("compression.lz4.level", "compression.lz4.level", ConfigType::Int(1, 17), "9"),
    def("compression.type", "compression.type", ConfigType::OneOf(CODECS), "producer"),
    def("compression.zstd.level", "compression.zstd.level", ConfigType::Int(-131_072, 22), "3"),
    def("delete.retention.ms", "log.cleaner.delete.retention.ms", ConfigType::Long(0, LONG), "86400000"),
    def("file.delete.delay.ms", "log.segment.delete.delay.ms", ConfigType::Long(0, LONG), "60000"),
    def("flush.messages", "log.flush.interval.messages", ConfigType::Long(1, LONG), "9223372036854775807"),
    def("flush.ms", "log.flush.interval.ms", ConfigType::Long(0, LONG), "9223372036854775807"),
    def("follower.replication.throttled.replicas", "", ConfigType::ThrottledReplicas, ""),
    def("index.interval.bytes", "log.index.interval.bytes", ConfigType::Int(0, INT), "4096"),
    def("leader.replication.throttled.replicas", "", ConfigType::ThrottledReplicas, ""),
    def("local.retention.bytes", "log.local.retention.bytes", ConfigType::Long(-2, LONG), "-2"),
    def("local.retention.ms", "log.local.retention.ms", ConfigType::Long(-2, LONG), "-2"),
    def("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", ConfigType::Long(1, LONG), "9223372036854775807"),
    def("max.message.bytes", "message.max.bytes", ConfigType::Int(0, MESSAGE_BYTES_MAX), "1048588"),
    def("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", ConfigType::Long(0, LONG), "3600000"),
    def("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms", ConfigType::Long(0, LONG), "9223372036854775807"),
    def("message.timestamp.type", "log.message.timestamp.type", ConfigType::OneOf(&["CreateTime", "LogAppendTime"]), "CreateTime"),
    def("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", ConfigType::Double(0.0, 1.0), "0.5"),
    def("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", ConfigType::Long(0, LONG), "0"),
    def(MIN_INSYNC_REPLICAS, MIN_INSYNC_REPLICAS, ConfigType::Int(1, INT), "2"),
    def("preallocate", "log.preallocate", ConfigType::Boolean, "false"),
    def("remote.copy.lag.bytes", "", ConfigType::Long(-1, LONG), "0"),
    def("remote.copy.lag.ms", "", ConfigType::Long(-1, LONG), "0"),
    def("remote.log.copy.disable", "", ConfigType::Boolean, "false"),
    def("remote.log.delete.on.disable", "", ConfigType::Boolean, "false"),
    def("remote.storage.enable", "", ConfigType::Disabled, "false"),
    def("retention.bytes", "log.retention.bytes", ConfigType::Long(i64::MIN, LONG), "-1"),
    def("retention.ms", "log.retention.ms", ConfigType::Long(-1, LONG), "604800000"),
    def("segment.bytes", "log.segment.bytes", ConfigType::Int(1 << 20, INT), "1073741824"),
    def("segment.index.bytes", "log.index.size.max.bytes", ConfigType::Int(4, INT), "10485760"),
    def("segment.jitter.ms", "log.roll.jitter.ms", ConfigType::Long(0, LONG), "0"),
    def("segment.ms", "log.roll.ms", ConfigType::Long(1, LONG), "604800000"),
    def(UNCLEAN_LEADER_ELECTION_ENABLE, UNCLEAN_LEADER_ELECTION_ENABLE, ConfigType::Boolean, "false"),
];

/// Dynamic broker configs that are no default of a topic config, sorted by name.
const BROKER_CONFIGS: &[ConfigDef] = &[
    def("follower.replication.throttled.rate", "", ConfigType::Long(0, LONG), "9223372036854775807"),
    def("leader.replication.throttled.rate", "", ConfigType::Long(0, LONG), "9223372036854775807"),
    def("log.cleaner.threads", "", ConfigType::Int(0, INT), "1"),
    def("max.connection.creation.rate", "", ConfigType::Int(0, INT), "2147483647"),
    def("max.connections", "", ConfigType::Int(0, INT), "2147483647"),
    def("max.connections.per.ip", "", ConfigType::Int(0, INT), "2147483647"),
    def("num.io.threads", "", ConfigType::Int(1, INT), "8"),
    def("num.network.threads", "", ConfigType::Int(1, INT), "3"),
    def("num.recovery.threads.per.data.dir", "", ConfigType::Int(1, INT), "2"),
    def("num.replica.fetchers", "", ConfigType::Int(1, INT), "1"),
    def("producer.id.expiration.ms", "", ConfigType::Int(1, INT), "86400000"),
    def("replica.alter.log.dirs.io.max.bytes.per.second", "", ConfigType::Long(0, LONG), "9223372036854775807"),
];

/// Group configs (KIP-848, KIP-932), sorted by name.
const GROUP_CONFIGS: &[ConfigDef] = &[
    def("consumer.heartbeat.interval.ms", "", ConfigType::Int(1, INT), "5000"),
    def("consumer.session.timeout.ms", "", ConfigType::Int(1, INT), "45000"),
    def("share.auto.offset.reset", "", ConfigType::Text, "latest"),
    def("share.heartbeat.interval.ms", "", ConfigType::Int(1, INT), "5000"),
    def("share.isolation.level", "", ConfigType::OneOf(&["read_committed", "read_uncommitted"]), "read_uncommitted"),
    def("share.record.lock.duration.ms", "", ConfigType::Int(1000, 3_600_000), "30000"),
    def("share.session.timeout.ms", "", ConfigType::Int(1, INT), "45000"),
    def("streams.heartbeat.interval.ms", "", ConfigType::Int(1, INT), "5000"),
    def("streams.num.standby.replicas", "", ConfigType::Int(0, INT), "0"),
    def("streams.session.timeout.ms", "", ConfigType::Int(1, INT), "45000"),
];

const CLIENT_METRICS_CONFIGS: &[ConfigDef] = &[
    def("interval.ms", "", ConfigType::Int(100, 3_600_000), "300000"),
    def("match", "", ConfigType::Text, ""),
    def("metrics", "", ConfigType::Text, ""),
];

/// The definition of a topic config.
pub fn topic_config(name: &str) -> Option<&'static ConfigDef> {
    let at = TOPIC_CONFIGS.binary_search_by(|d| d.name.cmp(name)).ok()?;
    TOPIC_CONFIGS.get(at)
}

/// The definition of a config of that kind of resource.
pub fn definition(kind: ConfigResourceType, name: &str) -> Option<&'static ConfigDef> {
    let find = |table: &'static [ConfigDef]| table.iter().find(|d| d.name == name);
    match kind {
        ConfigResourceType::Topic => topic_config(name),
        ConfigResourceType::Broker => TOPIC_CONFIGS
            .iter()
            .find(|d| !d.broker_name.is_empty() && d.broker_name == name)
            .or_else(|| find(BROKER_CONFIGS)),
        ConfigResourceType::Group => find(GROUP_CONFIGS),
        ConfigResourceType::ClientMetrics => find(CLIENT_METRICS_CONFIGS),
    }
}

/// The topic config that a cluster-wide broker config is the default of.
pub fn topic_config_of_broker_config(broker_name: &str) -> Option<&'static ConfigDef> {
    TOPIC_CONFIGS.iter().find(|d| !d.broker_name.is_empty() && d.broker_name == broker_name)
}

/// Whether a broker config is one of [`CLUSTER_WIDE`].
pub fn is_cluster_wide(broker_name: &str) -> bool {
    CLUSTER_WIDE.contains(&broker_name)
}

/// Checks one value; the error is a sentence for the client.
pub fn validate(resource: &ConfigResource, name: &str, value: &str) -> Result<(), String> {
    let Some(def) = definition(resource.kind, name) else {
        return Err(format!("Unknown {} config name: {name}", kind_name(resource.kind)));
    };
    if resource.kind == ConfigResourceType::Broker && !resource.name.is_empty() && is_cluster_wide(name) {
        return Err(format!("{name} can be set for a topic or for the whole cluster, not for one broker"));
    }
    def.kind.check(value).map_err(|why| format!("Invalid value {value} for configuration {name}: {why}"))
}

fn kind_name(kind: ConfigResourceType) -> &'static str {
    match kind {
        ConfigResourceType::Topic => "topic",
        ConfigResourceType::Broker => "broker",
        ConfigResourceType::Group => "group",
        ConfigResourceType::ClientMetrics => "client metrics",
    }
}

impl ConfigType {
    /// Whether a value is of this type and in range.
    pub fn check(self, value: &str) -> Result<(), String> {
        let trimmed = value.trim();
        let in_range = |ok: bool, why: &dyn Fn() -> String| if ok { Ok(()) } else { Err(why()) };
        match self {
            Self::Boolean => in_range(matches!(trimmed, "true" | "false"), &|| "expected true or false".into()),
            Self::Disabled => in_range(trimmed == "false", &|| "this is not supported by the cluster".into()),
            Self::Int(min, max) => {
                let number: i32 = trimmed.parse().map_err(|_| "not a 32-bit integer".to_owned())?;
                in_range((min..=max).contains(&number), &|| format!("must be between {min} and {max}"))
            }
            Self::Long(min, max) => {
                let number: i64 = trimmed.parse().map_err(|_| "not a 64-bit integer".to_owned())?;
                in_range((min..=max).contains(&number), &|| format!("must be between {min} and {max}"))
            }
            Self::Double(min, max) => {
                let number: f64 = trimmed.parse().map_err(|_| "not a number".to_owned())?;
                in_range((min..=max).contains(&number), &|| format!("must be between {min} and {max}"))
            }
            Self::OneOf(valid) => in_range(valid.contains(&value), &|| format!("must be one of {}", valid.join(", "))),
            Self::ListOf(valid) => {
                let items: Vec<&str> = value.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
                let known =
                    items.iter().enumerate().all(|(i, item)| valid.contains(item) && !items[..i].contains(item));
                in_range(known, &|| format!("must be a list of distinct values out of {}", valid.join(", ")))
            }
            Self::ThrottledReplicas => in_range(is_throttle_list(trimmed), &|| {
                "must be the literal '*' or a list of replicas: [partitionId]:[brokerId],...".into()
            }),
            Self::Text => Ok(()),
        }
    }

    /// Whether the value is a list, so that it can be appended to and subtracted from.
    pub fn is_list(self) -> bool {
        matches!(self, Self::ListOf(_) | Self::ThrottledReplicas)
    }
}

fn is_throttle_list(value: &str) -> bool {
    let pair = |item: &str| {
        item.split_once(':').is_some_and(|(partition, broker)| {
            partition.trim().parse::<i32>().is_ok() && broker.trim().parse::<i32>().is_ok()
        })
    };
    value.is_empty() || value == "*" || value.split(',').all(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_valid() {
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|d| d.name));
        for def in TOPIC_CONFIGS.iter().chain(BROKER_CONFIGS).chain(GROUP_CONFIGS).chain(CLIENT_METRICS_CONFIGS) {
            assert_eq!(def.kind.check(def.default), Ok(()), "{}", def.name);
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let topic = ConfigResource::topic("t");
        for (name, bad) in [
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("segment.bytes", "14"),
            ("cleanup.policy", "compact,shred"),
            ("compression.type", "brotli"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("leader.replication.throttled.replicas", "1-2"),
            ("remote.storage.enable", "true"),
            ("max.message.bytes", "104857601"),
            ("no.such.config", "1"),
        ] {
            assert!(validate(&topic, name, bad).is_err(), "{name}={bad}");
        }
        for (name, good) in [
            ("cleanup.policy", "compact, delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-5"),
            ("max.message.bytes", "104857600"),
        ] {
            assert_eq!(validate(&topic, name, good), Ok(()), "{name}={good}");
        }
        assert!(validate(&ConfigResource::broker(crate::ids::NodeId(1)), MIN_INSYNC_REPLICAS, "1").is_err());
        assert_eq!(validate(&ConfigResource::cluster(), MIN_INSYNC_REPLICAS, "1"), Ok(()));
        for brokers in [ConfigResource::broker(crate::ids::NodeId(1)), ConfigResource::cluster()] {
            assert!(validate(&brokers, "message.max.bytes", "104857601").is_err(), "{brokers:?}");
        }
    }
}
