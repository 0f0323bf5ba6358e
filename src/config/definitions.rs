//! Every setting of a node by its name. `rookery server --help-settings` prints this table.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Kafka's name where the setting is Kafka's.
    pub name: &'static str,
    /// As text; empty is "not set".
    pub default: &'static str,
    /// In a sentence, with the unit.
    pub doc: &'static str,
}

const fn setting(name: &'static str, default: &'static str, doc: &'static str) -> Definition {
    Definition { name, default, doc }
}

/// The table.
pub const DEFINITIONS: &[Definition] = &[
    // Who and where
    setting("node.id", "1", "this node's number, different for every node of a cluster"),
    setting("process.roles", "broker,controller", "what this node is: `broker`, `controller`, or both"),
    setting("log.dirs", "rookery-data", "the data directory (one); made if it does not exist"),
    setting(
        "listeners",
        "PLAINTEXT://127.0.0.1:9092",
        "where Kafka clients connect: NAME://HOST:PORT, comma-separated",
    ),
    setting(
        "advertised.listeners",
        "",
        "what clients are told to connect to, by listener name; by default `listeners`",
    ),
    setting("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT", "security protocol of each listener name"),
    setting(
        "peer.listener",
        "127.0.0.1:9192",
        "HOST:PORT where other nodes connect (TCP), and where gossip listens (UDP)",
    ),
    setting("advertised.peer.listener", "", "what other nodes are told to connect to; by default `peer.listener`"),
    setting("http.listener", "127.0.0.1:8090", "HOST:PORT of the HTTP admin API; empty switches it off"),
    setting(
        "controller.quorum.voters",
        "",
        "ID@HOST:PORT of every initial voter (peer addresses); empty: this node alone",
    ),
    setting("broker.rack", "", "rack or zone of this broker, for replica placement"),
    // Topics
    setting("num.partitions", "1", "partitions of a topic created without a count"),
    setting(
        "default.replication.factor",
        "3",
        "replicas of a topic created without a count; a cluster with fewer voters uses their number",
    ),
    setting(
        "min.insync.replicas",
        "2",
        "replicas that must have fsynced a record before acks=all is acknowledged, at most the topic's replicas; \
         taken from the node that forms the cluster, afterwards a config of the cluster",
    ),
    setting("auto.create.topics.enable", "true", "create a topic when a client asks for one that does not exist"),
    setting(
        "unclean.leader.election.enable",
        "false",
        "elect a leader that may have lost acknowledged records when no other is left; \
         taken from the node that forms the cluster, afterwards a config of the cluster",
    ),
    setting(
        "auto.leader.rebalance.enable",
        "true",
        "move leadership back to the first replica of a partition once it is in sync; the active controller's setting counts",
    ),
    setting(
        "leader.imbalance.check.interval.seconds",
        "5",
        "how often, in seconds; each time at most 100 leaderships move",
    ),
    setting(
        "leader.imbalance.per.broker.percentage",
        "0",
        "only to a broker that lacks more than this percentage of the leaderships meant for it",
    ),
    setting("message.max.bytes", "1048588", "largest record batch that is accepted, in bytes; at most 104857600"),
    setting("log.retention.ms", "604800000", "how long records are kept, in milliseconds; -1 for ever"),
    setting("log.retention.minutes", "", "the same in minutes, unless log.retention.ms is set"),
    setting("log.retention.hours", "", "the same in hours, unless log.retention.minutes or log.retention.ms is set"),
    setting("log.retention.bytes", "-1", "how many bytes of a partition are kept; -1 without bound"),
    setting("log.retention.check.interval.ms", "30000", "how often retention looks, in milliseconds"),
    setting("log.message.timestamp.type", "CreateTime", "`CreateTime` or `LogAppendTime`"),
    setting(
        "log.message.timestamp.before.max.ms",
        "9223372036854775807",
        "how far a record's time may lie before the broker's, in milliseconds",
    ),
    setting(
        "log.message.timestamp.after.max.ms",
        "3600000",
        "how far a record's time may lie after the broker's, in milliseconds",
    ),
    // Groups
    setting("offsets.topic.num.partitions", "50", "partitions of __consumer_offsets; fixed once it exists"),
    setting(
        "offsets.topic.replication.factor",
        "3",
        "replicas of __consumer_offsets; the node waits for enough brokers",
    ),
    setting("offsets.retention.minutes", "10080", "how long offsets of an empty group are kept, in minutes"),
    setting("offset.metadata.max.bytes", "4096", "largest metadata string of a committed offset, in bytes"),
    setting("group.initial.rebalance.delay.ms", "3000", "how long a new group waits for more members, in milliseconds"),
    setting("group.min.session.timeout.ms", "6000", "shortest session time-out a member may ask for, in milliseconds"),
    setting(
        "group.max.session.timeout.ms",
        "1800000",
        "longest session time-out a member may ask for, in milliseconds",
    ),
    setting("group.max.size", "2147483647", "members a group may have"),
    // Replication and failure
    setting(
        "broker.heartbeat.interval.ms",
        "100",
        "how often a broker tells the controller that it lives, in milliseconds",
    ),
    setting(
        "broker.session.timeout.ms",
        "3000",
        "after how long without heartbeat a broker is fenced, in milliseconds",
    ),
    setting("replica.lag.time.max.ms", "10000", "how long a replica may lag before it leaves the ISR, in milliseconds"),
    setting("replica.fetch.max.bytes", "1048576", "bytes of one partition in one replication fetch"),
    setting("replica.fetch.response.max.bytes", "10485760", "bytes of one replication fetch; at most 104857600"),
    setting("replica.fetch.wait.max.ms", "500", "how long a replication fetch waits for news, in milliseconds"),
    setting(
        "controlled.shutdown.timeout.ms",
        "10000",
        "how long a clean shutdown waits for leadership to move, in milliseconds",
    ),
    setting("quorum.heartbeat.interval.ms", "40", "heartbeat of the metadata quorum's leader, in milliseconds"),
    setting(
        "quorum.election.timeout.min.ms",
        "250",
        "shortest election time-out of the metadata quorum, and within what time voters answer, in milliseconds",
    ),
    setting(
        "quorum.election.timeout.max.ms",
        "350",
        "longest election time-out of the metadata quorum, and its leader's lease, in milliseconds",
    ),
    setting("gossip.enable", "true", "detect failures by gossip; without it detection waits for heartbeats"),
    setting("gossip.profile", "lan", "`lan` (probe 200 ms, suspect 300 ms) or `fast` (100, 200)"),
    // Clients
    setting("max.connections", "10000", "client connections of this node"),
    setting("socket.request.max.bytes", "104857600", "largest request, in bytes"),
    setting(
        "queued.max.request.bytes",
        "268435456",
        "bytes of requests being read or worked on in this node, half of them for requests of up to 1 MiB and half for larger ones; \
         beyond it sockets are not read",
    ),
    setting(
        "queued.max.response.bytes",
        "268435456",
        "bytes of records that answers to consumers hold until they have been read; beyond it fetches wait",
    ),
    setting(
        "connections.max.idle.ms",
        "600000",
        "after how long without a request a client connection is closed, in milliseconds",
    ),
    setting("fetch.max.bytes", "57671680", "bytes of one fetch response, whatever the client asks for"),
    setting("max.incremental.fetch.session.cache.slots", "1000", "incremental fetch sessions of consumers (KIP-227)"),
    setting(
        "producer.id.expiration.ms",
        "86400000",
        "after how long without a record a producer id is forgotten, in milliseconds",
    ),
    // The log
    setting("log.cache.bytes", "67108864", "recent batches kept in memory for readers at the tail, in bytes"),
    setting(
        "log.dirs.free.bytes.soft",
        "1073741824",
        "free bytes on the data directory's disk (at most a quarter of it) below which records of clients are refused, \
         and leadership moves away; 0 never",
    ),
    setting(
        "log.dirs.free.bytes.hard",
        "536870912",
        "free bytes (at most an eighth of the disk) that are kept for metadata, committed offsets and deletions: below, \
         clients' partitions are not copied here either; 0 none",
    ),
    setting(
        "log.dirs.reserve.bytes",
        "335544320",
        "bytes (at most an eighth of the disk) of a file that is deleted when the disk is full to its end, so that what is on \
         it can be opened and deleted; 0 none",
    ),
    setting(
        "log.scrub.interval.ms",
        "604800000",
        "after how long all stored records are read again to find damage, in milliseconds; 0 only when asked for",
    ),
    setting(
        "log.scrub.io.max.bytes.per.second",
        "8388608",
        "bytes that are read per second to find damage; 0 as fast as the disk",
    ),
    // Logs of the process
    setting("log.format", "text", "the process's own log: `text` for people, `json` for machines"),
    setting("log.level", "info,openraft=error", "tracing filter, such as `info` or `rookery::replica=debug,info`"),
];

/// The definition of a name.
pub fn find(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|d| d.name == name)
}

/// The known name that is nearest to a wrong one, if one is near enough to be meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    let (distance, found) = DEFINITIONS.iter().map(|d| (edit_distance(name, d.name), d.name)).min()?;
    (distance <= 2 + name.len() / 5).then_some(found)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = DEFINITIONS.iter().map(|d| d.name).collect();
        assert_eq!(names.len(), DEFINITIONS.len());
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        assert_eq!(nearest("node-id"), Some("node.id"));
        assert_eq!(nearest("min.insync.replica"), Some("min.insync.replicas"));
        assert_eq!(nearest("zookeeper.connect"), None);
    }
}
