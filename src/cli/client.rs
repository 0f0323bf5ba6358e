//! A small Kafka client for the command line: connects, finds leaders, asks.
//!
//! It asks each API in the highest version that both sides know, and tries again where Kafka says that trying again
//! helps, until its time is over.

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::header::read_response;
use rookery_protocol::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use rookery_protocol::messages::{ApiVersionsRequest, MetadataRequest, MetadataResponse, Request, request_frame};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const CLIENT_ID: &str = "rookery-cli";
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// A broker answers with what it was asked for; more is no Kafka broker.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// One connection to one broker.
struct Connection {
    stream: TcpStream,
    /// Highest version of each API that the broker offers.
    offered: BTreeMap<i16, i16>,
    correlation_id: i32,
}

impl Connection {
    async fn open(address: &str) -> Result<Connection> {
        let connecting = TcpStream::connect(address);
        let stream = timeout(CONNECT_MAX, connecting)
            .await
            .map_err(|_| anyhow::anyhow!("no answer within {} s", CONNECT_MAX.as_secs()))
            .and_then(|connected| Ok(connected?))
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let mut connection = Connection { stream, offered: BTreeMap::new(), correlation_id: 0 };
        let hello = ApiVersionsRequest {
            client_software_name: CLIENT_ID.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        // A node that hangs still accepts connections: another one may answer now.
        let answer = timeout(CONNECT_MAX, connection.exchange(&hello, 3))
            .await
            .map_err(|_| anyhow::anyhow!("{address} gave no answer within {} s", CONNECT_MAX.as_secs()))?
            .with_context(|| format!("{address} does not speak Kafka"))?;
        connection.offered = answer.api_keys.iter().map(|row| (row.api_key, row.max_version)).collect();
        Ok(connection)
    }

    async fn ask<R: Request>(&mut self, request: &R, version_max: i16) -> Result<(R::Response, i16)> {
        let offered =
            *self.offered.get(&(R::KEY as i16)).with_context(|| format!("the broker has no {}", R::KEY.name()))?;
        let version = offered.min(*R::VERSIONS.end()).min(version_max);
        Ok((self.exchange(request, version).await?, version))
    }

    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = request_frame(request, version, self.correlation_id, Some(CLIENT_ID))?;
        for piece in frame.parts() {
            self.stream.write_all(piece).await?;
        }
        let length = self.stream.read_i32().await.context("the broker closed the connection")?;
        let length =
            usize::try_from(length).ok().filter(|l| *l <= FRAME_BYTES_MAX).context("that is no Kafka answer")?;
        let mut body = BytesMut::zeroed(length);
        self.stream.read_exact(&mut body).await.context("the broker closed the connection")?;
        let (header, response) = read_response::<R>(body.freeze(), version)?;
        if header.correlation_id != self.correlation_id {
            bail!("the broker answered another request");
        }
        Ok(response)
    }
}

/// A cluster, reached through any of its nodes.
pub struct KafkaClient {
    bootstrap: Vec<String>,
    connections: BTreeMap<String, Connection>,
    brokers: BTreeMap<i32, String>,
    /// How long anything may take.
    pub patience: Duration,
}

impl KafkaClient {
    /// A client of the nodes at these addresses, comma-separated.
    pub fn new(bootstrap: &str) -> Result<KafkaClient> {
        let bootstrap: Vec<String> =
            bootstrap.split(',').map(str::trim).filter(|a| !a.is_empty()).map(str::to_owned).collect();
        if bootstrap.is_empty() || bootstrap.iter().any(|a| !a.contains(':')) {
            bail!("--bootstrap needs HOST:PORT, comma-separated");
        }
        Ok(KafkaClient {
            bootstrap,
            connections: BTreeMap::new(),
            brokers: BTreeMap::new(),
            patience: Duration::from_secs(30),
        })
    }

