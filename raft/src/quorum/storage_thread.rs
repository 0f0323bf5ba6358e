//! Who runs the blocking calls of a [`QuorumStorage`]: one thread of ours, or, in a simulation, the caller.
//!
//! [`StorageThread`] is a handle; requests go through one bounded queue, in order. The thread takes what has gathered,
//! puts neighbouring writes into one batch (one fsync for all of them) and then runs their completions, in order.
//!
//! **State**: `open`, or `failed(reason)` after the first write that failed. From then on every request is answered with the reason and the engine
//! is not asked again: after a failed fsync nobody knows what is on disk. The way out is to drop the handle and open the storage anew.
//!
//! A disk that hangs answers nothing, so nothing that waits for the thread can end it. Whoever watches for how long the thread has been at what it
//! does now ([`StorageThread::stalled_for`]) may **abandon** the storage: everybody who waits, or comes later, is told that it has failed. What the
//! thread still writes counts as a write whose outcome nobody knows, as after a crash. [`StorageThread::close`] waits for the thread all the same:
//! the storage can be opened anew only when the old one has let go of it.
//!
//! A completion always runs exactly once, also when the thread dies: dropping one answers "closed".

use super::disk_failure::DiskFailure;
use super::storage::{Durability, LogWrite, QuorumStorage, QuorumStorageError, SavedState};
use bytes::Bytes;
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Requests that may wait for the thread; more make the caller wait.
const QUEUE: usize = 1024;
/// Bytes of entries in one batch; above it the next batch begins.
const BATCH_BYTES: usize = 4 << 20;

/// Where blocking storage calls run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StorageExecution {
    /// On a thread of its own: what a server uses.
    Thread,
    /// In the calling task: what a simulation uses, where a thread would bring chance.
    Inline,
}

pub(crate) type Done<T> = Box<dyn FnOnce(Result<T, QuorumStorageError>) + Send>;

fn closed() -> QuorumStorageError {
    QuorumStorageError::Closed("it was closed".into())
}

/// A callback that runs exactly once.
pub(crate) struct Completion<T>(Option<Done<T>>);

impl<T> Completion<T> {
    fn new(done: impl FnOnce(Result<T, QuorumStorageError>) + Send + 'static) -> Self {
        Self(Some(Box::new(done)))
    }
    fn complete(mut self, result: Result<T, QuorumStorageError>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(closed()));
        }
    }
}

pub(crate) enum Request {
    Write { batch: Vec<LogWrite>, durability: Durability, done: Completion<()> },
    Read { from: u64, to: u64, max_bytes: usize, done: Completion<Vec<Bytes>> },
    Close { done: Completion<()> },
}

/// The engine and whether it may still be asked.
pub(crate) struct Engine {
    storage: Option<Box<dyn QuorumStorage>>,
    failed: Option<QuorumStorageError>,
    failure: DiskFailure,
}

impl Engine {
    fn new(storage: Box<dyn QuorumStorage>, failure: DiskFailure) -> Self {
        Self { storage: Some(storage), failed: None, failure }
    }

    fn open(&mut self) -> Result<&mut dyn QuorumStorage, QuorumStorageError> {
        if let Some(reason) = &self.failed {
            return Err(QuorumStorageError::Closed(format!("an earlier write failed: {reason}")));
        }
        self.storage.as_deref_mut().ok_or_else(closed)
    }

    fn close(&mut self) {
        self.storage = None;
    }

    fn write(&mut self, batch: &[LogWrite], durability: Durability) -> Result<(), QuorumStorageError> {
        let result = self.open()?.write(batch, durability);
        if let Err(reason) = &result {
            tracing::error!(%reason, "metadata log: a write failed; this storage takes no more");
            self.failed = Some(reason.clone());
            self.failure.note(reason);
        }
        result
    }

    fn read(&mut self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Bytes>, QuorumStorageError> {
        let result = self.open()?.read(from, to, max_bytes);
        if let Err(error @ QuorumStorageError::Io(_)) = &result {
            self.failure.note(error);
        }
        result
    }
}

#[derive(Clone)]
enum Route {
    Thread(mpsc::Sender<Request>),
    Inline(Arc<Mutex<Engine>>),
}

/// Since when the thread waits for the disk; held for a glance only. A slow disk ends one thing after the other, and a busy machine's queue may
/// be long: only a disk that hangs stays at one and the same.
#[derive(Default)]
struct Working(Mutex<Option<Instant>>);

impl Working {
    fn on<T>(&self, work: impl FnOnce() -> T) -> T {
        *self.0.lock() = Some(Instant::now());
        let done = work();
        *self.0.lock() = None;
        done
    }
}

/// Handle to the storage; cheap to clone. The storage closes when the last one is dropped.
#[derive(Clone)]
pub(crate) struct StorageThread {
    route: Route,
    working: Arc<Working>,
    failure: DiskFailure,
    abandoned: CancellationToken,
}

impl StorageThread {
    /// Takes the storage over and says what it holds.
    pub(crate) async fn start(
        mut storage: Box<dyn QuorumStorage>,
        execution: StorageExecution,
        failure: DiskFailure,
    ) -> Result<(Self, SavedState), QuorumStorageError> {
        let (working, abandoned) = (Arc::new(Working::default()), CancellationToken::new());
        if execution == StorageExecution::Inline {
            let saved = storage.load()?;
            let engine = Arc::new(Mutex::new(Engine::new(storage, failure.clone())));
            return Ok((Self { route: Route::Inline(engine), working, failure, abandoned }, saved));
        }
        let (tx, rx) = mpsc::channel(QUEUE);
        let (loaded_tx, loaded_rx) = oneshot::channel();
        let (engine_failure, thread_working) = (failure.clone(), working.clone());
        std::thread::Builder::new()
            .name("metadata-log".into())
            .spawn(move || {
                let loaded = storage.load();
                let go_on = loaded.is_ok();
                if loaded_tx.send(loaded).is_ok() && go_on {
                    run(Engine::new(storage, engine_failure), rx, &thread_working);
                }
            })
            .map_err(|e| QuorumStorageError::Io(format!("cannot start its thread: {e}")))?;
        let saved = loaded_rx.await.map_err(|_| closed())??;
        Ok((Self { route: Route::Thread(tx), working, failure, abandoned }, saved))
    }

