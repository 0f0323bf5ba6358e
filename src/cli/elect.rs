//! `rookery topic elect`: a leader by hand (ElectLeaders).
//!
//! An unclean election takes an acknowledgement of the loss: without it the command says what may be lost, and does nothing.

use super::client::{KafkaClient, check};
use super::output::{Results, say};
use super::tries::Hopeless;
use anyhow::{Result, bail};
use clap::Args;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::describe_topic_partitions::{
    DescribeTopicPartitionsResponsePartition as Partition, TopicRequest,
};
use rookery_protocol::messages::elect_leaders::TopicPartitions;
use rookery_protocol::messages::{DescribeTopicPartitionsRequest, ElectLeadersRequest};
use std::io::Write;

const TIMEOUT_MS: i32 = 30_000;
/// Of partitions on one screen.
const LINES_MAX: usize = 10;

/// Elect leaders now: the preferred ones, or, where there is none and none is to come, any that are left
#[derive(Args)]
#[command(after_help = "\
  rookery topic elect orders                 give all partitions back to their first replicas, if these are in sync
  rookery topic elect orders 3 --unclean     say what would be lost if partition 3 went on with what is left
  rookery topic elect orders 3 --unclean --accept-data-loss")]
pub struct ElectArguments {
    /// The topic
    topic: String,
    /// The partition's number; all that need it if not given
    partition: Option<i32>,
    /// Let a replica lead that is not known to have every acknowledged record; only where there is no leader
    #[arg(long)]
    unclean: bool,
    /// The records that only absent replicas have may be lost for ever
    #[arg(long, requires = "unclean")]
    accept_data_loss: bool,
    #[command(flatten)]
    cluster: super::ClusterAddress,
}

/// Elect, and say who leads then.
pub async fn run(arguments: ElectArguments) -> Result<()> {
    let ElectArguments { topic, partition, unclean, accept_data_loss, cluster } = arguments;
    let mut client = cluster.client();
    let partitions = partitions(&mut client, &topic).await?;
    let count = partitions.len();
    if let Some(number) = partition.filter(|number| !partitions.iter().any(|p| p.partition_index == *number)) {
        bail!("topic {topic} has {count} partitions, 0 to {}: none is {number}", count - 1);
    }
    let asked = partitions.iter().filter(|p| partition.is_none_or(|number| p.partition_index == number));
    let needing: Vec<&Partition> = asked.filter(|p| needs(p, unclean)).collect();
    if needing.is_empty() {
        let well = if unclean { "has a leader" } else { "is led by its first replica" };
        let what = partition.map_or_else(|| format!("every partition of {topic}"), |n| format!("{topic}-{n}"));
        writeln!(Results::new(), "{what} {well}: nothing had to be done")?;
        return Ok(());
    }
    if unclean && !accept_data_loss {
        needing.iter().take(LINES_MAX).for_each(|p| say(format_args!("{}", what_may_be_lost(&topic, p))));
        if needing.len() > LINES_MAX {
            say(format_args!("and {} more partitions", needing.len() - LINES_MAX));
        }
        bail!("nothing was done: to go on with what is left, repeat this with --accept-data-loss");
    }
    let numbers: Vec<i32> = needing.iter().map(|p| p.partition_index).collect();
    elect(&mut client, &topic, numbers, unclean).await
}

