//! One client connection: a reader that runs requests in order, a writer that answers in order.

use super::activity::{Activity, Due};
use super::budget::{RequestBudget, RequestBytes};
use super::outgoing::Outgoing;
use super::{ConnectionInfo, Handled, Reply, RequestHandler};
use bytes::{Buf, Bytes, BytesMut};
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Bounds of one connection.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Bytes of one frame.
    pub frame_bytes_max: usize,
    /// Time without a request, and without an answer that is due.
    pub idle_max: Duration,
}

/// Requests of one connection that are appended or parked and not yet answered. Clients keep 5 or fewer in flight.
const IN_FLIGHT_MAX: usize = 64;
/// A frame that has begun must get on: each step of it within this time.
const FRAME_STEP_MAX: Duration = Duration::from_secs(30);
/// An answer that has begun must be read on: each step of it within this time. A client that reads byte by byte holds as much
/// as one that does not read.
const WRITE_STEP_MAX: Duration = Duration::from_secs(30);
/// A step of an answer.
const WRITE_STEP_BYTES: usize = 1 << 20;
/// Bytes of a frame that are accounted before the rest of it has begun to arrive.
const FRAME_STEP_BYTES: usize = 1 << 20;
/// Small frames and length prefixes of several requests come in one read.
const READ_BUFFER_BYTES: usize = 8 << 10;
/// After a stop was asked for, time for answers that are already due.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// What became of a request, and what it holds until it is answered: its part of the budget, and the connection open.
type Answered<'a> = (Handled, RequestBytes, Due<'a>);

/// Why a connection ended, where that is worth a line.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("a frame of {0} bytes was announced; the bound is {1} (socket.request.max.bytes)")]
    FrameLength(i32, usize),
    #[error("a frame stopped half-way for {} s", FRAME_STEP_MAX.as_secs())]
    Stalled,
    #[error("an answer was not read for {} s", WRITE_STEP_MAX.as_secs())]
    Unread,
    #[error("no request for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serve the connection until the client leaves, misbehaves, or a stop is asked for.
pub async fn run(
    mut stream: TcpStream,
    info: &Arc<ConnectionInfo>,
    handler: &dyn RequestHandler,
    budget: &RequestBudget,
    limits: &ConnectionLimits,
    stop: CancellationToken,
) {
    let (input, mut output) = stream.split();
    let activity = Activity::new();
    let (queue, mut responses) = mpsc::channel::<Answered>(IN_FLIGHT_MAX);
    let mut input = BufReader::with_capacity(READ_BUFFER_BYTES, input);

    let read = async {
        let result = tokio::select! {
            result = read_requests(&mut input, info, handler, budget, limits, &activity, &queue) => result,
            () = stop.cancelled() => Ok(()),
        };
        drop(queue); // the writer ends once all that is due is written
        result
    };
    let write = async {
        let mut result = Ok(());
        while let Some((handled, _bytes, _due)) = responses.recv().await {
            result = write_response(&mut output, handled).await;
            if result.is_err() {
                break;
            }
        }
        result
    };
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    let result = tokio::select! {
        result = both(read, write) => result,
        () = drained => Ok(()),
    };
    let _ = output.shutdown().await;
    match result {
        Ok(()) => tracing::debug!(peer = %info.peer, "connection closed"),
        Err(Ended::Io(error)) => tracing::debug!(peer = %info.peer, %error, "connection lost"),
        Err(reason @ Ended::Idle(_)) => tracing::debug!(peer = %info.peer, %reason, "connection closed"),
        Err(reason) => tracing::warn!(peer = %info.peer, listener = %info.listener, %reason, "connection closed"),
    }
}

/// Run both halves: the first error ends both; a reader that ends well lets the writer finish.
async fn both(
    read: impl Future<Output = Result<(), Ended>>,
    write: impl Future<Output = Result<(), Ended>>,
) -> Result<(), Ended> {
    tokio::pin!(read, write);
    tokio::select! {
        // A client that has left may still read what is due now; it is not waited for.
        result = &mut read => { result?; timeout(DRAIN_MAX, write).await.unwrap_or(Ok(())) }
        result = &mut write => { result?; pending().await }
    }
}

