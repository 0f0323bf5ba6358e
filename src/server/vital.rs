//! [`Vital`]: what a node must not go on without.
//!
//! A node whose lifecycle, replicas, commit thread, controller, ... has ended, by a bug that panicked or in any other way, is half
//! alive: it answers some, promises others, and nobody fences it. So it stops, in order as far as it can, with one line and
//! an exit code that says so; its supervisor starts it anew, and the others have its partitions meanwhile.
//!
//! Every such task is either run inside [`Vital::task`], or, where a room runs it itself, the room hands out a future that
//! resolves when it has ended, which goes into [`Vital::task`] or [`Vital::failure`]. A guard that is dropped with the task
//! reports, so an end by a panic is seen as well; the panic's own message is printed where it happens.
//!
//! Not vital: a client's or a peer's connection (a panic there ends that connection), one HTTP or peer request, one group
//! partition (its coordinator loads anew), the file that follows the commits (`sync.mark`).

use super::StartError;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Watches a node's vital tasks. Cheap to clone.
#[derive(Clone)]
pub struct Vital {
    first_end: Arc<watch::Sender<Option<StartError>>>,
    /// From here on tasks may end.
    stopping: CancellationToken,
}

impl Vital {
    /// Watches nothing yet.
    pub fn new() -> Self {
        Self { first_end: Arc::new(watch::Sender::new(None)), stopping: CancellationToken::new() }
    }

    /// A task that may end only when the node stops.
    pub fn task<F: Future<Output = ()>>(&self, name: &'static str, task: F) -> impl Future<Output = ()> + use<F> {
        let guard = Guard { name, vital: self.clone() };
        async move {
            let _guard = guard;
            task.await;
        }
    }

    /// Something that tells why it has failed, if it does.
    pub fn failure<F: Future<Output = String>>(
        &self,
        name: &'static str,
        failure: F,
    ) -> impl Future<Output = ()> + use<F> {
        let vital = self.clone();
        async move { vital.report(name, failure.await) }
    }

    /// Resolves when one of them has ended, or something else has ended the node.
    pub async fn ended(&self) -> StartError {
        let mut first_end = self.first_end.subscribe();
        let ended = first_end.wait_for(Option::is_some).await;
        ended.ok().and_then(|end| end.clone()).expect("the sender is held by `self`")
    }

    /// Ends the node for this reason, unless it stops already or another came first.
    pub fn end(&self, reason: StartError) {
        if self.stopping.is_cancelled() {
            return;
        }
        self.first_end.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(reason);
            is_first
        });
    }

    /// The node stops: they may end.
    pub fn let_go(&self) {
        self.stopping.cancel();
    }

    fn report(&self, name: &'static str, why: String) {
        self.end(StartError::Vital { task: name, why });
    }
}

struct Guard {
    name: &'static str,
    vital: Vital,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let why = if std::thread::panicking() { "it panicked" } else { "it ended" };
        self.vital.report(self.name, why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_task_that_panicked_or_ended_left_the_node_half_alive() {
        let vital = Vital::new();
        let panics = tokio::spawn(vital.task("the panicking one", async { panic!("planted") }));
        assert!(panics.await.unwrap_err().is_panic(), "nothing is swallowed");
        assert_eq!(vital.ended().await.to_string(), "the panicking one: it panicked; the node cannot go on without it");

        let vital = Vital::new();
        tokio::spawn(vital.task("the ending one", async {}));
        assert_eq!(vital.ended().await.to_string(), "the ending one: it ended; the node cannot go on without it");

        let vital = Vital::new();
        tokio::spawn(vital.failure("the log", async { "the disk is full".to_owned() }));
        assert_eq!(vital.ended().await.to_string(), "the log: the disk is full; the node cannot go on without it");
    }

    #[tokio::test]
    async fn tasks_that_end_when_the_node_stops_are_no_failure() {
        let vital = Vital::new();
        vital.let_go();
        tokio::spawn(vital.task("one", async {})).await.unwrap();
        assert!(vital.first_end.borrow().is_none());
    }
}
