//! One connection to one broker, over Kafka's protocol, with a deadline for everything.

use anyhow::{Context, Result, bail};
use rookery_protocol::SmolStr;
use rookery_protocol::batch::RecordBatchBuilder;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::create_topics::{CreatableReplicaAssignment, CreatableTopic};
use rookery_protocol::messages::header::read_response;
use rookery_protocol::messages::metadata::MetadataRequestTopic;
use rookery_protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use rookery_protocol::messages::{
    CreateTopicsRequest, MetadataRequest, MetadataResponse, ProduceRequest, Request, request_frame,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const CLIENT_ID: &str = "rookery-faults";
/// A broker answers with what it was asked for.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// Versions spoken: old enough for every broker that matters, and by topic name.
const METADATA: i16 = 9;
const PRODUCE: i16 = 9;
const CREATE_TOPICS: i16 = 5;

/// A connection.
pub struct Wire {
    stream: TcpStream,
    correlation_id: i32,
}

impl Wire {
    /// Connect before the deadline.
    pub fn open(address: SocketAddr, deadline: Instant) -> Result<Wire> {
        let stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, correlation_id: 0 })
    }

    /// Ask, and wait for the answer until the deadline. After an error the connection is of no use.
    pub fn ask<R: Request>(&mut self, request: &R, version: i16, deadline: Instant) -> Result<R::Response> {
        self.correlation_id += 1;
        let frame = request_frame(request, version, self.correlation_id, Some(CLIENT_ID))?.into_bytes();
        self.stream.set_write_timeout(Some(left(deadline)?))?;
        self.stream.write_all(&frame)?;
        let mut length = [0; 4];
        self.read(&mut length, deadline)?;
        let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|l| *l <= FRAME_BYTES_MAX);
        let mut body = vec![0; length.context("that is no Kafka answer")?];
        self.read(&mut body, deadline)?;
        let (header, response) = read_response::<R>(body.into(), version)?;
        if header.correlation_id != self.correlation_id {
            bail!("the broker answered another request");
        }
        Ok(response)
    }

    fn read(&mut self, mut into: &mut [u8], deadline: Instant) -> Result<()> {
        while !into.is_empty() {
            self.stream.set_read_timeout(Some(left(deadline)?))?;
            let got = self.stream.read(into)?;
            if got == 0 {
                bail!("the broker closed the connection");
            }
            into = &mut into[got..];
        }
        Ok(())
    }

    /// Brokers and topics; all topics for `None`.
    pub fn metadata(&mut self, topic: Option<&str>, deadline: Instant) -> Result<MetadataResponse> {
        let named = |name| vec![MetadataRequestTopic { name: Some(SmolStr::new(name)), ..Default::default() }];
        let request =
            MetadataRequest { topics: topic.map(named), allow_auto_topic_creation: false, ..Default::default() };
        self.ask(&request, METADATA, deadline)
    }

    /// Write one record with acks=all; its offset.
    pub fn produce(&mut self, topic: &str, p: i32, value: i64, deadline: Instant) -> Result<Answer> {
        let mut batch = RecordBatchBuilder::new();
        batch.push(0, None, Some(value.to_string().as_bytes()), &[]);
        let timeout = left(deadline)?.as_millis();
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: i32::try_from(timeout).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: SmolStr::new(topic),
                partition_data: vec![PartitionProduceData {
                    index: p,
                    records: Some(batch.build()?.into_bytes().into()),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = self.ask(&request, PRODUCE, deadline)?;
        let answer = response.responses.first().and_then(|t| t.partition_responses.first());
        let answer = answer.context("the broker said nothing of the partition")?;
        Ok(match answer.error_code {
            0 => Answer::Written(answer.base_offset),
            code => Answer::Refused(explain(code)),
        })
    }

    /// Create a topic whose replicas are placed by hand: the first of each is the one that should lead.
    pub fn create_topic(&mut self, name: &str, replicas: &[Vec<i32>], deadline: Instant) -> Result<()> {
        let assignment = |(p, brokers): (i32, &Vec<i32>)| CreatableReplicaAssignment {
            partition_index: p,
            broker_ids: brokers.clone(),
        };
        let topic = CreatableTopic {
            name: SmolStr::new(name),
            num_partitions: -1,
            replication_factor: -1,
            assignments: (0..).zip(replicas).map(assignment).collect(),
            configs: vec![config("min.insync.replicas", "2")],
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let response = self.ask(&request, CREATE_TOPICS, deadline)?;
        let result = response.topics.first().context("the broker said nothing of the topic")?;
        match result.error_code {
            0 => Ok(()),
            code if code == ErrorCode::TopicAlreadyExists.code() => Ok(()),
            code => bail!("creating topic {name}: {}", explain(code)),
        }
    }
}

fn config(name: &str, value: &str) -> rookery_protocol::messages::create_topics::CreatableTopicConfig {
    rookery_protocol::messages::create_topics::CreatableTopicConfig {
        name: SmolStr::new(name),
        value: Some(SmolStr::new(value)),
    }
}

/// What a broker said to a record.
#[derive(Debug)]
pub enum Answer {
    /// It is there.
    Written(i64),
    /// It said no; some errors leave open whether the record stays.
    Refused(String),
}

/// A code in words.
pub fn explain(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |e| e.name().to_owned())
}

/// Time until the deadline.
pub fn left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        bail!("no time left");
    }
    Ok(left)
}