async fn read_requests<'a>(
    input: &mut (impl AsyncRead + Unpin),
    info: &Arc<ConnectionInfo>,
    handler: &dyn RequestHandler,
    budget: &RequestBudget,
    limits: &ConnectionLimits,
    activity: &'a Activity,
    queue: &mpsc::Sender<Answered<'a>>,
) -> Result<(), Ended> {
    loop {
        let Some((frame, bytes)) = read_frame(input, budget, limits, activity).await? else {
            return Ok(());
        };
        let due = activity.due();
        metrics::counter!("rookery_net_request_bytes_total").increment(frame.len() as u64 + 4);
        let handled = match handler.handle(info, frame).await {
            Handled::NoReply => continue,
            Handled::Close(reason) => return Err(Ended::Refused(reason)),
            handled => handled,
        };
        if queue.send((handled, bytes, due)).await.is_err() {
            return Ok(()); // the writer failed and says so itself
        }
    }
}

/// The next frame and the part of the budget that it holds, or nothing if the client has left.
async fn read_frame(
    input: &mut (impl AsyncRead + Unpin),
    budget: &RequestBudget,
    limits: &ConnectionLimits,
    activity: &Activity,
) -> Result<Option<(Bytes, RequestBytes)>, Ended> {
    let mut prefix = [0u8; 4];
    loop {
        // While an answer is due there is nothing to reckon with: look again later.
        let idle_at = activity.idle_at(limits.idle_max).unwrap_or_else(|| Instant::now() + limits.idle_max);
        match timeout_at(idle_at, input.read(&mut prefix[..1])).await {
            Ok(Ok(0)) => return Ok(None),
            Ok(read) => {
                read?;
                break;
            }
            Err(_) if activity.idle_at(limits.idle_max).is_none_or(|at| at > Instant::now()) => {}
            Err(_) => return Err(Ended::Idle(limits.idle_max)),
        }
    }
    step(input.read_exact(&mut prefix[1..])).await?;
    let announced = i32::from_be_bytes(prefix);
    let length = usize::try_from(announced)
        .ok()
        .filter(|length| *length <= limits.frame_bytes_max)
        .ok_or(Ended::FrameLength(announced, limits.frame_bytes_max))?;

    let mut held =
        timeout(FRAME_STEP_MAX, budget.take(length.min(FRAME_STEP_BYTES))).await.map_err(|_| Ended::Stalled)?;
    let mut frame = BytesMut::with_capacity(length.min(FRAME_STEP_BYTES));
    while frame.len() < length {
        if frame.len() == frame.capacity() {
            // Doubling keeps the copies below one per byte; what is not yet received is not yet reserved.
            let more = (length - frame.len()).min(frame.len());
            if frame.len() == FRAME_STEP_BYTES {
                // The whole rest is accounted at once, and nothing is held while waiting for it: connections that
                // each hold a part and wait for more would stop each other and everybody else.
                drop(held);
                held = timeout(FRAME_STEP_MAX, budget.take(length)).await.map_err(|_| Ended::Stalled)?;
            }
            frame.reserve(more);
        }
        let room = (frame.capacity() - frame.len()).min(length - frame.len());
        let mut limited = (&mut *input).take(room as u64);
        if step(limited.read_buf(&mut frame)).await? == 0 {
            return Err(Ended::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(Some((frame.freeze(), held)))
}

async fn step<T>(read: impl Future<Output = io::Result<T>>) -> Result<T, Ended> {
    Ok(timeout(FRAME_STEP_MAX, read).await.map_err(|_| Ended::Stalled)??)
}

async fn write_response(output: &mut (impl AsyncWriteExt + Unpin), mut handled: Handled) -> Result<(), Ended> {
    loop {
        match handled {
            Handled::Later(response) => handled = response.await,
            Handled::NoReply => return Ok(()),
            Handled::Close(reason) => return Err(Ended::Refused(reason)),
            Handled::Reply(Reply { frame, held }) => {
                metrics::counter!("rookery_net_response_bytes_total").increment(frame.len() as u64);
                let mut outgoing = Outgoing::from(frame);
                while outgoing.has_remaining() {
                    let step = timeout(WRITE_STEP_MAX, write_step(output, &mut outgoing)).await;
                    step.map_err(|_| Ended::Unread)??;
                }
                drop(held);
                return Ok(());
            }
        }
    }
}

/// Writes up to [`WRITE_STEP_BYTES`], or a little more.
async fn write_step(output: &mut (impl AsyncWriteExt + Unpin), outgoing: &mut Outgoing) -> io::Result<()> {
    let rest = outgoing.remaining().saturating_sub(WRITE_STEP_BYTES);
    while outgoing.remaining() > rest {
        if output.write_buf(outgoing).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{BoundListener, NetConfig};
    use super::*;
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use parking_lot::Mutex;
    use rookery_protocol::codec::Encoder;
    use tokio::sync::{Semaphore, oneshot};
    use tokio_util::task::TaskTracker;

    /// Answers with the frame; `p` parks until released, `n` has no answer, `x` closes, `!` panics, `h` answers with more than any socket
    /// takes, and holds something.
    #[derive(Default)]
    struct Echo {
        held: Arc<()>,
        parked: Mutex<Vec<oneshot::Sender<()>>>,
        order: Mutex<Vec<Bytes>>,
    }

    const HUGE: usize = 64 << 20;

    fn reply(body: &Bytes) -> Handled {
        let mut out = Encoder::new();
        out.i32(body.len() as i32);
        out.slice(body);
        Handled::Reply(Reply { frame: out.into_segments(), held: None })
    }

    impl RequestHandler for Echo {
        fn handle<'a>(&'a self, _: &'a Arc<ConnectionInfo>, frame: Bytes) -> BoxFuture<'a, Handled> {
            self.order.lock().push(frame.clone());
            async move {
                match frame.first() {
                    Some(b'p') => {
                        let (release, released) = oneshot::channel();
                        self.parked.lock().push(release);
                        Handled::Later(
                            async move {
                                let _ = released.await;
                                reply(&frame)
                            }
                            .boxed(),
                        )
                    }
                    Some(b'h') => match reply(&vec![b'h'; HUGE].into()) {
                        Handled::Reply(Reply { frame, .. }) => {
                            Handled::Reply(Reply { frame, held: Some(Box::new(self.held.clone())) })
                        }
                        other => other,
                    },
                    Some(b'n') => Handled::NoReply,
                    Some(b'!') => panic!("planted"),
                    Some(b'x') => Handled::Close("asked to".into()),
                    _ => reply(&frame),
                }
            }
            .boxed()
        }
    }

    struct Fixture {
        echo: Arc<Echo>,
        address: std::net::SocketAddr,
        budget: RequestBudget,
        stop: CancellationToken,
        tracker: TaskTracker,
    }

    async fn start() -> Fixture {
        start_with(Duration::from_secs(60)).await
    }

    async fn start_with(idle_max: Duration) -> Fixture {
        let (echo, stop, tracker) = (Arc::new(Echo::default()), CancellationToken::new(), TaskTracker::new());
        let budget = RequestBudget::new(4 << 20);
        let config = NetConfig {
            connections_max: Arc::new(Semaphore::new(8)),
            budget: budget.clone(),
            frame_bytes_max: 3 << 20,
            idle_max,
        };
        let bound = BoundListener::bind("T", ("127.0.0.1", 0)).await.unwrap();
        let address = bound.address();
        tracker.spawn(bound.serve(config, echo.clone(), tracker.clone(), stop.clone()).unwrap());
        Fixture { echo, address, budget, stop, tracker }
    }

    async fn send(stream: &mut TcpStream, body: &[u8]) {
        stream.write_all(&(body.len() as u32).to_be_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
    }

    async fn receive(stream: &mut TcpStream) -> Vec<u8> {
        let mut body = vec![0; stream.read_u32().await.unwrap() as usize];
        stream.read_exact(&mut body).await.unwrap();
        body
    }

    #[tokio::test]
    async fn answers_come_in_order_and_a_parked_one_does_not_stop_the_work_behind_it() {
        let f = start().await;
        let mut client = TcpStream::connect(f.address).await.unwrap();
        for body in [&b"p1"[..], b"a2", b"n3", b"a4"] {
            send(&mut client, body).await;
        }
        while f.echo.order.lock().len() < 4 {
            tokio::task::yield_now().await;
        }
        f.echo.parked.lock().pop().unwrap().send(()).unwrap();
        assert_eq!(receive(&mut client).await, b"p1");
        assert_eq!(receive(&mut client).await, b"a2");
        assert_eq!(receive(&mut client).await, b"a4");
    }

    #[tokio::test]
    async fn what_an_answer_holds_is_given_back_when_it_has_been_read_or_given_up() {
        let f = start().await;
        for reads in [true, false] {
            let mut client = TcpStream::connect(f.address).await.unwrap();
            send(&mut client, b"h").await;
            // Some of it has come, and most of it cannot have left.
            assert_eq!(client.read_u32().await.unwrap() as usize, HUGE);
            assert_eq!(Arc::strong_count(&f.echo.held), 2);
            if reads {
                client.read_exact(&mut vec![0; HUGE]).await.unwrap();
            } else {
                drop(client);
            }
            while Arc::strong_count(&f.echo.held) > 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_read_a_little_now_and_then_held_its_answer_for_ever() {
        let f = start().await;
        let mut client = TcpStream::connect(f.address).await.unwrap();
        send(&mut client, b"h").await;
        let mut little = vec![0; WRITE_STEP_BYTES / 16];
        let began = Instant::now();
        while Arc::strong_count(&f.echo.held) > 1 || f.echo.order.lock().is_empty() {
            assert!(client.read(&mut little).await.is_ok_and(|read| read > 0), "it is cut off only when it is over");
            tokio::time::sleep(WRITE_STEP_MAX / 3).await;
            assert!(began.elapsed() < WRITE_STEP_MAX * 100);
        }
    }

    #[tokio::test]
    async fn hostile_lengths_close_only_their_connection_and_reserve_nothing() {
        let f = start().await;
        for prefix in [i32::MAX, -1, i32::MIN, (3 << 20) + 1] {
            let mut client = TcpStream::connect(f.address).await.unwrap();
            client.write_all(&prefix.to_be_bytes()).await.unwrap();
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "{prefix}");
        }
        assert_eq!(f.budget.in_use(), 0);
        let mut client = TcpStream::connect(f.address).await.unwrap();
        let large = vec![b'l'; 3 << 20];
        send(&mut client, &large).await;
        assert_eq!(receive(&mut client).await, large);
    }

    #[tokio::test]
    async fn an_announced_frame_holds_only_what_arrived_and_gives_it_back() {
        let f = start().await;
        let mut client = TcpStream::connect(f.address).await.unwrap();
        client.write_all(&(3u32 << 20).to_be_bytes()).await.unwrap();
        client.write_all(b"only this").await.unwrap();
        while f.budget.in_use() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(f.budget.in_use(), FRAME_STEP_BYTES);
        drop(client);
        while f.budget.in_use() != 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_whose_answer_the_writer_had_taken_was_closed_as_idle() {
        let idle_max = Duration::from_millis(100);
        let f = start_with(idle_max).await;
        let mut client = TcpStream::connect(f.address).await.unwrap();
        send(&mut client, b"p").await;
        while f.echo.order.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(idle_max * 5).await;
        f.echo.parked.lock().pop().unwrap().send(()).unwrap();
        assert_eq!(receive(&mut client).await, b"p");
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "and then it is idle");
    }

    #[tokio::test]
    async fn a_panic_in_one_connection_ends_that_one_and_gives_back_its_slot() {
        let f = start().await;
        let mut other = TcpStream::connect(f.address).await.unwrap();
        // More than there are slots.
        for _ in 0..20 {
            let mut client = TcpStream::connect(f.address).await.unwrap();
            send(&mut client, b"!").await;
            assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0);
        }
        send(&mut other, b"a").await;
        assert_eq!(receive(&mut other).await, b"a");
        while f.budget.in_use() != 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_refused_request_closes_the_connection_and_a_stop_ends_all() {
        let f = start().await;
        let mut client = TcpStream::connect(f.address).await.unwrap();
        send(&mut client, b"x").await;
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        let mut other = TcpStream::connect(f.address).await.unwrap();
        send(&mut other, b"a").await;
        assert_eq!(receive(&mut other).await, b"a");
        f.stop.cancel();
        f.tracker.close();
        f.tracker.wait().await;
        assert_eq!(other.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
