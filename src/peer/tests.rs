//! Two ends over real loopback sockets.

use super::frame::{self, Coverage, Role};
use super::hello::{self, Hello};
use super::*;
use bytes::Bytes;
use rookery_raft::ids::{BrokerEpoch, ClusterId, DirectoryId, IncarnationId, NodeId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};

// Far above anything that should happen: a test that waits this long has failed.
const LONG: Duration = Duration::from_secs(20);

const ECHO: u16 = 1;
const PARK: u16 = 2;
const EPOCH: u16 = 3;
const FAIL: u16 = 4;

#[derive(Default)]
struct Service {
    // A parked call waits for one permit; `parked` counts the calls that have arrived.
    release: Gate,
    parked: Gate,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Gate(Semaphore::new(0))
    }
}

impl Gate {
    fn open(&self, n: usize) {
        self.0.add_permits(n);
    }
    async fn pass(&self, n: u32) {
        tokio::time::timeout(LONG, self.0.acquire_many(n)).await.expect("in time").expect("never closed").forget();
    }
}

impl PeerService for Service {
    fn call(&self, from: PeerIdentity, kind: u16, body: Bytes) -> ServiceFuture<'_> {
        Box::pin(async move {
            match kind {
                // In segments of odd sizes.
                ECHO => Ok((0..body.len()).step_by(4099).map(|at| body.slice(at..body.len().min(at + 4099))).collect()),
                PARK => {
                    self.parked.open(1);
                    self.release.0.acquire().await.expect("never closed").forget();
                    Ok(vec![Bytes::from_static(b"released")])
                }
                EPOCH => Ok(vec![Bytes::copy_from_slice(&from.broker_epoch.0.to_be_bytes())]),
                _ => Err(PeerError::Service { code: 42, message: "not today".into() }),
            }
        })
    }
}

