//! `rookery topic create|list|describe|delete|elect`.

use super::client::{KafkaClient, check};
use super::elect;
use super::output::Results;
use super::tries::Hopeless;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use rookery_protocol::messages::delete_topics::DeleteTopicState;
use rookery_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest};
use std::io::Write;

/// Create, list, describe, delete topics, elect their leaders
#[derive(Args)]
pub struct TopicArguments {
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Subcommand)]
enum TopicCommand {
    /// Create a topic
    Create {
        /// Its name: letters, digits, `.`, `_` and `-`
        name: String,
        /// How many partitions; the cluster's default if not given
        #[arg(long, default_value_t = -1, hide_default_value = true)]
        partitions: i32,
        /// How many replicas of each; the cluster's default if not given
        #[arg(long, default_value_t = -1, hide_default_value = true)]
        replication_factor: i16,
        /// Kafka's topic configs, any number of times
        #[arg(long = "config", value_name = "NAME=VALUE")]
        configs: Vec<String>,
        /// Say nothing if there is such a topic already
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        cluster: super::ClusterAddress,
    },
    /// List all topics
    List {
        #[command(flatten)]
        cluster: super::ClusterAddress,
    },
    /// Show a topic's partitions: leaders, replicas, in-sync replicas
    Describe {
        /// Its name
        name: String,
        #[command(flatten)]
        cluster: super::ClusterAddress,
    },
    Elect(elect::ElectArguments),
    /// Delete a topic and all its records
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        cluster: super::ClusterAddress,
    },
}

/// Do what was asked.
pub async fn run(arguments: TopicArguments) -> Result<()> {
    match arguments.command {
        TopicCommand::Create { name, partitions, replication_factor, configs, if_not_exists, cluster } => {
            let topic = CreatableTopic {
                name: SmolStr::new(&name),
                num_partitions: partitions,
                replication_factor,
                configs: configs.iter().map(|c| config(c)).collect::<Result<_>>()?,
                ..Default::default()
            };
            create(&mut cluster.client(), topic, if_not_exists).await
        }
        TopicCommand::List { cluster } => {
            let mut out = Results::new();
            for topic in cluster.client().metadata(None).await?.topics {
                writeln!(out, "{}", topic.name.unwrap_or_default())?;
            }
            Ok(())
        }
        TopicCommand::Describe { name, cluster } => describe(&mut cluster.client(), &name).await,
        TopicCommand::Elect(arguments) => elect::run(arguments).await,
        TopicCommand::Delete { name, cluster } => {
            let name = SmolStr::new(&name);
            let request = DeleteTopicsRequest {
                topics: vec![DeleteTopicState { name: Some(name.clone()), ..Default::default() }],
                topic_names: vec![name.clone()],
                timeout_ms: 30_000,
            };
            let response = cluster.client().ask_any(&request).await?;
            let Some(result) = response.responses.first() else { bail!("the broker said nothing of topic {name}") };
            check(result.error_code, result.error_message.as_ref())
        }
    }
}

/// `NAME=VALUE`.
pub fn config(text: &str) -> Result<CreatableTopicConfig> {
    let Some((name, value)) = text.split_once('=') else {
        bail!("--config {text}: expected NAME=VALUE, such as --config retention.ms=3600000")
    };
    Ok(CreatableTopicConfig { name: SmolStr::new(name), value: Some(SmolStr::new(value)) })
}

/// A cluster that has just started may have too few brokers for the replicas: that is worth waiting for. A connection that
/// breaks is not: nobody knows then whether the topic was created.
pub async fn create(client: &mut KafkaClient, topic: CreatableTopic, if_not_exists: bool) -> Result<()> {
    let name = topic.name.to_string();
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let created = client.patiently(async |client| {
        let response = client.ask_any(&request).await.map_err(|e| Hopeless(format!("{e:#}")))?;
        let Some(result) = response.topics.first() else { bail!("the broker said nothing of topic {name}") };
        if if_not_exists && result.error_code == ErrorCode::TopicAlreadyExists.code() {
            return Ok(());
        }
        check(result.error_code, result.error_message.as_ref())
    });
    created.await?;
    client.patiently(async |client| client.created_topic(&name).await).await.map(drop)
}

async fn describe(client: &mut KafkaClient, name: &str) -> Result<()> {
    let topic = client.topic(name).await?;
    check(topic.error_code, None)?;
    let list = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header([
        "partition",
        "leader",
        "epoch",
        "replicas",
        "in sync",
        "offline",
    ]);
    for p in &topic.partitions {
        let leader = if p.leader_id < 0 { "none".to_owned() } else { p.leader_id.to_string() };
        table.add_row([
            p.partition_index.to_string(),
            leader,
            p.leader_epoch.to_string(),
            list(&p.replica_nodes),
            list(&p.isr_nodes),
            list(&p.offline_replicas),
        ]);
    }
    writeln!(Results::new(), "topic {name}, id {}\n{table}", rookery_raft::ids::TopicId(topic.topic_id))?;
    Ok(())
}
