//! One client connection: a reader that runs requests in order, a writer that answers in order.

use super::activity::{Activity, Due};
use super::budget::{FRAME_STEP_BYTES, RequestBudget, RequestBytes};
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
/// Within this time the first [`FRAME_STEP_BYTES`] of a frame must arrive, or all of a smaller one, and a frame finds room in the
/// budget. Whoever takes longer for one request has been given up by its own client: Kafka's clients wait 30 s for an answer unless
/// told otherwise (`request.timeout.ms`), sending included.
const FRAME_STEP_MAX: Duration = Duration::from_secs(30);
/// So much longer may a large frame take for each further [`FRAME_STEP_BYTES`]: see [`Pace`].
const FRAME_PACE: Duration = Duration::from_secs(1);
/// An answer that has begun must be read on: each step of it within this time. A client that reads byte by byte holds as much
/// as one that does not read.
const WRITE_STEP_MAX: Duration = Duration::from_secs(30);
/// A step of an answer.
const WRITE_STEP_BYTES: usize = 1 << 20;
/// Small frames and length prefixes of several requests come in one read.
const READ_BUFFER_BYTES: usize = 8 << 10;
/// After a stop was asked for, time for answers that are already due.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// What became of a request, and that the connection is not idle until it is answered.
type Answered<'a> = (Handled, Due<'a>);

