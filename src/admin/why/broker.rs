//! Why a broker does not serve, and what hangs on it.

use super::chain::{Chain, Found, clause};
use super::{Scene, Why};
use crate::admin::Problem;
use crate::admin::events::{because, concerns_broker, what};
use crate::admin::time::rfc3339;
use rookery_raft::ids::NodeId;
use rookery_raft::image::BrokerRegistration;
use rookery_raft::image::events::{Event, Happening};
use rookery_raft::record::{DirectoryState, PartitionRegistration};

/// What hangs on one broker.
#[derive(Default)]
struct Share {
    replicas: usize,
    leads: usize,
    /// Partitions without leader that wait for it.
    waiting: usize,
    out_of_sync: usize,
}

/// Why a broker is as it is.
pub fn broker(scene: &Scene, id: NodeId) -> Result<Why, Problem> {
    let Some(broker) = scene.image.cluster.broker(id) else { return Err(unknown(scene, id)) };
    let mut chain = Chain::default();
    let share = share(scene, id);
    let troubles = troubles(scene, broker, &mut chain);
    let last = scene.newest(|event| is_about(event, id));
    if !troubles.is_empty() {
        chain.undecided(scene, [id]);
    }
    let hangs =
        [(share.waiting, "without leader until it is back"), (share.out_of_sync, "have no in-sync replica on it")];
    for (count, how) in hangs.into_iter().filter(|(count, _)| *count > 0) {
        chain.now(format!("of its {} partitions {count} {how}", share.replicas));
    }
    let place = broker.record.peer_address.clone();
    let healthy = troubles.is_empty();
    let summary = if healthy {
        let Share { leads, replicas, out_of_sync, .. } = share;
        let catching_up =
            if out_of_sync > 0 { format!(", {out_of_sync} of them still catch up") } else { String::new() };
        format!("broker {id} serves: it leads {leads} of its {replicas} partitions{catching_up}")
    } else {
        troubles.join("; ")
    };
    let (waiting_for, what_to_do) = match () {
        () if healthy => (None, None),
        () if broker.fenced && !has_just_registered(scene, id) => (
            Some(format!("broker {id} to register again, or to send heartbeats")),
            Some(format!("start broker {id}, or see why {place} cannot be reached from the controller")),
        ),
        () if broker.fenced => (Some(format!("broker {id} to apply the metadata log up to its registration")), None),
        () if broker.shutting_down => (Some("its leaderships to move".to_owned()), None),
        () if scene.accused(id).is_some() => (Some("the active controller to verify it".to_owned()), None),
        () => (None, Some(format!("look at the disk and at the log of broker {id}"))),
    };
    let answer = chain.answer(scene, format!("broker {id}"), summary, last);
    Ok(Why { healthy, waiting_for, what_to_do, ..answer })
}

fn unknown(scene: &Scene, id: NodeId) -> Problem {
    let gone = |event: &Event| matches!(event.what, Happening::BrokerUnregistered { id: of, .. } if of == id);
    let was = scene.newest(gone).map(|(_, event)| {
        let time = rfc3339(event.provenance.unix_ms);
        format!(": {time} {}, because {}", what(&event.what), because(event))
    });
    Problem::not_found(format!("broker {id} is not registered{}", was.unwrap_or_default()))
}

fn is_about(event: &Event, id: NodeId) -> bool {
    !matches!(event.what, Happening::PartitionsChanged { .. }) && concerns_broker(&event.what, id)
}

fn has_just_registered(scene: &Scene, id: NodeId) -> bool {
    let by: Option<Found<'_>> = scene.fenced_by(id);
    by.is_some_and(|(_, event)| matches!(event.what, Happening::BrokerRegistered { .. }))
}

/// Everything that is wrong with a broker, each in a clause; the chain gets how it came to that.
pub(super) fn troubles(scene: &Scene, broker: &BrokerRegistration, chain: &mut Chain) -> Vec<String> {
    let id = broker.id();
    let mut troubles = Vec::new();
    if broker.fenced {
        chain.fence(scene, id);
        let by = scene.fenced_by(id).map(|(_, event)| clause(event));
        troubles.push(by.unwrap_or_else(|| format!("broker {id} is fenced")));
        return troubles;
    }
    if broker.shutting_down {
        let begun = |event: &Event| matches!(event.what, Happening::BrokerShuttingDown { id: of, epoch } if (of, epoch) == (id, broker.epoch()));
        if let Some(found) = scene.newest(begun) {
            chain.event(found);
        }
        troubles.push(format!("broker {id} is shutting down"));
    }
    if let Some(accused) = scene.accused(id) {
        troubles.push(format!("{accused}; it is not fenced"));
    }
    for directory in broker.record.directories.iter().filter(|d| d.state != DirectoryState::Online) {
        let said = |event: &Event| match &event.what {
            Happening::BrokerRegistered { id: of, directories, .. }
            | Happening::DirectoriesChanged { id: of, directories, .. } => {
                *of == id && directories.listed.iter().any(|d| d.id == directory.id)
            }
            _ => false,
        };
        if let Some(found) = scene.newest(said) {
            chain.event(found);
        }
        troubles.push(match directory.state {
            DirectoryState::Offline => format!("data directory {} of broker {id} is offline", directory.id),
            _ => format!("data directory {} of broker {id} lost synced data", directory.id),
        });
    }
    if let Some((found, finding)) = scene.bad_disk(id) {
        chain.event(found);
        troubles.push(format!("broker {id} {finding}"));
    }
    troubles
}

fn share(scene: &Scene, id: NodeId) -> Share {
    let mut share = Share::default();
    for (_, partition) in scene.image.topics.partitions() {
        let p: &PartitionRegistration = partition;
        if !p.replicas.contains(&id) {
            continue;
        }
        share.replicas += 1;
        share.leads += usize::from(p.leader == id);
        share.waiting += usize::from(!p.has_leader() && (p.isr.contains(&id) || p.elr.contains(&id)));
        share.out_of_sync += usize::from(!p.isr.contains(&id));
    }
    share
}
