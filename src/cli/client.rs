//! A small Kafka client for the command line: connects, finds leaders, asks.
//!
//! It asks each API in the highest version that both sides know, and tries again where Kafka says that trying again
//! helps, until its time is over. Whoever waits is told for what and why.

use super::output::say;
use super::tries::{Hopeless, Tries};
use anyhow::{Context, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::header::read_response;
use rookery_protocol::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use rookery_protocol::messages::{ApiVersionsRequest, MetadataRequest, MetadataResponse, Request, request_frame};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// What this client calls itself.
pub const CLIENT_ID: &str = "rookery-cli";
const CONNECT_MAX: Duration = Duration::from_secs(3);
const RESOLVE_MAX: Duration = Duration::from_secs(5);
/// Anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who waits longer is told for what.
const SILENCE_MAX: Duration = Duration::from_millis(700);
/// A cluster without any node would fill the screen.
const FAILURES_TOLD_MAX: usize = 5;

/// A broker answers with what it was asked for; more is no Kafka broker.
pub const FRAME_BYTES_MAX: usize = 256 << 20;

/// Highest version of each API that a broker offers.
pub struct Offered(BTreeMap<i16, i16>);

impl Offered {
    /// The highest version of a request that both sides know, at most `version_max`.
    pub fn version<R: Request>(&self, version_max: i16) -> Result<i16> {
        let offered = self.0.get(&(R::KEY as i16)).with_context(|| format!("the broker has no {}", R::KEY.name()))?;
        Ok((*offered).min(*R::VERSIONS.end()).min(version_max))
    }
}

/// One connection to one broker.
pub struct Connection {
    stream: TcpStream,
    offered: Offered,
    correlation_id: i32,
}

impl Connection {
    /// Connects and asks what the broker speaks.
    pub async fn open(address: &str) -> Result<Connection> {
        let found = resolve(address).await?;
        let stream = timeout(CONNECT_MAX, TcpStream::connect(found.as_slice()))
            .await
            .map_err(|_| anyhow!("no answer within {} s", CONNECT_MAX.as_secs()))
            .and_then(|connected| Ok(connected?))
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let mut connection = Connection { stream, offered: Offered(BTreeMap::new()), correlation_id: 0 };
        let hello = ApiVersionsRequest {
            client_software_name: CLIENT_ID.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        // A node that hangs still accepts connections: another one may answer now.
        let answer = timeout(CONNECT_MAX, connection.exchange(&hello, 3))
            .await
            .map_err(|_| anyhow!("{address} gave no answer within {} s", CONNECT_MAX.as_secs()))?
            .with_context(|| format!("{address} does not speak Kafka"))?;
        connection.offered = Offered(answer.api_keys.iter().map(|row| (row.api_key, row.max_version)).collect());
        Ok(connection)
    }

    async fn ask<R: Request>(&mut self, request: &R, version_max: i16) -> Result<(R::Response, i16)> {
        let version = self.offered.version::<R>(version_max)?;
        Ok((self.exchange(request, version).await?, version))
    }

    /// The socket, for who has several requests under way. Nothing is.
    pub fn into_parts(self) -> (TcpStream, Offered) {
        (self.stream, self.offered)
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

/// A name without address will hardly get one soon.
async fn resolve(address: &str) -> Result<Vec<SocketAddr>> {
    let found = timeout(RESOLVE_MAX, lookup_host(address)).await.with_context(|| {
        format!("cannot resolve {address}: the name service did not answer within {} s", RESOLVE_MAX.as_secs())
    })?;
    let why = match found.map(Vec::from_iter) {
        Ok(found) if !found.is_empty() => return Ok(found),
        Ok(_) => "the name has no address".to_owned(),
        Err(error) => error.to_string(),
    };
    let why = why.strip_prefix("failed to lookup address information: ").unwrap_or(&why);
    Err(Hopeless(format!("cannot resolve {address}: {why}")).into())
}

/// `HOST:PORT,...`: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap(Vec<String>);

impl FromStr for Bootstrap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let addresses: Vec<String> =
            text.split(',').map(str::trim).filter(|a| !a.is_empty()).map(str::to_owned).collect();
        let fits = |address: &String| {
            address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        match addresses.iter().find(|a| !fits(a)) {
            Some(wrong) => Err(format!("`{wrong}` is not HOST:PORT, such as 127.0.0.1:9092")),
            None if addresses.is_empty() => Err("expected HOST:PORT, such as 127.0.0.1:9092".to_owned()),
            None => Ok(Self(addresses)),
        }
    }
}

impl Bootstrap {
    /// The addresses.
    pub fn addresses(&self) -> &[String] {
        &self.0
    }

    /// Of one node.
    pub fn one(address: String) -> Self {
        Self(vec![address])
    }
}

/// A cluster, reached through any of its nodes.
pub struct KafkaClient {
    bootstrap: Vec<String>,
    connections: BTreeMap<String, Connection>,
    brokers: BTreeMap<i32, String>,
    /// For whom it was said last that an answer is waited for.
    awaited: Option<String>,
}

impl KafkaClient {
    /// A client of the nodes at these addresses.
    pub fn new(Bootstrap(bootstrap): Bootstrap) -> KafkaClient {
        KafkaClient { bootstrap, connections: BTreeMap::new(), brokers: BTreeMap::new(), awaited: None }
    }

    /// Addresses of the brokers, as the metadata had them last.
    pub fn brokers(&self) -> &BTreeMap<i32, String> {
        &self.brokers
    }

    /// Try until it succeeds, or until no further try is of use.
    pub async fn patiently<T>(&mut self, mut once: impl AsyncFnMut(&mut KafkaClient) -> Result<T>) -> Result<T> {
        let mut tries = KafkaClient::tries();
        loop {
            match once(self).await {
                Ok(done) => return Ok(done),
                Err(error) => tries.failed(error).await?,
            }
        }
    }

    /// From now on, for as long as anything may take.
    pub fn tries() -> Tries {
        Tries::new(PATIENCE)
    }

    /// Ask any node.
    pub async fn ask_any<R: Request>(&mut self, request: &R) -> Result<R::Response> {
        let mut known: Vec<String> = self.brokers.values().cloned().collect();
        known.extend(self.bootstrap.iter().filter(|a| !self.brokers.values().any(|b| b == *a)).cloned());
        let mut failures = Vec::new();
        for address in known {
            match self.ask_at(&address, request, i16::MAX).await {
                Ok((response, _)) => return Ok(response),
                Err(error) => failures.push(error),
            }
        }
        let mut told: Vec<String> = failures.iter().take(FAILURES_TOLD_MAX).map(|e| format!("{e:#}")).collect();
        if failures.len() > told.len() {
            told.push(format!("and {} more", failures.len() - told.len()));
        }
        let told = told.join("; ");
        if failures.iter().all(|e| e.is::<Hopeless>()) { Err(Hopeless(told).into()) } else { Err(anyhow!(told)) }
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
        let connection = self.connections.remove(address);
        let mut asking = pin!(timeout(PATIENCE, async {
            let mut connection = match connection {
                Some(open) => open,
                None => Connection::open(address).await?,
            };
            let answer = connection.ask(request, version_max).await.with_context(|| format!("asked {address}"))?;
            Ok::<_, anyhow::Error>((connection, answer))
        }));
        let asked = match timeout(SILENCE_MAX, &mut asking).await {
            Ok(asked) => asked,
            Err(_) => {
                if self.awaited.as_deref() != Some(address) {
                    say(format_args!("waiting for an answer from {address}"));
                    self.awaited = Some(address.to_owned());
                }
                asking.await
            }
        };
        // A connection that failed is not used again.
        let (connection, answer) =
            asked.map_err(|_| anyhow!("{address} did not answer within {} s", PATIENCE.as_secs()))??;
        self.connections.insert(address.to_owned(), connection);
        Ok(answer)
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

    /// A topic, if every partition of it has a leader now.
    pub async fn topic_with_leaders(&mut self, name: &str) -> Result<MetadataResponseTopic> {
        let topic = self.topic(name).await?;
        if topic.error_code == ErrorCode::UnknownTopicOrPartition.code() {
            let why = format!("there is no topic {name}: create it with `rookery topic create {name}`");
            return Err(Hopeless(why).into());
        }
        led(topic)
    }

    /// A topic that was created just now: the node that is asked may hear of it a moment later.
    pub async fn created_topic(&mut self, name: &str) -> Result<MetadataResponseTopic> {
        led(self.topic(name).await?)
    }

    /// Who leads which partition of a topic, as far as it has leaders now.
    pub async fn leaders(&mut self, topic: &str) -> Result<Vec<(i32, i32)>> {
        let partitions = self.topic(topic).await?.partitions.into_iter();
        Ok(partitions.filter(|p| p.leader_id >= 0).map(|p| (p.partition_index, p.leader_id)).collect())
    }

    /// What the cluster says of one topic.
    pub async fn topic(&mut self, name: &str) -> Result<MetadataResponseTopic> {
        let topic = self.metadata(Some(&[name])).await?.topics.into_iter().next();
        topic.with_context(|| format!("the broker said nothing of topic {name}"))
    }
}

/// The topic, if every partition of it has a leader.
fn led(topic: MetadataResponseTopic) -> Result<MetadataResponseTopic> {
    let name = topic.name.as_deref().unwrap_or_default();
    check(topic.error_code, None).with_context(|| format!("topic {name}"))?;
    match topic.partitions.iter().filter(|p| p.leader_id < 0).count() {
        0 => Ok(topic),
        without => bail!("topic {name}: {without} of {} partitions have no leader", topic.partitions.len()),
    }
}

/// `Err` with what the broker said, unless it said that all is well.
pub fn check(code: i16, message: Option<&SmolStr>) -> Result<()> {
    let error = ErrorCode::from_code(code);
    let told = match (error, message) {
        (Some(ErrorCode::None), _) => return Ok(()),
        (error, Some(message)) if !message.is_empty() => {
            format!("{}: {message}", error.map_or("error", ErrorCode::name))
        }
        (Some(error), _) => format!("{} ({})", error.name(), error.message()),
        (None, _) => format!("error {code}"),
    };
    // Kafka says whether trying again helps.
    if error.is_some_and(ErrorCode::is_retriable) { Err(anyhow!(told)) } else { Err(Hopeless(told).into()) }
}

/// Bytes as people read them; what is no text is shown as such.
pub fn shown(bytes: &Bytes) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_just_created_was_given_up_where_a_node_had_not_heard_of_it() {
        let unknown = MetadataResponseTopic {
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            name: Some("t".into()),
            ..Default::default()
        };
        assert!(!led(unknown).unwrap_err().is::<Hopeless>(), "another try helps");
    }
}
