//! `rookery produce`: each line of standard input becomes a record, written once even if it has to be sent twice.

use super::client::{KafkaClient, check};
use super::output::say;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use rookery_protocol::batch::RecordBatchBuilder;
use rookery_protocol::codec::{Records, SmolStr};
use rookery_protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use rookery_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use std::io::IsTerminal;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{Instant, timeout_at};

/// Write records: one for each line of standard input
#[derive(Args)]
pub struct ProduceArguments {
    /// The topic
    topic: String,
    /// Split each line at the first of these into key and value
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    #[command(flatten)]
    cluster: super::ClusterAddress,
}

/// Records go out when so many bytes of them wait, or when the first of them has waited so long.
const BATCH_BYTES: usize = 256 << 10;
const LINGER: Duration = Duration::from_millis(20);
/// Version 12 is the last that names topics.
const PRODUCE_VERSION_MAX: i16 = 12;

struct Producer {
    client: KafkaClient,
    topic: String,
    producer_id: i64,
    /// Leader and next sequence of each partition.
    partitions: Vec<(i32, i32)>,
    next: usize,
}

/// Send all lines; says how many at the end.
pub async fn run(arguments: ProduceArguments) -> Result<()> {
    let mut client = arguments.cluster.client();
    let topic = client.patiently(async |client| client.topic_with_leaders(&arguments.topic).await).await?;
    let producer_id = client.patiently(producer_id).await?;
    let mut leaders: Vec<_> = topic.partitions.iter().map(|p| (p.partition_index, p.leader_id)).collect();
    leaders.sort_unstable();
    let partitions = leaders.into_iter().map(|(_, leader)| (leader, 0)).collect();
    let mut producer = Producer { client, topic: arguments.topic, producer_id, partitions, next: 0 };
    if std::io::stdin().is_terminal() {
        say(format_args!("each line becomes a record of topic {}; end with Ctrl-D", producer.topic));
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut batch = RecordBatchBuilder::new();
    let mut sent = 0usize;
    // Input may be slow, and endless: what waits goes out in time.
    let mut due = Instant::now();
    loop {
        let next =
            if batch.is_empty() { Ok(lines.next_line().await) } else { timeout_at(due, lines.next_line()).await };
        let Ok(next) = next else {
            sent += producer.send(std::mem::take(&mut batch)).await?;
            continue;
        };
        let Some(line) = next.context("standard input")? else { break };
        let (key, value) = match arguments.key_separator.as_ref().and_then(|s| line.split_once(s.as_str())) {
            Some((key, value)) => (Some(key.as_bytes()), value),
            None => (None, line.as_str()),
        };
        if batch.is_empty() {
            due = Instant::now() + LINGER;
        }
        batch.push(now_ms(), key, Some(value.as_bytes()), &[]);
        if batch.plain_size() >= BATCH_BYTES {
            sent += producer.send(std::mem::take(&mut batch)).await?;
        }
    }
    sent += producer.send(batch).await?;
    say(format_args!("{sent} records written and acknowledged by every in-sync replica"));
    Ok(())
}

/// A new one, with epoch 0.
pub async fn producer_id(client: &mut KafkaClient) -> Result<i64> {
    let request =
        InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: 60_000, ..Default::default() };
    let response = client.ask_any(&request).await?;
    check(response.error_code, None).context("a producer id")?;
    Ok(response.producer_id)
}

impl Producer {
    /// One batch to the next partition, until it is acknowledged or patience is over.
    async fn send(&mut self, batch: RecordBatchBuilder) -> Result<usize> {
        if batch.is_empty() {
            return Ok(0);
        }
        let Producer { client, topic, producer_id, partitions, next } = self;
        let count = batch.len();
        let partition = *next;
        *next = (*next + 1) % partitions.len();
        let sequence = partitions[partition].1;
        let bytes = batch.producer(*producer_id, 0, sequence).build()?.into_bytes();
        let mut again = false;
        let sent = client.patiently(async |client| {
            if again {
                for (partition, leader) in client.leaders(topic).await.unwrap_or_default() {
                    if let Some(slot) = usize::try_from(partition).ok().and_then(|i| partitions.get_mut(i)) {
                        slot.0 = leader;
                    }
                }
            }
            again = true;
            try_send(client, topic, (partition, partitions[partition].0), bytes.clone()).await
        });
        sent.await?;
        let sent = i32::try_from(count).context("a batch of too many records")?;
        partitions[partition].1 = sequence.checked_add(sent).unwrap_or(0);
        Ok(count)
    }
}

async fn try_send(
    client: &mut KafkaClient,
    topic: &str,
    (partition, leader): (usize, i32),
    batch: Bytes,
) -> Result<()> {
    let index = i32::try_from(partition).context("a partition's number")?;
    let data = PartitionProduceData { index, records: Some(Records::from(batch)) };
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: SmolStr::new(topic),
            partition_data: vec![data],
            ..Default::default()
        }],
    };
    let (response, _) = client.ask_node(leader, &request, PRODUCE_VERSION_MAX).await?;
    let answer = response.responses.first().and_then(|t| t.partition_responses.first());
    let Some(answer) = answer else { bail!("the broker said nothing of the records") };
    check(answer.error_code, answer.error_message.as_ref())
        .with_context(|| format!("topic {topic} partition {partition}"))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
