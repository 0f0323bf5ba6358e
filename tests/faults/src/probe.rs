//! A fresh client that knows nothing: writes to all addresses at once, a new connection each time and 200 ms for each
//! attempt, until one of them acknowledges.

use crate::history::{Clock, Time, Value};
use crate::nodes::kafka;
use crate::wire::{Answer, Wire};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ATTEMPT: Duration = Duration::from_millis(200);
/// After a quick refusal.
const PAUSE: Duration = Duration::from_millis(5);

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
                    let tried = Wire::open(kafka(id), deadline).and_then(|mut w| w.produce(&topic, p, value, deadline));
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
