//! tokio, without the randomness that a simulation cannot replace. A simulation names it where everybody else has [`TokioRuntime`](super::TokioRuntime).
//!
//! The seed belongs to the thread, not to a task: whatever asks for randomness on the thread of a simulation gets the next number
//! of the one sequence, wherever it was spawned. And whoever waits for one watch channel is woken in the order in which it began to wait:
//! tokio's own channel draws lots.

use openraft::async_runtime::watch::{self, RecvError, SendError, Watch};
use openraft::async_runtime::{Select2, Select3, Select4};
use openraft::{AsyncRuntime, OptionalSend, OptionalSync};
use openraft_rt_tokio::TokioRuntime as Shipped;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch as tokio_watch};

thread_local! {
    static SEQUENCE: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
    static LATENESS: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// From now on whoever sleeps on this thread wakes up to that much later than asked for, as on a machine whose cores are all busy.
pub fn wake_late(by_up_to: Duration) {
    LATENESS.set(by_up_to);
}

fn lateness() -> Duration {
    let most = u64::try_from(LATENESS.get().as_micros()).unwrap_or(u64::MAX);
    let drawn = SEQUENCE.with_borrow_mut(|sequence| sequence.as_mut().map(|rng| rng.random_range(0..=most)));
    Duration::from_micros(drawn.unwrap_or_default())
}

/// From now on this thread draws from a sequence that begins with `seed`; `None`: from the system's randomness, as shipped.
pub fn seed_thread(seed: Option<u64>) {
    SEQUENCE.set(seed.map(SmallRng::seed_from_u64));
}

/// The runtime of the shipped quorum, but for its randomness.
#[derive(Debug)]
pub struct SeededRuntime(Shipped);

impl AsyncRuntime for SeededRuntime {
    type JoinError = <Shipped as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Shipped as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Shipped as AsyncRuntime>::Sleep;
    type Instant = <Shipped as AsyncRuntime>::Instant;
    type TimeoutError = <Shipped as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Shipped as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = <Shipped as AsyncRuntime>::Mpsc;
    type Watch = OrderedWatch;
    type Oneshot = <Shipped as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Shipped as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Shipped::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Shipped::sleep(duration.saturating_add(lateness()))
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Shipped::sleep_until(deadline + lateness())
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        Shipped::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        Shipped::timeout_at(deadline, future)
    }

    fn select2<A, B>(a: A, b: B) -> impl Future<Output = Select2<A::Output, B::Output>> + OptionalSend
    where
        A: Future + OptionalSend,
        B: Future + OptionalSend,
    {
        Shipped::select2(a, b)
    }

    fn select3<A, B, C>(
        a: A,
        b: B,
        c: C,
    ) -> impl Future<Output = Select3<A::Output, B::Output, C::Output>> + OptionalSend
    where
        A: Future + OptionalSend,
        B: Future + OptionalSend,
        C: Future + OptionalSend,
    {
        Shipped::select3(a, b, c)
    }

    fn select4<A, B, C, D>(
        a: A,
        b: B,
        c: C,
        d: D,
    ) -> impl Future<Output = Select4<A::Output, B::Output, C::Output, D::Output>> + OptionalSend
    where
        A: Future + OptionalSend,
        B: Future + OptionalSend,
        C: Future + OptionalSend,
        D: Future + OptionalSend,
    {
        Shipped::select4(a, b, c, d)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Shipped::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        let drawn = SEQUENCE.with_borrow_mut(|sequence| sequence.as_mut().map(|rng| rng.random::<u64>()));
        SmallRng::seed_from_u64(drawn.unwrap_or_else(|| rand::rng().random()))
    }

    fn new(threads: usize) -> Self {
        Self(Shipped::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Shipped::spawn_blocking(f)
    }
}

/// A watch channel that wakes its receivers in order.
pub struct OrderedWatch;

/// The sending half.
pub struct OrderedSender<T> {
    // Dropped before `news` tells of it.
    channel: tokio_watch::Sender<T>,
    news: News,
}

/// The receiving half.
pub struct OrderedReceiver<T> {
    channel: tokio_watch::Receiver<T>,
    news: Arc<Notify>,
}

/// Also the end of a sender is news.
#[derive(Clone)]
struct News(Arc<Notify>);

impl Drop for News {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

impl<T> Clone for OrderedSender<T> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), news: self.news.clone() }
    }
}

impl<T> Clone for OrderedReceiver<T> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), news: self.news.clone() }
    }
}

impl Watch for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = OrderedSender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = OrderedReceiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = tokio_watch::Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Self::Sender<T>, Self::Receiver<T>) {
        let (sender, receiver) = tokio_watch::channel(init);
        let news = Arc::new(Notify::new());
        (OrderedSender { channel: sender, news: News(news.clone()) }, OrderedReceiver { channel: receiver, news })
    }
}

impl<T: OptionalSend + OptionalSync> watch::WatchSender<OrderedWatch, T> for OrderedSender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.channel.send(value).map_err(|error| SendError(error.0))?;
        self.news.0.notify_waiters();
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let modified = self.channel.send_if_modified(modify);
        if modified {
            self.news.0.notify_waiters();
        }
        modified
    }

    fn borrow_watched(&self) -> tokio_watch::Ref<'_, T> {
        self.channel.borrow()
    }

    fn subscribe(&self) -> OrderedReceiver<T> {
        OrderedReceiver { channel: self.channel.subscribe(), news: self.news.0.clone() }
    }
}

impl<T: OptionalSend + OptionalSync> watch::WatchReceiver<OrderedWatch, T> for OrderedReceiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        loop {
            let news = self.news.notified();
            // What is sent from here on wakes, before it is looked whether something was.
            tokio::pin!(news);
            news.as_mut().enable();
            match self.channel.has_changed() {
                Ok(true) => {
                    self.channel.mark_unchanged();
                    return Ok(());
                }
                Ok(false) => news.await,
                // The sender is gone; what it sent last may still be unseen.
                Err(_) => return self.channel.changed().await.map_err(|_| RecvError(())),
            }
        }
    }

    fn borrow_watched(&self) -> tokio_watch::Ref<'_, T> {
        self.channel.borrow()
    }

    fn borrow_and_update(&mut self) -> tokio_watch::Ref<'_, T> {
        self.channel.borrow_and_update()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_runtime_as_openraft_wants_one() {
        openraft_rt::testing::Suite::<SeededRuntime>::test_all();
    }
}