    /// Takes a place in the queue; what is sent through it runs after everything sent before.
    pub(crate) async fn reserve(&self) -> Result<Place<'_>, QuorumStorageError> {
        match &self.route {
            Route::Inline(engine) => Ok(Place::Inline(engine)),
            Route::Thread(tx) => match self.unless_abandoned(tx.reserve()).await? {
                Ok(permit) => Ok(Place::Thread(permit)),
                Err(_) => Err(closed()),
            },
        }
    }

    /// For how long the disk has not answered what it was asked last; nothing where nothing is asked of it.
    pub(crate) fn stalled_for(&self) -> Duration {
        self.working.0.lock().map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Gives up on a disk that hangs.
    pub(crate) fn abandon(&self, why: &QuorumStorageError) {
        self.failure.note(why);
        self.abandoned.cancel();
    }

    async fn unless_abandoned<T>(&self, work: impl Future<Output = T>) -> Result<T, QuorumStorageError> {
        if self.abandoned.is_cancelled() {
            return Err(QuorumStorageError::Closed("its disk hung".into()));
        }
        match select(pin!(work), pin!(self.abandoned.cancelled())).await {
            Either::Left((done, _)) => Ok(done),
            Either::Right(_) => Err(QuorumStorageError::Closed("its disk hangs".into())),
        }
    }

    /// Writes `batch` and waits for it.
    pub(crate) async fn write(&self, batch: Vec<LogWrite>, durability: Durability) -> Result<(), QuorumStorageError> {
        let (tx, rx) = oneshot::channel();
        self.reserve().await?.write(batch, durability, move |result| drop(tx.send(result)));
        self.unless_abandoned(rx).await?.map_err(|_| closed())?
    }

    /// Closes the storage after everything queued before; it can be opened again when this returns.
    pub(crate) async fn close(&self) {
        match &self.route {
            Route::Inline(engine) => engine.lock().close(),
            Route::Thread(tx) => {
                let (done_tx, done_rx) = oneshot::channel();
                let done = Completion::new(move |_| {
                    let _ = done_tx.send(());
                });
                if tx.send(Request::Close { done }).await.is_ok() {
                    let _ = done_rx.await;
                }
            }
        }
    }

    /// Reads entries, after every write queued before.
    pub(crate) async fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Bytes>, QuorumStorageError> {
        match self.reserve().await? {
            Place::Inline(engine) => engine.lock().read(from, to, max_bytes),
            Place::Thread(permit) => {
                let (tx, rx) = oneshot::channel();
                let done = Completion::new(move |result| drop(tx.send(result)));
                permit.send(Request::Read { from, to, max_bytes, done });
                self.unless_abandoned(rx).await?.map_err(|_| closed())?
            }
        }
    }
}

/// A place in the queue, good for one write.
pub(crate) enum Place<'a> {
    /// In the thread's queue.
    Thread(mpsc::Permit<'a, Request>),
    /// The engine itself.
    Inline(&'a Mutex<Engine>),
}

impl Place<'_> {
    /// Queues `batch`; `done` runs when it is on disk, or has failed.
    pub(crate) fn write(
        self,
        batch: Vec<LogWrite>,
        durability: Durability,
        done: impl FnOnce(Result<(), QuorumStorageError>) + Send + 'static,
    ) {
        match self {
            Place::Inline(engine) => {
                let result = engine.lock().write(&batch, durability);
                done(result);
            }
            Place::Thread(permit) => permit.send(Request::Write { batch, durability, done: Completion::new(done) }),
        }
    }
}

/// The thread: until every handle is gone.
fn run(mut engine: Engine, mut rx: mpsc::Receiver<Request>, working: &Working) {
    let mut next = rx.blocking_recv();
    while let Some(request) = next.take() {
        match request {
            Request::Close { done } => {
                engine.close();
                done.complete(Ok(()));
            }
            Request::Read { from, to, max_bytes, done } => {
                let result = working.on(|| engine.read(from, to, max_bytes));
                done.complete(result);
            }
            Request::Write { mut batch, mut durability, done } => {
                let mut waiting = vec![done];
                let mut bytes = bytes_of(&batch);
                while bytes < BATCH_BYTES && next.is_none() {
                    match rx.try_recv() {
                        Ok(Request::Write { batch: more, durability: stronger, done }) => {
                            bytes += bytes_of(&more);
                            batch.extend(more);
                            if stronger == Durability::Synced {
                                durability = Durability::Synced;
                            }
                            waiting.push(done);
                        }
                        Ok(other) => next = Some(other),
                        Err(_) => break,
                    }
                }
                let result = working.on(|| engine.write(&batch, durability));
                waiting.into_iter().for_each(|done| done.complete(result.clone()));
            }
        }
        if next.is_none() {
            next = rx.blocking_recv();
        }
    }
}

fn bytes_of(batch: &[LogWrite]) -> usize {
    let size = |write: &LogWrite| match write {
        LogWrite::Append { entry, .. } => entry.len(),
        LogWrite::Put { value, .. } => value.len(),
        LogWrite::Truncate { .. } | LogWrite::Purge { .. } => 0,
    };
    batch.iter().map(size).sum()
}