    /// Ask any node.
    pub async fn ask_any<R: Request>(&mut self, request: &R) -> Result<R::Response> {
        let mut known: Vec<String> = self.brokers.values().cloned().collect();
        known.extend(self.bootstrap.iter().cloned());
        let mut last = None;
        for address in known {
            match self.ask_at(&address, request, i16::MAX).await {
                Ok((response, _)) => return Ok(response),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("there is at least one bootstrap address"))
    }

    /// Ask one node; also returns the version that was spoken.
    pub async fn ask_node<R: Request>(
        &mut self,
        node: i32,
        request: &R,
        version_max: i16,
    ) -> Result<(R::Response, i16)> {
        let address =
            self.brokers.get(&node).cloned().with_context(|| format!("no address is known of node {node}"))?;
        self.ask_at(&address, request, version_max).await
    }

    async fn ask_at<R: Request>(&mut self, address: &str, request: &R, version_max: i16) -> Result<(R::Response, i16)> {
        let mut connection = match self.connections.remove(address) {
            Some(open) => open,
            None => Connection::open(address).await?,
        };
        let answered = timeout(self.patience, connection.ask(request, version_max))
            .await
            .map_err(|_| anyhow::anyhow!("{address} did not answer within {} s", self.patience.as_secs()))?;
        // A connection that failed is not used again.
        if answered.is_ok() {
            self.connections.insert(address.to_owned(), connection);
        }
        answered
    }

    /// Brokers and, if named, topics; all topics for `None`.
    pub async fn metadata(&mut self, topics: Option<&[&str]>) -> Result<MetadataResponse> {
        let wanted = |name: &&str| MetadataRequestTopic { name: Some(SmolStr::new(name)), ..Default::default() };
        let request = MetadataRequest {
            topics: topics.map(|names| names.iter().map(wanted).collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.ask_any(&request).await?;
        self.brokers = response.brokers.iter().map(|b| (b.node_id, format!("{}:{}", b.host, b.port))).collect();
        Ok(response)
    }

    /// A topic, once every partition of it has a leader.
    pub async fn topic_with_leaders(&mut self, name: &str) -> Result<MetadataResponseTopic> {
        let deadline = Instant::now() + self.patience;
        loop {
            let looked = self.metadata(Some(&[name])).await;
            let waiting = match looked {
                Ok(metadata) => match metadata.topics.into_iter().next() {
                    Some(topic) if topic.error_code == 0 && topic.partitions.iter().all(|p| p.leader_id >= 0) => {
                        return Ok(topic);
                    }
                    Some(topic) if !is_retriable(topic.error_code) => {
                        bail!("topic {name}: {}", explain(topic.error_code))
                    }
                    Some(topic) if topic.error_code == ErrorCode::UnknownTopicOrPartition.code() => {
                        bail!("there is no topic {name}: create it with `rookery topic create {name}`")
                    }
                    _ => "not every partition has a leader".to_owned(),
                },
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() >= deadline {
                bail!("topic {name}: {waiting}");
            }
            sleep(super::client_pause()).await;
        }
    }
}

/// Whether Kafka says that trying again helps.
pub fn is_retriable(code: i16) -> bool {
    ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable)
}

/// A code with its name and meaning.
pub fn explain(code: i16) -> String {
    match ErrorCode::from_code(code) {
        Some(error) => format!("{} ({})", error.name(), error.message()),
        None => format!("error {code}"),
    }
}

/// `Err` with what the broker said, unless it said that all is well.
pub fn check(code: i16, message: Option<&SmolStr>) -> Result<()> {
    match (code, message) {
        (0, _) => Ok(()),
        (code, Some(message)) if !message.is_empty() => {
            bail!("{}: {message}", ErrorCode::from_code(code).map_or("error", ErrorCode::name))
        }
        (code, _) => bail!("{}", explain(code)),
    }
}

/// Bytes as people read them; what is no text is shown as such.
pub fn shown(bytes: &Bytes) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
