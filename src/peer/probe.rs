//! "Is that process there?", asked on a fresh connection.

use super::connection::{dial, goodbye};
use super::frame::{self, Coverage, Outbound, Role};
use super::service::KIND_PING;
use super::{Lane, PeerAddress, PeerConfig, PeerError, PeerIdentity, Refusal};
use rookery_raft::ids::NodeId;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What asking showed. Each is evidence of its own weight; this room draws no conclusion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The process answered a ping. Compare its incarnation: another one means that the earlier process is gone.
    Answered {
        /// Who answered.
        identity: PeerIdentity,
        /// From the first packet to the answer.
        elapsed: Duration,
    },
    /// The host's kernel says that nobody listens there: the process is gone.
    ConnectionRefused,
    /// No answer in time: host gone, network cut, or process hanging.
    TimedOut,
    /// A process answered, but refuses us; it is alive, though perhaps not the one that was meant.
    Rejected {
        /// Why.
        refusal: Refusal,
        /// Who answered.
        identity: PeerIdentity,
    },
    /// Anything else: no address, no route, reset on the way, another protocol.
    Failed(PeerError),
}

pub(super) async fn probe(
    node: NodeId,
    entry: &PeerAddress,
    local: &PeerIdentity,
    config: &PeerConfig,
    timeout: Duration,
) -> ProbeOutcome {
    let started = Instant::now();
    // One limit for all of it: the ones within must not come first.
    let within = timeout.saturating_mul(2);
    let config = PeerConfig { connect_timeout: within, handshake_timeout: within, ..config.clone() };
    let asked = async {
        let (mut stream, identity) = dial(node, Lane::Probe, entry, local, &config).await?;
        ping(&mut stream, config.lane(Lane::Probe).frame_bytes_max)
            .await
            .map_err(|error| PeerError::Handshake { node, detail: error.to_string().into() })?;
        Ok(identity)
    };
    match tokio::time::timeout(timeout, asked).await {
        Ok(Ok(identity)) => ProbeOutcome::Answered { identity, elapsed: started.elapsed() },
        Ok(Err(PeerError::Refused { refusal, answered, .. })) => ProbeOutcome::Rejected { refusal, identity: answered },
        Ok(Err(PeerError::Connect { kind: io::ErrorKind::ConnectionRefused, .. })) => ProbeOutcome::ConnectionRefused,
        Ok(Err(PeerError::Connect { kind: io::ErrorKind::TimedOut, .. })) | Err(_) => ProbeOutcome::TimedOut,
        Ok(Err(error)) => ProbeOutcome::Failed(error),
    }
}

async fn ping(stream: &mut TcpStream, limit: usize) -> Result<(), frame::FrameError> {
    let Outbound { header, .. } =
        frame::encode(KIND_PING, Role::Request, 1, Vec::new(), Coverage::All, 0).expect("an empty body always fits");
    stream.write_all(&header).await?;
    let answer = frame::read_header(stream, limit).await?.ok_or(frame::FrameError::Truncated)?;
    frame::read_body(stream, &answer).await?;
    if (answer.kind, answer.role, answer.correlation) != (KIND_PING, Role::Response, 1) {
        return Err(frame::FrameError::Role);
    }
    // A courtesy; the answer is in hand.
    let _ = stream.write_all(&goodbye().header).await;
    Ok(())
}