fn identity(node: i32, cluster_id: Option<ClusterId>) -> LocalIdentity {
    LocalIdentity::new(PeerIdentity {
        cluster_id,
        node_id: NodeId(node),
        directory_id: DirectoryId::random(),
        incarnation: IncarnationId::random(),
        broker_epoch: BrokerEpoch(10),
    })
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

struct Pair {
    server: PeerServer,
    server_identity: LocalIdentity,
    server_events: broadcast::Receiver<PeerEvent>,
    service: Arc<Service>,
    pool: PeerPool,
    pool_identity: LocalIdentity,
    pool_events: broadcast::Receiver<PeerEvent>,
    cluster: ClusterId,
}

fn pool(identity: &LocalIdentity, config: PeerConfig) -> (PeerPool, broadcast::Receiver<PeerEvent>) {
    let events = PeerEvents::new();
    let receiver = events.subscribe();
    (PeerPool::new(identity.clone(), AddressBook::new(), config, events, Arc::new(|| 0.5)), receiver)
}

fn server(
    address: SocketAddr,
    identity: &LocalIdentity,
    service: &Arc<Service>,
    config: PeerConfig,
) -> (PeerServer, broadcast::Receiver<PeerEvent>) {
    let events = PeerEvents::new();
    let receiver = events.subscribe();
    let services = Lane::ALL.into_iter().fold(PeerServices::new(), |services, lane| {
        services.with(lane, 1..=9, service.clone() as Arc<dyn PeerService>)
    });
    (PeerServer::bind(address, identity.clone(), services, config, events).expect("binds"), receiver)
}

// Node 1 serves, node 2 calls.
fn pair(config: PeerConfig) -> Pair {
    let cluster = ClusterId::random();
    let (server_identity, pool_identity) = (identity(1, Some(cluster)), identity(2, Some(cluster)));
    let service = Arc::new(Service::default());
    let (server, server_events) = server(loopback(), &server_identity, &service, config.clone());
    let (pool, pool_events) = pool(&pool_identity, config);
    pool.book().set(NodeId(1), server.local_addr().to_string(), None);
    Pair { server, server_identity, server_events, service, pool, pool_identity, pool_events, cluster }
}

async fn closed(events: &mut broadcast::Receiver<PeerEvent>, wanted: Lane) -> (PeerIdentity, ClosedReason) {
    let find = async {
        loop {
            match events.recv().await.expect("a live channel") {
                PeerEvent::Closed { peer, lane, reason, .. } if lane == wanted => return (peer, reason),
                _ => {}
            }
        }
    };
    tokio::time::timeout(LONG, find).await.expect("a closed event")
}

async fn call(pool: &PeerPool, lane: Lane, kind: u16, body: &'static [u8]) -> Result<Bytes, PeerError> {
    pool.call(NodeId(1), lane, kind, vec![Bytes::from_static(body)], LONG).await
}

// Calls until the pool has got over its backoff.
async fn call_again(pool: &PeerPool, lane: Lane, kind: u16) -> Bytes {
    let again = async {
        loop {
            match call(pool, lane, kind, b"again").await {
                Ok(body) => return body,
                Err(error) => assert!(error.is_retriable(), "{error}"),
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, again).await.expect("reconnects")
}

#[tokio::test]
async fn calls_are_answered_on_every_lane() {
    let pair = pair(PeerConfig::default());
    for lane in Lane::ALL {
        assert_eq!(&call(&pair.pool, lane, ECHO, b"hello").await.expect("answered")[..], b"hello");
        pair.pool.ping(NodeId(1), lane, LONG).await.expect("answered");
    }
    let error = call(&pair.pool, Lane::Control, FAIL, b"").await.expect_err("the service refuses");
    assert_eq!(error, PeerError::Service { code: 42, message: "not today".into() });
    assert_eq!(call(&pair.pool, Lane::Control, 10, b"").await, Err(PeerError::UnknownKind(10)));
    assert_eq!(pair.pool.ping(NodeId(5), Lane::Control, LONG).await, Err(PeerError::NoAddress(NodeId(5))));
}

#[tokio::test]
async fn a_large_body_of_many_segments_arrives_as_it_was() {
    let pair = pair(PeerConfig::default());
    let segments: Vec<Bytes> = (0..3000usize).map(|i| Bytes::from(vec![i as u8; (i * 37) % 9001])).collect();
    let whole: Vec<u8> = segments.iter().flat_map(|segment| segment.iter().copied()).collect();
    assert!(whole.len() > 10 << 20);
    for lane in [Lane::Replication, Lane::Control] {
        let echoed = pair.pool.call(NodeId(1), lane, ECHO, segments.clone(), LONG).await.expect("answered");
        assert!(echoed == whole, "{lane}");
    }
    let error =
        pair.pool.call(NodeId(1), Lane::Heartbeat, ECHO, segments, LONG).await.expect_err("above the lane's bound");
    assert!(matches!(error, PeerError::TooLarge { .. }) && !error.is_retriable());
}

#[tokio::test]
async fn a_parked_call_holds_up_nobody() {
    let pair = pair(PeerConfig::default());
    let parked = tokio::spawn({
        let pool = pair.pool.clone();
        async move { call(&pool, Lane::Replication, PARK, b"").await }
    });
    pair.service.parked.pass(1).await;
    assert_eq!(&call(&pair.pool, Lane::Replication, ECHO, b"quick").await.expect("answered")[..], b"quick");
    assert!(!parked.is_finished());
    pair.service.release.open(1);
    assert_eq!(&parked.await.expect("joins").expect("answered")[..], b"released");
}

#[tokio::test]
async fn a_call_that_times_out_is_forgotten_and_its_late_response_dropped() {
    let pair = pair(PeerConfig::default());
    let timeout = Duration::from_millis(1);
    let error = pair.pool.call(NodeId(1), Lane::Control, PARK, Vec::new(), timeout).await.expect_err("parked");
    assert!(matches!(error, PeerError::TimedOut { .. }) && error.is_outcome_unknown());
    pair.service.release.open(1);
    assert_eq!(&call(&pair.pool, Lane::Control, ECHO, b"next").await.expect("answered")[..], b"next");
}

#[tokio::test]
async fn the_wrong_cluster_node_or_directory_is_refused_with_its_reason() {
    let pair = pair(PeerConfig::default());
    let address = pair.server.local_addr().to_string();
    let refused = async |identity: LocalIdentity, node: i32, directory: Option<DirectoryId>| {
        let (pool, _events) = pool(&identity, PeerConfig::default());
        pool.book().set(NodeId(node), &*address, directory);
        match pool.ping(NodeId(node), Lane::Control, LONG).await {
            Err(PeerError::Refused { refusal, answered, .. }) => Some((refusal, answered.node_id)),
            Err(error) => panic!("{error}"),
            Ok(()) => None,
        }
    };
    let ours = Some(pair.cluster);
    let directory = pair.server_identity.current().directory_id;
    assert_eq!(refused(identity(2, ours), 1, Some(directory)).await, None);
    assert_eq!(refused(identity(2, None), 1, None).await, None, "an unformed node may ask");
    let foreign = Some(ClusterId::random());
    assert_eq!(refused(identity(2, foreign), 1, None).await, Some((Refusal::Cluster, NodeId(1))));
    assert_eq!(refused(identity(2, ours), 3, None).await, Some((Refusal::Target, NodeId(1))));
    assert_eq!(refused(identity(2, ours), 1, Some(DirectoryId::random())).await, Some((Refusal::Target, NodeId(1))));
    assert_eq!(refused(identity(1, ours), 1, None).await, Some((Refusal::DuplicateNodeId, NodeId(1))));
}

#[tokio::test]
async fn a_hello_of_another_version_gets_a_typed_answer() {
    let pair = pair(PeerConfig::default());
    let mut stream = TcpStream::connect(pair.server.local_addr()).await.expect("connects");
    let mut greeting = Hello::new(*pair.pool_identity.current(), Lane::Control, NodeId(1), None);
    (greeting.version_min, greeting.version_max) = (VERSION_MAX + 1, VERSION_MAX + 3);
    let reply = hello::greet(&mut stream, &greeting).await.expect("a reply");
    assert_eq!(reply.outcome, Err(Refusal::Version));
    assert_eq!(stream.read(&mut [0; 8]).await.expect("a clean end"), 0);
}

#[tokio::test]
async fn garbage_ends_its_connection_and_no_other() {
    let pair = pair(PeerConfig::default());
    call(&pair.pool, Lane::Control, ECHO, b"before").await.expect("answered");
    let parked = tokio::spawn({
        let pool = pair.pool.clone();
        async move { call(&pool, Lane::Control, PARK, b"").await }
    });
    pair.service.parked.pass(1).await;
    let two_gib = 0x8000_0000u32.to_be_bytes();
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 4096], &two_gib.repeat(16), b"ROOKPEER\xff\xff"]
    {
        let mut stream = TcpStream::connect(pair.server.local_addr()).await.expect("connects");
        stream.write_all(garbage).await.expect("writes");
        assert_ended(&mut stream).await;
    }
    pair.service.release.open(1);
    assert_eq!(&parked.await.expect("joins").expect("answered")[..], b"released");
}

// After a good handshake, a frame whose length prefix says 2 GiB, with and without a header checksum that agrees.
#[tokio::test]
async fn a_length_of_two_gib_ends_the_connection() {
    let mut pair = pair(PeerConfig::default());
    for honest_checksum in [false, true] {
        let mut stream = TcpStream::connect(pair.server.local_addr()).await.expect("connects");
        let greeting = Hello::new(*pair.pool_identity.current(), Lane::Controller, NodeId(1), None);
        hello::greet(&mut stream, &greeting).await.expect("a reply").outcome.expect("accepted");
        let mut header =
            frame::encode(ECHO, Role::Request, 1, Vec::new(), Coverage::All, 0).expect("fits").header.to_vec();
        header[..4].copy_from_slice(&0x8000_0000u32.to_be_bytes());
        if honest_checksum {
            let checksum = crc32c::crc32c(&header[..frame::HEADER_LEN - 4]);
            header[frame::HEADER_LEN - 4..].copy_from_slice(&checksum.to_be_bytes());
        }
        stream.write_all(&header).await.expect("writes");
        assert_ended(&mut stream).await;
        assert_eq!(closed(&mut pair.server_events, Lane::Controller).await.1, ClosedReason::Protocol);
    }
    call(&pair.pool, Lane::Controller, ECHO, b"others").await.expect("unaffected");
}

async fn assert_ended(stream: &mut TcpStream) {
    // Zero bytes, or a reset where the server had not read all of the garbage.
    match tokio::time::timeout(LONG, stream.read(&mut [0; 64])).await.expect("the server closes") {
        Ok(n) => assert_eq!(n, 0, "garbage gets no answer"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[tokio::test]
async fn a_silent_client_is_let_go_after_the_handshake_timeout() {
    let config = PeerConfig { handshake_timeout: Duration::from_millis(50), ..PeerConfig::default() };
    let pair = pair(config);
    let mut stream = TcpStream::connect(pair.server.local_addr()).await.expect("connects");
    assert_ended(&mut stream).await;
}

fn with_in_flight(in_flight_max: usize) -> PeerConfig {
    let mut config = PeerConfig::default();
    config.lanes[Lane::Control as usize].in_flight_max = in_flight_max;
    config
}

#[tokio::test]
async fn calls_in_flight_are_bounded_at_the_caller_and_at_the_server() {
    for (server_max, pool_max) in [(64, 3), (3, 64)] {
        let cluster = Some(ClusterId::random());
        let service = Arc::new(Service::default());
        let (server, _events) = server(loopback(), &identity(1, cluster), &service, with_in_flight(server_max));
        let (pool, _pool_events) = pool(&identity(2, cluster), with_in_flight(pool_max));
        pool.book().set(NodeId(1), server.local_addr().to_string(), None);
        let parked: Vec<_> = (0..3)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { call(&pool, Lane::Control, PARK, b"").await })
            })
            .collect();
        service.parked.pass(3).await;
        let error = call(&pool, Lane::Control, ECHO, b"").await.expect_err("one too many");
        assert!(error == PeerError::Overloaded && error.is_retriable() && !error.is_outcome_unknown());
        service.release.open(3);
        for call in parked {
            call.await.expect("joins").expect("answered");
        }
        call(&pool, Lane::Control, ECHO, b"").await.expect("room again");
    }
}

#[tokio::test]
async fn requests_wait_for_the_lanes_memory_not_for_ever() {
    let mut config = PeerConfig::default();
    let lane = &mut config.lanes[Lane::Control as usize];
    (lane.frame_bytes_max, lane.request_bytes_max) = (1000, 1000);
    let pair = pair(config);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let pool = pair.pool.clone();
            tokio::spawn(async move { call(&pool, Lane::Control, ECHO, &[7; 900]).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.expect("joins").expect("answered").len(), 900);
    }
}

// A node whose process is gone from one moment to the next: its tasks vanish and the kernel closes its sockets.
struct Process(Option<tokio::runtime::Runtime>);

impl Process {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Process(Some(runtime.expect("a runtime")))
    }
    fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.0.as_ref().expect("not killed yet").enter()
    }
    fn kill(&mut self) {
        self.0.take().expect("not killed yet").shutdown_background();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test]
