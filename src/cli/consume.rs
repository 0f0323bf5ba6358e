//! `rookery consume`: records to standard output, one a line.

use super::client::{KafkaClient, check, shown};
use super::output::{Results, reader_gone};
use super::tries::Tries;
use anyhow::{Result, bail};
use clap::Args;
use rookery_protocol::batch::{Record, RecordBatches};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::messages::fetch::{FetchPartition, FetchTopic};
use rookery_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use rookery_protocol::messages::{FetchRequest, ListOffsetsRequest};
use std::collections::BTreeMap;
use std::io::Write;

/// Read records: one a line, from now on or from the beginning
#[derive(Args)]
pub struct ConsumeArguments {
    /// The topic
    topic: String,
    /// Begin with the oldest record instead of what comes from now on
    #[arg(long)]
    from_beginning: bool,
    /// End after what was there at the start
    #[arg(long)]
    exit_at_end: bool,
    /// End after so many records
    #[arg(long, value_name = "N")]
    max_messages: Option<usize>,
    /// Also print partition, offset, timestamp and key
    #[arg(long)]
    details: bool,
    #[command(flatten)]
    cluster: super::ClusterAddress,
}

/// Stand for offsets, where a time is asked for.
pub const EARLIEST: i64 = -2;
pub const LATEST: i64 = -1;
/// Version 12 is the last that names topics.
const FETCH_VERSION_MAX: i16 = 12;
const RECORD_BYTES_MAX: usize = 256 << 20;

struct Position {
    leader: i32,
    offset: i64,
    /// Where to end, if at all.
    end: Option<i64>,
}

/// Print until told to stop, or until nobody reads it.
pub async fn run(arguments: ConsumeArguments) -> Result<()> {
    tokio::select! {
        done = consume(arguments) => done,
        () = reader_gone() => Ok(()),
    }
}

async fn consume(arguments: ConsumeArguments) -> Result<()> {
    let ConsumeArguments { topic, from_beginning, exit_at_end, max_messages, details, cluster } = arguments;
    let mut client = cluster.client();
    let mut positions =
        client.patiently(async |client| start(client, &topic, from_beginning, exit_at_end).await).await?;
    let mut left = max_messages.unwrap_or(usize::MAX);
    let mut out = std::io::BufWriter::new(Results::new());
    let mut failing: Option<Tries> = None;
    while left > 0 && positions.values().any(|p| p.end.is_none_or(|end| p.offset < end)) {
        let leaders: std::collections::BTreeSet<i32> =
            positions.values().filter(|p| p.end.is_none_or(|end| p.offset < end)).map(|p| p.leader).collect();
        let mut trouble = None;
        for leader in leaders {
            match fetch(&mut client, &topic, leader, &mut positions).await {
                Ok(records) => {
                    for (partition, record) in records.into_iter().take(left) {
                        left -= 1;
                        print(&mut out, details, partition, &record)?;
                    }
                }
                Err(error) => trouble = Some(error),
            }
        }
        out.flush()?;
        let Some(error) = trouble else {
            failing = None;
            continue;
        };
        failing.get_or_insert_with(KafkaClient::tries).failed(error).await?;
        for (partition, leader) in client.leaders(&topic).await.unwrap_or_default() {
            if let Some(position) = positions.get_mut(&partition) {
                position.leader = leader;
            }
        }
    }
    Ok(())
}

async fn start(
    client: &mut KafkaClient,
    topic: &str,
    from_beginning: bool,
    exit_at_end: bool,
) -> Result<BTreeMap<i32, Position>> {
    let mut positions = BTreeMap::new();
    for p in client.topic_with_leaders(topic).await?.partitions {
        let at = if from_beginning { EARLIEST } else { LATEST };
        let offset = list_offset(client, topic, p.leader_id, p.partition_index, at).await?;
        let end = if exit_at_end {
            Some(list_offset(client, topic, p.leader_id, p.partition_index, LATEST).await?)
        } else {
            None
        };
        positions.insert(p.partition_index, Position { leader: p.leader_id, offset, end });
    }
    Ok(positions)
}

/// A leader that has just begun does not know the end yet (KIP-207), which is a retriable error.
pub async fn list_offset(
    client: &mut KafkaClient,
    topic: &str,
    leader: i32,
    partition: i32,
    timestamp: i64,
) -> Result<i64> {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: SmolStr::new(topic),
            partitions: vec![ListOffsetsPartition { partition_index: partition, timestamp, ..Default::default() }],
        }],
        ..Default::default()
    };
    let (response, _) = client.ask_node(leader, &request, i16::MAX).await?;
    let answer = response.topics.first().and_then(|t| t.partitions.first());
    let Some(answer) = answer else { bail!("the broker said nothing of partition {partition}") };
    check(answer.error_code, None)?;
    Ok(answer.offset)
}

async fn fetch(
    client: &mut KafkaClient,
    topic: &str,
    leader: i32,
    positions: &mut BTreeMap<i32, Position>,
) -> Result<Vec<(i32, Record)>> {
    let wanted = |(partition, position): (&i32, &Position)| FetchPartition {
        partition: *partition,
        fetch_offset: position.offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let mine = positions.iter().filter(|(_, p)| p.leader == leader && p.end.is_none_or(|end| p.offset < end));
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 16 << 20,
        topics: vec![FetchTopic {
            topic: SmolStr::new(topic),
            partitions: mine.map(wanted).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let (response, _) = client.ask_node(leader, &request, FETCH_VERSION_MAX).await?;
    check(response.error_code, None)?;
    let mut records = Vec::new();
    for answer in response.responses.into_iter().flat_map(|t| t.partitions) {
        check(answer.error_code, None)?;
        let Some(position) = positions.get_mut(&answer.partition_index) else { continue };
        for batch in RecordBatches::new(answer.records.unwrap_or_default().into_bytes()) {
            // The last batch may be cut: it comes whole with the next fetch.
            let Ok(batch) = batch else { break };
            let next = batch.next_offset();
            if !batch.header().is_control() {
                for record in batch.records(RECORD_BYTES_MAX)? {
                    let record = record?;
                    if record.offset >= position.offset && position.end.is_none_or(|end| record.offset < end) {
                        records.push((answer.partition_index, record));
                    }
                }
            }
            position.offset = next;
        }
    }
    Ok(records)
}

fn print(out: &mut impl Write, details: bool, partition: i32, record: &Record) -> Result<()> {
    if details {
        let key = record.key.as_ref().map_or("null".into(), shown);
        write!(out, "{partition}\t{}\t{}\t{key}\t", record.offset, record.timestamp)?;
    }
    // As they are: a value need not be text.
    out.write_all(record.value.as_deref().unwrap_or_default())?;
    out.write_all(b"\n")?;
    Ok(())
}