/// Why a connection ended, where that is worth a line.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("a frame of {0} bytes was announced; the bound is {1} (socket.request.max.bytes)")]
    FrameLength(i32, usize),
    #[error("of a frame of {length} bytes only {arrived} had arrived after {} s", .after.as_secs())]
    Stalled { length: usize, arrived: usize, after: Duration },
    #[error("there was no room for {bytes} bytes of a frame for {} s (queued.max.request.bytes)", FRAME_STEP_MAX.as_secs())]
    Crowded { bytes: usize },
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
        while let Some((handled, _due)) = responses.recv().await {
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
        let Some((frame, held)) = read_frame(input, budget, limits, activity).await? else {
            return Ok(());
        };
        let due = activity.due();
        metrics::counter!("rookery_net_request_bytes_total").increment(frame.len() as u64 + 4);
        let handled = match handler.handle(info, frame, held).await {
            Handled::NoReply => continue,
            Handled::Close(reason) => return Err(Ended::Refused(reason)),
            handled => handled,
        };
        if queue.send((handled, due)).await.is_err() {
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
    let mut pace = Pace::begin();
    timeout_at(pace.next_by(0), input.read_exact(&mut prefix[1..])).await.map_err(|_| pace.missed(4, 1))??;
    let announced = i32::from_be_bytes(prefix);
    let length = usize::try_from(announced)
        .ok()
        .filter(|length| *length <= limits.frame_bytes_max)
        .ok_or(Ended::FrameLength(announced, limits.frame_bytes_max))?;

    let mut counted = length.min(FRAME_STEP_BYTES);
    let mut held = room(budget, counted, &mut pace).await?;
    let mut frame = BytesMut::with_capacity(counted);
    while frame.len() < length {
        if frame.len() == counted {
            // The whole of it is counted at once, and nothing is held while waiting for it: connections that each hold a
            // part and wait for more would stop each other and everybody else.
            drop(held);
            counted = length;
            held = room(budget, counted, &mut pace).await?;
        }
        if frame.len() == frame.capacity() {
            // Doubling keeps the copies below one per byte; what is not yet received is not yet reserved.
            frame.reserve((length - frame.len()).min(frame.len()));
        }
        let space = (frame.capacity() - frame.len()).min(counted - frame.len());
        let mut limited = (&mut *input).take(space as u64);
        let read = timeout_at(pace.next_by(frame.len()), limited.read_buf(&mut frame)).await;
        if read.map_err(|_| pace.missed(length, frame.len()))?? == 0 {
            return Err(Ended::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(Some((frame.freeze(), held)))
}

/// Waits for a part of the budget; the client is not to blame for how long.
async fn room(budget: &RequestBudget, bytes: usize, pace: &mut Pace) -> Result<RequestBytes, Ended> {
    let asked = Instant::now();
    let held = timeout(FRAME_STEP_MAX, budget.take(bytes)).await.map_err(|_| Ended::Crowded { bytes })?;
    pace.began += asked.elapsed();
    Ok(held)
}

/// How fast a frame must arrive: by [`FRAME_STEP_MAX`] its first step, and by [`FRAME_PACE`] later each further one.
///
/// Not a time for each read: one byte now and then would hold a frame's part of the budget for ever. Nor a time for the whole of
/// a large frame from its beginning: so much would be held by whoever announces it and sends nothing more. What a large frame
/// has sent in time is credited to it, so its client may pause, and a connection of 1 MiB/s is fast enough for any size. A slower
/// one is cut off only after 30 s, when its client has given up by its own defaults. Whoever sends the first MiB of 100 MB and
/// stops holds 100 MB for 31 s at most; whoever keeps to the pace, for 130 s, and has sent them.
struct Pace {
    began: Instant,
}

impl Pace {
    fn begin() -> Self {
        Self { began: Instant::now() }
    }

    /// When more than `arrived` bytes must have come.
    fn next_by(&self, arrived: usize) -> Instant {
        let steps = u32::try_from(arrived / FRAME_STEP_BYTES).unwrap_or(u32::MAX);
        self.began + FRAME_STEP_MAX + FRAME_PACE * steps
    }

    fn missed(&self, length: usize, arrived: usize) -> Ended {
        Ended::Stalled { length, arrived, after: self.began.elapsed() }
    }
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

    /// Answers with the frame; `p` parks until released and holds nothing meanwhile, `k` keeps its part of the budget, `n` has no answer, `x` closes, `!` panics, `h` answers with more than any socket
    /// takes, and holds something.
    #[derive(Default)]
    struct Echo {
        held: Arc<()>,
        parked: Mutex<Vec<oneshot::Sender<()>>>,
        order: Mutex<Vec<Bytes>>,
    }

    const HUGE: usize = 64 << 20;
    /// A frame of three steps, which is more than its half of the budget.
    const LARGE: usize = 3 << 20;
    const LARGE_HALF: usize = 2 << 20;
    // Far above anything that should happen: a test that waits this long has failed.
    const LONG: Duration = Duration::from_secs(60);

    fn reply(body: &Bytes) -> Handled {
        let mut out = Encoder::new();
        out.i32(body.len() as i32);
        out.slice(body);
        Handled::Reply(Reply { frame: out.into_segments(), held: None })
    }

    impl RequestHandler for Echo {
        fn handle<'a>(
            &'a self,
            _: &'a Arc<ConnectionInfo>,
            frame: Bytes,
            held: RequestBytes,
        ) -> BoxFuture<'a, Handled> {
            self.order.lock().push(frame.clone());
            async move {
                match frame.first() {
                    Some(b'p' | b'k') => {
                        let held = Some(held).filter(|_| frame[0] == b'k');
                        let (release, released) = oneshot::channel();
                        self.parked.lock().push(release);
                        Handled::Later(
                            async move {
                                let _ = released.await;
                                drop(held);
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
        let budget = RequestBudget::new(2 * LARGE_HALF);
        let config = NetConfig {
            connections_max: Arc::new(Semaphore::new(8)),
            budget: budget.clone(),
            frame_bytes_max: LARGE,
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

    /// Waits until something is so. In real time: the test's own may stand still.
    async fn until(is_so: impl Fn() -> bool) {
        let began = std::time::Instant::now();
        while !is_so() {
            assert!(began.elapsed() < LONG, "it does not come about");
            tokio::task::yield_now().await;
        }
    }

    /// A client that has announced a large frame, whose first step is there and no more.
    async fn begin_large(f: &Fixture) -> TcpStream {
        let mut client = TcpStream::connect(f.address).await.unwrap();
        let before = f.budget.in_use();
        client.write_all(&(LARGE as u32).to_be_bytes()).await.unwrap();
        until(|| f.budget.in_use() == before + FRAME_STEP_BYTES).await;
        client.write_all(&[b'l'; FRAME_STEP_BYTES]).await.unwrap();
        until(|| f.budget.in_use() == LARGE_HALF).await;
        client
    }

    #[tokio::test]
    async fn large_frames_that_trickled_in_kept_small_requests_of_others_from_being_answered() {
        let f = start().await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(begin_large(&f).await);
        }
        for client in &mut clients {
            client.write_all(b"l").await.unwrap();
        }
        let mut other = TcpStream::connect(f.address).await.unwrap();
        for small in [vec![b'a'; 9], vec![b'b'; FRAME_STEP_BYTES]] {
            send(&mut other, &small).await;
            assert_eq!(receive(&mut other).await, small);
        }
        assert_eq!(f.budget.in_use(), LARGE_HALF, "they still are where they were");
        for client in &mut clients {
            client.write_all(&vec![b'l'; LARGE - FRAME_STEP_BYTES - 1]).await.unwrap();
            assert_eq!(receive(client).await, vec![b'l'; LARGE], "and have been waiting for their turn");
        }
        until(|| f.budget.in_use() == 0).await;
    }

    #[tokio::test]
    async fn a_handler_holds_a_part_of_the_budget_as_long_as_it_wants_it() {
        let f = start().await;
        let mut clients = Vec::new();
        for (body, held) in [(&b"p"[..], 0), (b"keep", 4), (&[b'p'; 1000], 4)] {
            let mut client = TcpStream::connect(f.address).await.unwrap();
            send(&mut client, body).await;
            clients.push((client, body));
            until(|| f.echo.parked.lock().len() == clients.len()).await;
            assert_eq!(f.budget.in_use(), held, "while it waits");
        }
        f.echo.parked.lock().drain(..).for_each(|release| release.send(()).unwrap());
        for (client, body) in &mut clients {
            assert_eq!(receive(client).await, *body);
        }
        until(|| f.budget.in_use() == 0).await;
    }

    /// Sends a little, again and again, until it is cut off; after how long that is.
    async fn trickle(client: &mut TcpStream) -> Duration {
        let began = Instant::now();
        loop {
            let _ = client.write_all(b"l").await; // it may be over by now
            match timeout(FRAME_STEP_MAX / 3, client.read(&mut [0; 1])).await {
                Err(_) => assert!(began.elapsed() < FRAME_STEP_MAX * 10, "it is never cut off"),
                Ok(ended) => {
                    assert_eq!(ended.unwrap_or(0), 0);
                    return began.elapsed();
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_came_byte_by_byte_held_its_part_of_the_budget_for_ever() {
        let f = start().await;
        let mut small = TcpStream::connect(f.address).await.unwrap();
        small.write_all(&1000u32.to_be_bytes()).await.unwrap();
        assert!(trickle(&mut small).await < FRAME_STEP_MAX * 2);
        let mut large = begin_large(&f).await;
        assert!(trickle(&mut large).await < FRAME_STEP_MAX * 2);
        until(|| f.budget.in_use() == 0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_served_and_a_wait_for_room_is_not_its_fault() {
        let f = start().await;
        for waits in [Duration::ZERO, FRAME_STEP_MAX / 2] {
            let mut holder = TcpStream::connect(f.address).await.unwrap();
            send(&mut holder, &[b'k'; LARGE]).await;
            until(|| f.echo.parked.lock().len() == 1).await;
            let mut slow = TcpStream::connect(f.address).await.unwrap();
            slow.write_all(&(LARGE as u32).to_be_bytes()).await.unwrap();
            until(|| f.budget.in_use() == LARGE_HALF + FRAME_STEP_BYTES).await;
            tokio::time::sleep(FRAME_STEP_MAX - FRAME_PACE / 2).await;
            slow.write_all(&[b's'; FRAME_STEP_BYTES]).await.unwrap();
            until(|| f.budget.in_use() == LARGE_HALF).await;
            tokio::time::sleep(waits).await;
            f.echo.parked.lock().pop().unwrap().send(()).unwrap();
            receive(&mut holder).await;
            until(|| f.budget.in_use() == LARGE_HALF).await;
            for _ in 1..LARGE / FRAME_STEP_BYTES {
                tokio::time::sleep(FRAME_PACE).await;
                slow.write_all(&[b's'; FRAME_STEP_BYTES]).await.unwrap();
            }
            assert_eq!(receive(&mut slow).await, vec![b's'; LARGE]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_finds_no_room_ends_its_connection() {
        let f = start().await;
        let mut holder = TcpStream::connect(f.address).await.unwrap();
        send(&mut holder, &[b'k'; LARGE]).await;
        until(|| f.echo.parked.lock().len() == 1).await;
        let mut other = begin_large(&f).await;
        assert_eq!(other.read(&mut [0; 1]).await.unwrap_or(0), 0);
        assert_eq!(f.budget.in_use(), LARGE_HALF);
        f.echo.parked.lock().pop().unwrap().send(()).unwrap();
        assert_eq!(receive(&mut holder).await, vec![b'k'; LARGE]);
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
