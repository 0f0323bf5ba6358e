//! Events in plain words.

use rookery_raft::ids::NodeId;
use rookery_raft::image::events::{
    Bounded, ConfigValue, DirectoryTransition, Event, Happening, PartitionChangeKind, PartitionTransition, TopicSize,
};
use rookery_raft::record::{Cause, ConfigResource, ConfigResourceType, DirectoryState, Finding};
use std::fmt::Write;

/// Of a long list, so many are said.
const SAID_MAX: usize = 4;

/// What happened.
pub fn what(happening: &Happening) -> String {
    match happening {
        Happening::ClusterFormed { cluster_id, voters } => {
            format!("cluster {cluster_id} formed by voters {}", set(&voters.listed))
        }
        Happening::BrokerRegistered { id, epoch, directories, .. } => {
            let mut text = format!("broker {id} registered (epoch {epoch}); it is fenced until it has caught up");
            for directory in &directories.listed {
                let _ = write!(text, "; {}", of_directory(directory));
            }
            text
        }
        Happening::BrokerFenced { id, epoch } => format!("broker {id} fenced (epoch {epoch})"),
        Happening::BrokerUnfenced { id, epoch } => format!("broker {id} unfenced (epoch {epoch}): it serves"),
        Happening::BrokerShuttingDown { id, epoch } => format!("broker {id} shuts down in order (epoch {epoch})"),
        Happening::BrokerUnregistered { id, epoch } => format!("broker {id} unregistered (epoch {epoch})"),
        Happening::DirectoriesChanged { id, directories, .. } => {
            format!("broker {id}: {}", list(directories, of_directory))
        }
        Happening::PartitionsChanged { change, partitions } => partitions_changed(*change, partitions),
        Happening::TopicsCreated(topics) => {
            let size = |topic: &TopicSize| format!("{} ({})", topic.topic, count(topic.partitions, "partition"));
            format!("created {}", list(topics, size))
        }
        Happening::PartitionsAdded(topics) => {
            let size = |topic: &TopicSize| format!("{} to {}", count(topic.partitions, "partition"), topic.topic);
            format!("added {}", list(topics, size))
        }
        Happening::TopicsDeleted(topics) => format!("deleted {}", list(topics, ToString::to_string)),
        Happening::ConfigsChanged(configs) => list(configs, |config| {
            let (before, after) = (value(&config.before), value(&config.after));
            format!("{} of {}: {before} → {after}", config.name, resource(&config.resource))
        }),
        Happening::FeatureChanged { name, level } => format!("feature {name} is at level {level}"),
        Happening::SecurityChanged { rules, quotas, credentials } => {
            let parts = [(rules, "access rule"), (quotas, "quota"), (credentials, "credential")];
            let said = parts.iter().filter(|(n, _)| **n > 0).map(|(n, what)| count(**n, what));
            format!("changed {}", said.collect::<Vec<_>>().join(", "))
        }
        Happening::Observed(seen) => {
            let times = if seen.count > 1 { format!(" ({} times)", seen.count) } else { String::new() };
            // A controller need not be a broker.
            let of_node = matches!(seen.finding, Finding::ControllerActivated | Finding::WatcherLagged);
            format!("{} {} {}{times}", if of_node { "node" } else { "broker" }, seen.broker, seen.finding)
        }
    }
}

/// Why it was decided; empty where nothing was.
pub fn because(event: &Event) -> String {
    let cause = event.provenance.cause;
    let about_partitions = matches!(event.what, Happening::PartitionsChanged { .. });
    // The words of a cause speak of the broker as "it"; where partitions changed, that would be the partition.
    let said = match cause {
        Cause::Observed => "",
        Cause::Convicted(conviction) if about_partitions => return format!("a broker was found dead: {conviction}"),
        Cause::SessionExpired if about_partitions => "a broker's session expired: no heartbeat came in time",
        Cause::Registration if about_partitions => "a broker registered anew",
        Cause::CaughtUp if about_partitions => "a broker came back",
        Cause::FenceRequested if about_partitions => "a broker asked to be fenced",
        Cause::ShutdownRequested | Cause::ShutdownCompleted if about_partitions => "a broker shuts down in order",
        Cause::UnregistrationRequested if about_partitions => "an operator unregistered a broker",
        cause => return cause.to_string(),
    };
    said.to_owned()
}