async fn a_killed_server_wakes_its_callers_and_its_port_serves_the_next_process() {
    let cluster = Some(ClusterId::random());
    let service = Arc::new(Service::default());
    let mut process = Process::start();
    let first = identity(1, cluster);
    let first_server = {
        let _inside = process.enter();
        server(loopback(), &first, &service, PeerConfig::default()).0
    };
    let address = first_server.local_addr();
    std::mem::forget(first_server); // a killed process runs no destructor

    let (pool, mut events) = pool(&identity(2, cluster), PeerConfig::default());
    pool.book().set(NodeId(1), address.to_string(), None);
    let parked = tokio::spawn({
        let pool = pool.clone();
        async move { call(&pool, Lane::Heartbeat, PARK, b"").await }
    });
    service.parked.pass(1).await;
    process.kill();
    let error = parked.await.expect("joins").expect_err("the connection is gone");
    assert!(error == PeerError::Closed(NodeId(1)) && error.is_retriable() && error.is_outcome_unknown());
    assert_eq!(closed(&mut events, Lane::Heartbeat).await, (*first.current(), ClosedReason::Lost));

    let refused = pool.ping(NodeId(1), Lane::Heartbeat, LONG).await.expect_err("nobody listens");
    assert!(refused.is_retriable() && !refused.is_outcome_unknown(), "{refused}");
    assert_eq!(pool.probe(NodeId(1), LONG).await, ProbeOutcome::ConnectionRefused);

    let second = identity(1, cluster);
    let (_server, _events) = server(address, &second, &service, PeerConfig::default());
    assert_eq!(&call_again(&pool, Lane::Heartbeat, ECHO).await[..], b"again");
    let probed = pool.probe(NodeId(1), LONG).await;
    assert!(matches!(probed, ProbeOutcome::Answered { identity, .. } if identity == *second.current()), "{probed:?}");
}

