//! What `GET /admin/v1/events` answers: the event log of the cluster. Field names are part of the API.
//!
//! The log is part of the metadata: every node answers the same once it has applied the same. Events are numbered without gaps; a page
//! ends with the number to go on from.

mod words;

pub use words::{because, set, transition, what};

use super::Problem;
use super::time::rfc3339;
use axum::http::StatusCode;
use rookery_raft::ids::NodeId;
use rookery_raft::image::EventsImage;
use rookery_raft::image::events::{ConfigValue, DirectoryTransition, Event, Happening, kinds};
use serde::{Deserialize, Serialize};

/// Which events are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Those with higher numbers, the oldest of them first come. Without it and without `before`: the newest.
    pub after: Option<u64>,
    /// Those with lower numbers, the newest of them.
    pub before: Option<u64>,
    /// At most so many, [`EventQuery::LIMIT`] if nothing is said.
    pub limit: Option<usize>,
    /// Only what is about that broker, or led to or from it.
    pub broker: Option<i32>,
    /// Only what is about that topic, as far as an event lists its topics.
    pub topic: Option<String>,
    /// Only these kinds, comma-separated.
    pub kind: Option<String>,
}

impl EventQuery {
    /// A page if no size is asked for.
    pub const LIMIT: usize = 100;
    /// The largest page.
    pub const LIMIT_MAX: usize = 1000;

    fn check(&self) -> Result<(), Problem> {
        let bad = |detail: String| Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        if self.after.is_some() && self.before.is_some() {
            return bad("after and before exclude each other".to_owned());
        }
        let known = |kind: &&str| kinds().any(|known| known == *kind);
        if let Some(unknown) = self.kinds().find(|kind| !known(kind)) {
            let all = kinds().collect::<Vec<_>>().join(", ");
            return bad(format!("there is no kind of event `{unknown}`; there are {all}"));
        }
        Ok(())
    }

    fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kind.iter().flat_map(|kinds| kinds.split(',')).map(str::trim)
    }

    fn matches(&self, event: &Event) -> bool {
        let what = &event.what;
        self.broker.is_none_or(|id| concerns_broker(what, NodeId(id)))
            && self.topic.as_deref().is_none_or(|topic| what.concerns_topic(topic))
            && (self.kind.is_none() || self.kinds().any(|kind| kind == what.kind()))
    }
}

/// One page of the log, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EventPage {
    /// The events.
    pub events: Vec<EventView>,
    /// `after=` of the next page: everything up to here has been looked at.
    pub next: u64,
    /// The oldest number that is still kept; absent while there are no events.
    pub oldest: Option<u64>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventView {
    /// Counts events.
    pub number: u64,
    /// The entry of the metadata log.
    pub offset: i64,
    /// By the wall clock of the controller that decided it.
    pub time: String,
    /// Which node that was.
    pub controller: i32,
    /// Raft's term.
    pub term: u64,
    /// For filters.
    pub kind: &'static str,
    /// What happened, in words.
    pub what: String,
    /// Why, in words.
    pub because: String,
    /// The broker it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<BrokerPart>,
    /// The partitions it is about, the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionPart>,
    /// The topics it is about, the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// The configs it is about, the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<ConfigPart>,
    /// The data directories it is about, the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<DirectoryPart>,
    /// How many more there were than are listed.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(more: &u32) -> bool {
    *more == 0
}

/// A broker in an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BrokerPart {
    /// Its node.
    pub id: i32,
    /// Its epoch, if the event is about one life of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Which start of its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
}

/// A partition in an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartitionPart {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Its leader before, if it had one.
    pub leader_before: Option<i32>,
    /// Its leader after, if it has one.
    pub leader: Option<i32>,
    /// The leader epoch after.
    pub leader_epoch: i32,
    /// The ISR before.
    pub isr_before: Vec<i32>,
    /// The ISR after.
    pub isr: Vec<i32>,
    /// Who is eligible outside the ISR, after.
    pub elr: Vec<i32>,
}

/// A config in an event. A value that is not told is `(hidden)`; absent means the default.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigPart {
    /// `topic NAME`, `broker ID`, `cluster`, …
    pub of: String,
    /// Kafka's name.
    pub name: String,
    /// The value before.
    pub before: Option<String>,
    /// The value after.
    pub after: Option<String>,
}

/// A data directory in an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DirectoryPart {
    /// Its id.
    pub id: String,
    /// `online`, `offline`, `log_lost`; absent: the broker did not have it.
    pub before: Option<&'static str>,
    /// The same after; absent: it is gone.
    pub after: Option<&'static str>,
}