fn partitions_changed(change: PartitionChangeKind, partitions: &Bounded<PartitionTransition>) -> String {
    use PartitionChangeKind as Kind;
    let head = match change {
        Kind::UncleanLeader => "UNCLEAN leader election, committed records may be LOST: ",
        Kind::LeaderLost => "no leader any more: ",
        Kind::LeaderElected => "leader elected: ",
        Kind::LeaderRenewed => "the same leader in a new epoch: ",
        Kind::IsrShrunk => "ISR shrunk: ",
        Kind::IsrGrown => "ISR grown: ",
        Kind::LeaderRecovered => "recovered from an unclean election: ",
        Kind::EligibleChanged => "eligible replicas changed: ",
        Kind::AssignmentChanged => "replicas moved: ",
    };
    head.to_owned() + &list(partitions, |p| transition(change, p))
}

/// What changed of one partition.
pub fn transition(change: PartitionChangeKind, p: &PartitionTransition) -> String {
    use PartitionChangeKind as Kind;
    let name = format!("{}-{}", p.topic, p.partition);
    let leader = |id: NodeId| if id == NodeId::NONE { "none".to_owned() } else { id.to_string() };
    let isr = || format!("ISR {} → {}", set(&p.isr_before), set(&p.isr));
    match change {
        Kind::UncleanLeader | Kind::LeaderLost | Kind::LeaderElected => {
            let moved = format!("{name} {} → {}", leader(p.leader_before), leader(p.leader));
            let isr = if p.isr == p.isr_before { String::new() } else { format!(", {}", isr()) };
            format!("{moved} (epoch {}{isr})", p.leader_epoch)
        }
        Kind::LeaderRenewed => format!("{name} {} (epoch {})", leader(p.leader), p.leader_epoch),
        Kind::IsrShrunk | Kind::IsrGrown => format!("{name} {}", isr()),
        Kind::EligibleChanged => format!("{name} ELR {}", set(&p.elr)),
        Kind::LeaderRecovered | Kind::AssignmentChanged => name,
    }
}

/// Node ids, such as `{1, 2}`.
pub fn set(ids: &[NodeId]) -> String {
    format!("{{{}}}", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn count(n: u32, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn list<T>(bounded: &Bounded<T>, say: impl FnMut(&T) -> String) -> String {
    let mut text = bounded.listed.iter().take(SAID_MAX).map(say).collect::<Vec<_>>().join("; ");
    if bounded.total() > SAID_MAX {
        let _ = write!(text, "; and {} more", bounded.total() - SAID_MAX);
    }
    text
}

fn of_directory(directory: &DirectoryTransition) -> String {
    let id = directory.id;
    match (directory.before, directory.after) {
        (Some(_), None) => format!("directory {id} is gone: what was on it counts no more"),
        (None, Some(DirectoryState::Online)) => format!("directory {id} is new"),
        (_, Some(DirectoryState::Online)) => format!("directory {id} is online again"),
        (_, Some(DirectoryState::Offline)) => format!("directory {id} is offline"),
        (_, Some(DirectoryState::LogLost)) => format!("directory {id} LOST synced data"),
        (None, None) => format!("directory {id}"),
    }
}

pub(super) fn directory_state(state: DirectoryState) -> &'static str {
    match state {
        DirectoryState::Online => "online",
        DirectoryState::Offline => "offline",
        DirectoryState::LogLost => "log_lost",
    }
}

fn value(value: &ConfigValue) -> &str {
    match value {
        ConfigValue::Default => "(default)",
        ConfigValue::Set(text) => text,
        ConfigValue::Hidden => "(hidden)",
    }
}

pub(super) fn resource(resource: &ConfigResource) -> String {
    match (resource.kind, resource.name.as_str()) {
        (ConfigResourceType::Topic, name) => format!("topic {name}"),
        (ConfigResourceType::Broker, "") => "the cluster".to_owned(),
        (ConfigResourceType::Broker, name) => format!("broker {name}"),
        (ConfigResourceType::ClientMetrics, name) => format!("client metrics {name}"),
        (ConfigResourceType::Group, name) => format!("group {name}"),
    }
}
