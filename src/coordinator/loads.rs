//! One line in the log for many loads: a broker that takes over leads dozens of partitions at once.

use parking_lot::Mutex;
use std::sync::Arc;
use tokio::time::Instant;

/// Loads of one topic's partitions.
pub(super) struct Loads {
    topic: &'static str,
    round: Mutex<Round>,
}

/// From the first load that begins until none is left.
#[derive(Default)]
struct Round {
    running: usize,
    began: Option<Instant>,
    loaded: usize,
    keys: usize,
}

/// A load that runs, or waits to. Ends when it is dropped.
pub(super) struct Loading(Arc<Loads>);

impl Loads {
    pub(super) fn new(topic: &'static str) -> Arc<Self> {
        Arc::new(Self { topic, round: Mutex::default() })
    }

    pub(super) fn begin(self: &Arc<Self>) -> Loading {
        let mut round = self.round.lock();
        round.running += 1;
        round.began.get_or_insert_with(Instant::now);
        Loading(self.clone())
    }
}

impl Loading {
    /// The partition is loaded, with so many live keys.
    pub(super) fn done(self, keys: usize) {
        let mut round = self.0.round.lock();
        round.loaded += 1;
        round.keys += keys;
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let mut round = self.0.round.lock();
        round.running -= 1;
        if round.running > 0 {
            return;
        }
        let Round { began, loaded, keys, .. } = std::mem::take(&mut *round);
        drop(round);
        if let Some(began) = began.filter(|_| loaded > 0) {
            let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(topic = self.0.topic, partitions = loaded, keys, milliseconds, "coordinators loaded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_partition_that_was_loaded_was_a_line() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let loads = Loads::new("t");
            let round: Vec<Loading> = (0..3).map(|_| loads.begin()).collect();
            for (keys, loading) in round.into_iter().enumerate() {
                // The last one ends without success: another broker leads.
                if keys < 2 { loading.done(keys) } else { drop(loading) }
            }
            drop(loads.begin());
            loads.begin().done(7);
        });
        let said = String::from_utf8(lines.0.lock().clone()).expect("text");
        let said: Vec<&str> = said.lines().collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("partitions=2 keys=1 ") && said[1].contains("partitions=1 keys=7 "), "{said:?}");
    }
}
