//! Reads everything back: whole partitions from whoever leads them, topics, what groups have committed.

use crate::cluster::address;
use crate::history::{Batch, Offset, Value};
use crate::wire::{Wire, explain};
use anyhow::{Context, Result, bail};
use rookery_protocol::SmolStr;
use rookery_protocol::batch::RecordBatches;
use rookery_protocol::messages::fetch::{FetchPartition, FetchTopic};
use rookery_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use rookery_protocol::messages::metadata::MetadataResponseTopic;
use rookery_protocol::messages::offset_fetch::OffsetFetchRequestTopic;
use rookery_protocol::messages::{
    FetchRequest, FindCoordinatorRequest, ListOffsetsRequest, MetadataResponse, OffsetFetchRequest,
};
use std::time::{Duration, Instant};

const LIST_OFFSETS: i16 = 5;
const FETCH: i16 = 11;
const FIND_COORDINATOR: i16 = 3;
const OFFSET_FETCH: i16 = 7;
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const RECORD_BYTES_MAX: usize = 1 << 20;
const ONE_ANSWER: Duration = Duration::from_secs(5);

/// A partition, from its start to its end.
pub struct Whole {
    /// Who leads.
    pub leader: i32,
    /// In which epoch.
    pub epoch: i32,
    /// Every record.
    pub rows: Vec<(Offset, Value)>,
    /// What they came in.
    pub batches: Vec<Batch>,
}

/// Ask one node after the other until one answers.
pub fn any<T>(nodes: &[i32], ask: impl Fn(&mut Wire, Instant) -> Result<T>) -> Result<T> {
    let mut last = None;
    for node in nodes {
        let deadline = Instant::now() + ONE_ANSWER;
        match Wire::open(address(*node), deadline).and_then(|mut wire| ask(&mut wire, deadline)) {
            Ok(answer) => return Ok(answer),
            Err(error) => last = Some(error.context(format!("node {node}"))),
        }
    }
    Err(last.context("there are no nodes")?)
}

/// A topic as any node describes it.
pub fn describe(nodes: &[i32], topic: &str) -> Result<(MetadataResponse, MetadataResponseTopic)> {
    let metadata = any(nodes, |wire, deadline| wire.metadata(Some(topic), deadline))?;
    let described = metadata.topics.first().cloned().context("nothing was said of the topic")?;
    if described.error_code != 0 {
        bail!("topic {topic}: {}", explain(described.error_code));
    }
    Ok((metadata, described))
}

/// The names of all topics.
pub fn topics(nodes: &[i32]) -> Result<Vec<String>> {
    let metadata = any(nodes, |wire, deadline| wire.metadata(None, deadline))?;
    Ok(metadata.topics.into_iter().filter_map(|t| t.name).map(|n| n.to_string()).collect())
}

/// Read one partition.
pub fn whole(nodes: &[i32], topic: &str, p: i32) -> Result<Whole> {
    let (_, described) = describe(nodes, topic)?;
    let found = described.partitions.iter().find(|d| d.partition_index == p);
    let found = found.with_context(|| format!("partition {p} is not there"))?;
    if found.leader_id < 0 {
        bail!("partition {p} has no leader");
    }
    let deadline = || Instant::now() + ONE_ANSWER;
    let mut wire = Wire::open(address(found.leader_id), deadline())?;
    let mut next = list_offset(&mut wire, topic, p, EARLIEST, deadline())?;
    let end = list_offset(&mut wire, topic, p, LATEST, deadline())?;
    let (mut rows, mut batches) = (Vec::new(), Vec::new());
    while next < end {
        let before = next;
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 8 << 20,
            topics: vec![FetchTopic {
                topic: SmolStr::new(topic),
                partitions: vec![FetchPartition {
                    partition: p,
                    fetch_offset: next,
                    partition_max_bytes: 8 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = wire.ask(&request, FETCH, deadline())?;
        let part = answer.responses.into_iter().flat_map(|t| t.partitions).next();
        let part = part.with_context(|| format!("nothing was said of partition {p}"))?;
        if part.error_code != 0 {
            bail!("reading partition {p} at {next}: {}", explain(part.error_code));
        }
        for batch in RecordBatches::new(part.records.unwrap_or_default().into_bytes()) {
            // The last one may be cut; it comes whole with the next fetch.
            let Ok(batch) = batch else { break };
            batch.check().with_context(|| format!("partition {p} at {}", batch.base_offset()))?;
            let h = batch.header();
            batches.push((
                h.base_offset,
                h.records_count,
                h.partition_leader_epoch,
                h.producer_id,
                h.producer_epoch,
                h.base_sequence,
            ));
            if !h.is_control() {
                for record in batch.records(RECORD_BYTES_MAX)? {
                    let record = record?;
                    if record.offset >= next {
                        rows.push((record.offset, value(record.value.as_deref().unwrap_or_default())));
                    }
                }
            }
            next = batch.next_offset();
        }
        if next == before {
            bail!("partition {p} ends at {end}, but nothing comes from {next}");
        }
    }
    Ok(Whole { leader: found.leader_id, epoch: found.leader_epoch, rows, batches })
}

/// The number at the start of a record; -1 for what no client of this test has written.
fn value(bytes: &[u8]) -> Value {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..digits]).ok().and_then(|d| d.parse().ok()).unwrap_or(-1)
}

fn list_offset(wire: &mut Wire, topic: &str, p: i32, timestamp: i64, deadline: Instant) -> Result<i64> {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: SmolStr::new(topic),
            partitions: vec![ListOffsetsPartition { partition_index: p, timestamp, ..Default::default() }],
        }],
        ..Default::default()
    };
    let answer = wire.ask(&request, LIST_OFFSETS, deadline)?;
    let part = answer.topics.first().and_then(|t| t.partitions.first());
    let part = part.with_context(|| format!("nothing was said of partition {p}"))?;
    if part.error_code != 0 {
        bail!("the ends of partition {p}: {}", explain(part.error_code));
    }
    Ok(part.offset)
}

/// What a group has committed, for each partition from 0.
pub fn committed(nodes: &[i32], group: &str, topic: &str, partitions: i32) -> Result<Vec<Offset>> {
    let find = FindCoordinatorRequest { key: SmolStr::new(group), ..Default::default() };
    let found = any(nodes, |wire, deadline| wire.ask(&find, FIND_COORDINATOR, deadline))?;
    if found.error_code != 0 {
        bail!("the coordinator of group {group}: {}", explain(found.error_code));
    }
    let wanted = OffsetFetchRequestTopic { name: SmolStr::new(topic), partition_indexes: (0..partitions).collect() };
    let request =
        OffsetFetchRequest { group_id: SmolStr::new(group), topics: Some(vec![wanted]), ..Default::default() };
    let answer = any(&[found.node_id], |wire, deadline| wire.ask(&request, OFFSET_FETCH, deadline))?;
    if answer.error_code != 0 {
        bail!("the offsets of group {group}: {}", explain(answer.error_code));
    }
    let mut offsets = vec![-1; usize::try_from(partitions)?];
    for part in answer.topics.iter().flat_map(|t| &t.partitions) {
        if part.error_code != 0 {
            bail!("the offsets of group {group}: {}", explain(part.error_code));
        }
        if let Some(slot) = usize::try_from(part.partition_index).ok().and_then(|p| offsets.get_mut(p)) {
            *slot = part.committed_offset;
        }
    }
    Ok(offsets)
}
