//! Raw clients that know nothing: one per address, all at once. [`first_ack`] makes a new connection each time, with 200 ms for
//! each attempt, until one of them acknowledges; [`Writers`] keep theirs and go on, to see who acknowledges when.

use crate::cluster::address;
use crate::history::{Clock, Time, Value};
use crate::lab::Stop;
use crate::wire::{Answer, Wire};
use anyhow::{Result, bail};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const ATTEMPT: Duration = Duration::from_millis(200);
/// After a quick refusal.
const PAUSE: Duration = Duration::from_millis(5);
/// A writer waits for one answer: a leader that hands over answers or is gone before.
const WRITE_MAX: Duration = Duration::from_secs(2);
/// Between two of a writer: it is to see when, not how much.
const BETWEEN: Duration = Duration::from_millis(2);

/// When a record was first acknowledged; nothing if none was in time. `values` gives each attempt a value of its own.
pub fn first_ack(nodes: &[i32], topic: &str, p: i32, values: Value, patience: Duration) -> Option<Time> {
    let end = Instant::now() + patience;
    let (first, values) = (Arc::new(AtomicU64::new(Time::MAX)), Arc::new(AtomicI64::new(values)));
    let threads: Vec<_> = nodes
        .iter()
        .map(|id| {
            let (id, topic, first, values) = (*id, topic.to_owned(), Arc::clone(&first), Arc::clone(&values));
            std::thread::spawn(move || {
                while first.load(Ordering::Relaxed) == Time::MAX && Instant::now() < end {
                    let deadline = Instant::now() + ATTEMPT;
                    let value = values.fetch_add(1, Ordering::Relaxed);
                    let tried =
                        Wire::open(address(id), deadline).and_then(|mut w| w.produce(&topic, p, value, deadline));
                    if let Ok(Answer::Written(_)) = tried {
                        first.fetch_min(Clock::now(), Ordering::Relaxed);
                    } else {
                        std::thread::sleep(PAUSE);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        // A panic in there would show as no acknowledgement.
        let _ = thread.join();
    }
    Some(first.load(Ordering::Relaxed)).filter(|t| *t != Time::MAX)
}

/// Acknowledgements: when, by which node.
type Acks = Arc<Mutex<Vec<(Time, i32)>>>;

/// Write one record after the other to a partition, each at its own node, until they are stopped.
pub struct Writers {
    stop: Arc<AtomicBool>,
    acks: Acks,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// `values` gives each attempt a value of its own.
    pub fn start(nodes: &[i32], topic: &str, p: i32, values: Value) -> Writers {
        let (stop, values, acks) = (Arc::default(), Arc::new(AtomicI64::new(values)), Acks::default());
        let start = |id: &i32| {
            let (id, topic, stop, values, acks) =
                (*id, topic.to_owned(), Arc::clone(&stop), Arc::clone(&values), Arc::clone(&acks));
            std::thread::spawn(move || write_on(id, &topic, p, &stop, &values, &acks))
        };
        Writers { threads: nodes.iter().map(start).collect(), stop, acks }
    }

    /// Wait until this node has acknowledged something.
    pub fn await_ack(&self, node: i32, patience: Duration, stop: &Stop) -> Result<()> {
        let end = Instant::now() + patience;
        while !self.so_far().iter().any(|(_, by)| *by == node) {
            if Instant::now() > end {
                bail!("node {node} acknowledged nothing within {} s", patience.as_secs());
            }
            stop.sleep(PAUSE)?;
        }
        Ok(())
    }

    /// Every acknowledgement.
    pub fn stop(mut self) -> Vec<(Time, i32)> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in there would show as no acknowledgement.
            let _ = thread.join();
        }
        self.so_far()
    }

    fn so_far(&self) -> Vec<(Time, i32)> {
        self.acks.lock().map(|acks| acks.clone()).unwrap_or_default()
    }
}

fn write_on(id: i32, topic: &str, p: i32, stop: &AtomicBool, values: &AtomicI64, acks: &Acks) {
    let mut open = None;
    while !stop.load(Ordering::Relaxed) {
        let deadline = Instant::now() + WRITE_MAX;
        let value = values.fetch_add(1, Ordering::Relaxed);
        let wire = open.take().map_or_else(|| Wire::open(address(id), deadline), Ok);
        let tried = wire.and_then(|mut wire| Ok((wire.produce(topic, p, value, deadline)?, wire)));
        if let Ok((Answer::Written(_), _)) = tried
            && let Ok(mut acks) = acks.lock()
        {
            acks.push((Clock::now(), id));
        }
        // After an error the connection is of no use.
        open = tried.ok().map(|(_, wire)| wire);
        std::thread::sleep(BETWEEN);
    }
}