#[tokio::test]
async fn a_killed_caller_is_told_to_the_server_with_incarnation_and_epoch() {
    let cluster = Some(ClusterId::random());
    let service = Arc::new(Service::default());
    let (server, mut events) = server(loopback(), &identity(1, cluster), &service, PeerConfig::default());
    let caller = identity(2, cluster);
    let mut process = Process::start();
    {
        let _inside = process.enter();
        let (pool, _events) = pool(&caller, PeerConfig::default());
        pool.book().set(NodeId(1), server.local_addr().to_string(), None);
        tokio::spawn(async move { call(&pool, Lane::Heartbeat, PARK, b"").await });
    }
    service.parked.pass(1).await;
    process.kill();
    assert_eq!(closed(&mut events, Lane::Heartbeat).await, (*caller.current(), ClosedReason::Lost));
}

#[tokio::test]
async fn a_planned_end_says_goodbye_after_the_last_response() {
    let mut pair = pair(PeerConfig::default());
    let parked = tokio::spawn({
        let pool = pair.pool.clone();
        async move { call(&pool, Lane::Heartbeat, PARK, b"").await }
    });
    pair.service.parked.pass(1).await;
    let ending = tokio::spawn(async move { pair.server.shutdown().await });
    pair.service.release.open(1);
    assert_eq!(&parked.await.expect("joins").expect("answered")[..], b"released");
    ending.await.expect("joins");
    assert_eq!(closed(&mut pair.pool_events, Lane::Heartbeat).await.1, ClosedReason::Goodbye);
    pair.pool.shutdown().await;
    assert_eq!(call(&pair.pool, Lane::Heartbeat, ECHO, b"").await, Err(PeerError::ShuttingDown));
}