async fn elect(client: &mut KafkaClient, topic: &str, numbers: Vec<i32>, unclean: bool) -> Result<()> {
    let request = ElectLeadersRequest {
        election_type: i8::from(unclean),
        topic_partitions: Some(vec![TopicPartitions { topic: SmolStr::new(topic), partitions: numbers }]),
        timeout_ms: TIMEOUT_MS,
    };
    let response = client.ask_any(&request).await?;
    check(response.error_code, None)?;
    let results: Vec<_> = response.replica_election_results.into_iter().flat_map(|t| t.partition_result).collect();
    let leaders = self::partitions(client, topic).await?;
    let (mut out, mut failed) = (Results::new(), 0);
    for result in results {
        let number = result.partition_id;
        // Another one elected meanwhile is as good.
        if result.error_code == ErrorCode::None.code() || result.error_code == ErrorCode::ElectionNotNeeded.code() {
            let leader = leaders.iter().find(|p| p.partition_index == number).map_or(-1, |p| p.leader_id);
            let leader = if leader < 0 { "no leader again".to_owned() } else { format!("leader {leader}") };
            writeln!(out, "{topic}-{number}: {leader}")?;
        } else {
            let why = check(result.error_code, result.error_message.as_ref()).expect_err("it is an error");
            say(format_args!("{topic}-{number}: {why:#}"));
            failed += 1;
        }
    }
    if failed > 0 {
        bail!(
            "no leader was elected for {failed} of {topic}'s partitions: `rookery why partition {topic} N` says more"
        );
    }
    Ok(())
}

fn needs(p: &Partition, unclean: bool) -> bool {
    if unclean { p.leader_id < 0 } else { p.replica_nodes.first().is_some_and(|first| p.leader_id != *first) }
}

fn what_may_be_lost(topic: &str, p: &Partition) -> String {
    let number = p.partition_index;
    let list = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let holders: Vec<i32> = p.isr_nodes.iter().chain(p.eligible_leader_replicas.iter().flatten()).copied().collect();
    let left: Vec<i32> = p.replica_nodes.iter().filter(|id| !p.offline_replicas.contains(id)).copied().collect();
    let lost = match holders.is_empty() {
        true => "no replica is left that is known to hold every acknowledged record".to_owned(),
        false => format!("only {} hold every acknowledged record", list(&holders)),
    };
    let then = match left.is_empty() {
        true => "no replica is there to lead".to_owned(),
        false => format!("one of {} would lead, and what it does not have is lost for ever", list(&left)),
    };
    format!("{topic}-{number} has no leader: {lost}; {then}")
}

/// Every partition of a topic, which must exist.
async fn partitions(client: &mut KafkaClient, topic: &str) -> Result<Vec<Partition>> {
    let mut partitions = Vec::new();
    let mut cursor = None;
    loop {
        let request = DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: SmolStr::new(topic) }],
            cursor,
            ..Default::default()
        };
        let response = client.ask_any(&request).await?;
        let Some(found) = response.topics.into_iter().next() else { bail!("the broker said nothing of topic {topic}") };
        if found.error_code == ErrorCode::UnknownTopicOrPartition.code() {
            return Err(Hopeless(format!("there is no topic {topic}")).into());
        }
        check(found.error_code, None)?;
        partitions.extend(found.partitions);
        match response.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(partitions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(leader_id: i32, isr: &[i32], elr: &[i32], offline: &[i32]) -> Partition {
        Partition {
            partition_index: 3,
            leader_id,
            replica_nodes: vec![1, 2, 3],
            isr_nodes: isr.to_vec(),
            eligible_leader_replicas: Some(elr.to_vec()),
            offline_replicas: offline.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn an_unclean_election_is_for_partitions_without_leader_and_a_preferred_one_for_those_with_another() {
        let of = |leader| partition(leader, &[], &[], &[]);
        assert_eq!([-1, 1, 2].map(|leader| needs(&of(leader), true)), [true, false, false]);
        assert_eq!([-1, 1, 2].map(|leader| needs(&of(leader), false)), [true, false, true]);
    }

    #[test]
    fn what_may_be_lost_is_said_before_it_is() {
        let said = |p: Partition| what_may_be_lost("orders", &p);
        assert_eq!(
            said(partition(-1, &[], &[2], &[2])),
            "orders-3 has no leader: only 2 hold every acknowledged record; \
             one of 1, 3 would lead, and what it does not have is lost for ever"
        );
        assert_eq!(
            said(partition(-1, &[], &[], &[1, 2, 3])),
            "orders-3 has no leader: no replica is left that is known to hold every acknowledged record; \
             no replica is there to lead"
        );
    }
}
