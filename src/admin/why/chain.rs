//! The links of an answer: events in the order they happened, then what is the case now.

use super::{Reason, Scene, Why};
use crate::admin::events::{because, view, what};
use crate::admin::time::rfc3339;
use rookery_raft::ids::NodeId;
use rookery_raft::image::events::{Event, Happening};
use rookery_raft::record::{Cause, Finding};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of the suspicions before a fence, so many are told.
const SUSPICIONS_MAX: usize = 4;

/// Collects links.
#[derive(Default)]
pub(super) struct Chain {
    events: BTreeMap<u64, String>,
    times: BTreeMap<u64, String>,
    now: Vec<String>,
}

pub(super) type Found<'s> = (u64, &'s Arc<Event>);

impl Scene {
    /// The newest event for which `test` holds.
    pub(super) fn newest(&self, test: impl Fn(&Event) -> bool) -> Option<Found<'_>> {
        self.image.events.iter().rev().find(|(_, event)| test(event))
    }

    /// What put a fenced broker where it is: its fence, or its registration, which begins fenced.
    pub(super) fn fenced_by(&self, id: NodeId) -> Option<Found<'_>> {
        let current = self.image.cluster.broker(id)?.epoch();
        self.newest(|event| match &event.what {
            Happening::BrokerFenced { id: of, epoch } | Happening::BrokerRegistered { id: of, epoch, .. } => {
                (*of, *epoch) == (id, current)
            }
            _ => false,
        })
    }

    /// What the broker's disk was last seen to do, if that is bad. A new controller sees anew what is bad then.
    pub(super) fn bad_disk(&self, id: NodeId) -> Option<(Found<'_>, Finding)> {
        let disk = |event: &Event| match &event.what {
            Happening::Observed(seen) if seen.finding == Finding::ControllerActivated => Some(Finding::DiskInOrder),
            Happening::Observed(seen) if seen.broker == id => Some(seen.finding).filter(|finding| is_of_disk(*finding)),
            Happening::BrokerRegistered { id: of, .. } if *of == id => Some(Finding::DiskInOrder),
            _ => None,
        };
        let found = self.newest(|event| disk(event).is_some())?;
        let finding = disk(found.1).filter(|finding| *finding != Finding::DiskInOrder)?;
        Some((found, finding))
    }
}

fn is_of_disk(finding: Finding) -> bool {
    matches!(finding, Finding::DiskInOrder | Finding::DiskLow | Finding::DiskFull | Finding::DiskStalled)
}

/// An event in one clause, such as `broker 2 fenced 14:02:11 because its connection closed`.
pub(super) fn clause(event: &Event) -> String {
    let time = rfc3339(event.provenance.unix_ms);
    let clock = &time[11..19];
    match (&event.what, event.provenance.cause) {
        (Happening::BrokerFenced { id, .. }, cause) => format!("broker {id} fenced {clock} because {cause}"),
        (Happening::BrokerRegistered { id, .. }, _) => {
            format!("broker {id} registered {clock} and has not caught up yet")
        }
        (happening, Cause::Observed) => format!("{} {clock}", what(happening)),
        (happening, cause) => format!("{} {clock} because {cause}", what(happening)),
    }
}

impl Chain {
    /// An event, in its own words.
    pub(super) fn event(&mut self, (number, event): Found<'_>) {
        let why = because(event);
        let text = if why.is_empty() { what(&event.what) } else { format!("{}, because {why}", what(&event.what)) };
        self.event_as((number, event), text);
    }

    /// An event, in other words.
    pub(super) fn event_as(&mut self, (number, event): Found<'_>, text: String) {
        self.events.entry(number).or_insert(text);
        self.times.insert(number, rfc3339(event.provenance.unix_ms));
    }

    /// Something that is the case now.
    pub(super) fn now(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.now.contains(&text) {
            self.now.push(text);
        }
    }

    /// How a broker came to be fenced, with the suspicions that came before.
    pub(super) fn fence(&mut self, scene: &Scene, id: NodeId) {
        let Some(fence) = scene.fenced_by(id) else {
            self.now(format!("broker {id} is fenced; the event log no longer says since when"));
            return;
        };
        self.event(fence);
        let before = scene.image.events.range(..fence.0).rev().filter(|(_, e)| e.what.broker() == Some(id));
        let suspicions = before.take_while(|(_, e)| matches!(e.what, Happening::Observed(_)));
        suspicions.take(SUSPICIONS_MAX).for_each(|suspicion| self.event(suspicion));
    }

    /// What is not decided yet: gossip's opinion of a broker that still counts, and what keeps decisions from being made.
    pub(super) fn undecided(&mut self, scene: &Scene, brokers: impl IntoIterator<Item = NodeId>) {
        for id in brokers {
            if let Some(accused) = scene.accused(id) {
                self.now(accused);
            }
        }
        if let Some(why) = scene.undecidable() {
            self.now(why);
        }
    }

    pub(super) fn answer(self, scene: &Scene, subject: String, summary: String, last: Option<Found<'_>>) -> Why {
        let mut times = self.times;
        let events = self.events.into_iter().map(|(number, text)| Reason {
            time: times.remove(&number),
            event: Some(number),
            text,
        });
        let now = self.now.into_iter().map(|text| Reason { time: None, event: None, text });
        Why {
            subject,
            healthy: false,
            summary,
            because: events.chain(now).collect(),
            waiting_for: None,
            what_to_do: None,
            last_event: last.map(|(number, event)| view(number, event)),
            node_id: scene.node.0,
            applied_index: scene.image.offset.0,
        }
    }
}