/// A page of the log.
pub fn page(log: &EventsImage, query: &EventQuery) -> Result<EventPage, Problem> {
    query.check()?;
    let limit = query.limit.unwrap_or(EventQuery::LIMIT).clamp(1, EventQuery::LIMIT_MAX);
    let matching = |(_, event): &(u64, &std::sync::Arc<Event>)| query.matches(event);
    let shown = |(number, event): (u64, &std::sync::Arc<Event>)| view(number, event);
    let end = log.next_number().saturating_sub(1);
    let mut next = end;
    let events: Vec<EventView> = if let Some(after) = query.after {
        let found: Vec<EventView> =
            log.range(after.saturating_add(1)..).filter(matching).take(limit).map(shown).collect();
        if found.len() == limit {
            next = found.last().map_or(end, |event| event.number);
        }
        next = next.max(after.min(end));
        found
    } else {
        let mut found: Vec<EventView> =
            log.range(..query.before.unwrap_or(u64::MAX)).rev().filter(matching).take(limit).map(shown).collect();
        found.reverse();
        found
    };
    Ok(EventPage { events, next, oldest: log.iter().next().map(|(number, _)| number) })
}

/// An event for people and programs.
pub fn view(number: u64, event: &Event) -> EventView {
    let Event { offset, provenance, what: happening } = event;
    let mut view = EventView {
        number,
        offset: offset.0,
        time: rfc3339(provenance.unix_ms),
        controller: provenance.controller.0,
        term: provenance.term,
        kind: happening.kind(),
        what: what(happening),
        because: because(event),
        broker: None,
        partitions: Vec::new(),
        topics: Vec::new(),
        configs: Vec::new(),
        directories: Vec::new(),
        more: 0,
    };
    view.take_parts(happening);
    view
}

impl EventView {
    fn take_parts(&mut self, happening: &Happening) {
        let broker = |id: &NodeId, epoch: i64| {
            Some(BrokerPart { id: id.0, epoch: (epoch >= 0).then_some(epoch), incarnation: None })
        };
        match happening {
            Happening::BrokerRegistered { id, epoch, incarnation, directories } => {
                self.broker =
                    broker(id, epoch.0).map(|part| BrokerPart { incarnation: Some(incarnation.to_string()), ..part });
                self.directories = directories.listed.iter().map(directory).collect();
                self.more = directories.more;
            }
            Happening::BrokerFenced { id, epoch }
            | Happening::BrokerUnfenced { id, epoch }
            | Happening::BrokerShuttingDown { id, epoch }
            | Happening::BrokerUnregistered { id, epoch } => self.broker = broker(id, epoch.0),
            Happening::DirectoriesChanged { id, epoch, directories } => {
                self.broker = broker(id, epoch.0);
                self.directories = directories.listed.iter().map(directory).collect();
                self.more = directories.more;
            }
            Happening::Observed(seen) => self.broker = broker(&seen.broker, seen.epoch.0),
            Happening::PartitionsChanged { partitions, .. } => {
                let numbers = |ids: &[NodeId]| ids.iter().map(|id| id.0).collect();
                let leader = |id: NodeId| (id != NodeId::NONE).then_some(id.0);
                let part = |p: &rookery_raft::image::events::PartitionTransition| PartitionPart {
                    topic: p.topic.to_string(),
                    partition: p.partition,
                    leader_before: leader(p.leader_before),
                    leader: leader(p.leader),
                    leader_epoch: p.leader_epoch.0,
                    isr_before: numbers(&p.isr_before),
                    isr: numbers(&p.isr),
                    elr: numbers(&p.elr),
                };
                self.partitions = partitions.listed.iter().map(part).collect();
                self.more = partitions.more;
            }
            Happening::TopicsCreated(topics) | Happening::PartitionsAdded(topics) => {
                self.topics = topics.listed.iter().map(|topic| topic.topic.to_string()).collect();
                self.more = topics.more;
            }
            Happening::TopicsDeleted(topics) => {
                self.topics = topics.listed.iter().map(ToString::to_string).collect();
                self.more = topics.more;
            }
            Happening::ConfigsChanged(configs) => {
                let part = |c: &rookery_raft::image::events::ConfigTransition| ConfigPart {
                    of: words::resource(&c.resource),
                    name: c.name.clone(),
                    before: value(&c.before),
                    after: value(&c.after),
                };
                self.configs = configs.listed.iter().map(part).collect();
                self.more = configs.more;
            }
            Happening::ClusterFormed { .. } | Happening::FeatureChanged { .. } | Happening::SecurityChanged { .. } => {}
        }
    }
}

fn value(value: &ConfigValue) -> Option<String> {
    match value {
        ConfigValue::Default => None,
        ConfigValue::Set(text) => Some(text.clone()),
        ConfigValue::Hidden => Some("(hidden)".to_owned()),
    }
}

fn directory(directory: &DirectoryTransition) -> DirectoryPart {
    let state = |state: Option<_>| state.map(words::directory_state);
    DirectoryPart { id: directory.id.to_string(), before: state(directory.before), after: state(directory.after) }
}

/// Whether an event is about a broker, or moved leadership or ISR places from or to it.
pub fn concerns_broker(what: &Happening, id: NodeId) -> bool {
    let moved = |p: &rookery_raft::image::events::PartitionTransition| {
        (p.leader_before == id) != (p.leader == id) || p.isr_before.contains(&id) != p.isr.contains(&id)
    };
    match what {
        Happening::PartitionsChanged { partitions, .. } => partitions.listed.iter().any(moved),
        _ => what.broker() == Some(id),
    }
}

#[cfg(test)]
mod tests;