#[tokio::test]
async fn a_pool_that_ends_says_goodbye_to_the_server() {
    let mut pair = pair(PeerConfig::default());
    call(&pair.pool, Lane::Heartbeat, ECHO, b"").await.expect("answered");
    pair.pool.shutdown().await;
    assert_eq!(closed(&mut pair.server_events, Lane::Heartbeat).await.1, ClosedReason::Goodbye);
}

#[tokio::test]
async fn a_new_epoch_is_told_on_a_new_connection() {
    let mut pair = pair(PeerConfig::default());
    assert_eq!(call(&pair.pool, Lane::Heartbeat, EPOCH, b"").await.expect("answered")[..], 10i64.to_be_bytes());
    pair.pool_identity.set_broker_epoch(BrokerEpoch(11));
    assert_eq!(call(&pair.pool, Lane::Heartbeat, EPOCH, b"").await.expect("answered")[..], 11i64.to_be_bytes());
    let (old, reason) = closed(&mut pair.server_events, Lane::Heartbeat).await;
    assert_eq!((old.broker_epoch, reason), (BrokerEpoch(10), ClosedReason::Goodbye));
}

#[tokio::test]
async fn a_probe_tells_silence_refusal_and_rejection_apart() {
    let pair = pair(PeerConfig::default());
    assert!(matches!(pair.pool.probe(NodeId(1), LONG).await, ProbeOutcome::Answered { .. }));

    pair.pool.book().set(NodeId(1), pair.server.local_addr().to_string(), Some(DirectoryId::random()));
    let rejected = pair.pool.probe(NodeId(1), LONG).await;
    assert!(matches!(rejected, ProbeOutcome::Rejected { refusal: Refusal::Target, .. }), "{rejected:?}");

    // The kernel takes the connection, the process says nothing: it hangs.
    let silent = TcpListener::bind(loopback()).await.expect("binds");
    let address = silent.local_addr().expect("bound").to_string();
    pair.pool.book().set(NodeId(1), address.as_str(), None);
    assert_eq!(pair.pool.probe(NodeId(1), Duration::from_millis(50)).await, ProbeOutcome::TimedOut);

    drop(silent);
    assert_eq!(pair.pool.probe(NodeId(1), LONG).await, ProbeOutcome::ConnectionRefused);
    assert_eq!(pair.pool.probe(NodeId(9), LONG).await, ProbeOutcome::Failed(PeerError::NoAddress(NodeId(9))));
}
