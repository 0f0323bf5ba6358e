//! `rookery cluster` and `rookery quorum`: what the admin API of a node says, and asks of it.

use super::output::Results;
use crate::admin::ReplaceVoter;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

/// A node that hangs still accepts connections.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A voter that is taken in has to catch up first.
const REPLACE_MAX: Duration = Duration::from_secs(90);
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// The HTTP address of a node.
#[derive(Args)]
pub struct HttpAddress {
    /// HTTP admin API of any node: HOST:PORT, or http://HOST:PORT
    #[arg(long, env = "ROOKERY_HTTP", default_value = "http://127.0.0.1:8090", value_name = "URL", value_parser = base_url)]
    http: String,
}

/// Show the cluster as a node sees it: nodes, controller, gossip, partitions in trouble
#[derive(Args)]
pub struct ClusterArguments {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    address: HttpAddress,
}

/// Change the metadata quorum
#[derive(Args)]
pub struct QuorumArguments {
    #[command(subcommand)]
    command: QuorumCommand,
}

#[derive(Subcommand)]
enum QuorumCommand {
    /// Take a voter whose disk was wiped back, under its new identity
    Replace {
        /// The voter's node id
        node_id: i32,
        #[command(flatten)]
        address: HttpAddress,
    },
}

/// Ask and print.
pub fn show(arguments: &ClusterArguments) -> Result<()> {
    let http = &arguments.address.http;
    let view = ask(http, |agent| agent.get(format!("{http}/admin/v1/cluster")).call(), ANSWER_MAX)?;
    let mut out = Results::new();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&view)?)?;
        return Ok(());
    }
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    writeln!(out, "cluster      {}", text(&view["cluster_id"]))?;
    writeln!(out, "asked        node {}, {}", view["node_id"], text(&view["state"]))?;
    writeln!(out, "controller   {} (term {})", text(&view["quorum"]["controller"]["node_id"]), view["quorum"]["term"])?;
    let p = &view["partitions"];
    writeln!(
        out,
        "partitions   {}, under-replicated {}, below min.insync.replicas {}, without leader {}",
        p["total"], p["under_replicated"], p["under_min_isr"], p["offline"]
    )?;
    let gossip = |node: &Value| {
        let members = view["gossip"].as_array().into_iter().flatten();
        members.filter(|m| m["node_id"] == *node).map(|m| text(&m["state"])).next().unwrap_or_else(|| "-".to_owned())
    };
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header([
        "node",
        "epoch",
        "state",
        "gossip",
        "leads",
        "replicas",
        "listeners",
        "rack",
    ]);
    for broker in view["brokers"].as_array().into_iter().flatten() {
        let state = match (broker["fenced"].as_bool(), broker["shutting_down"].as_bool()) {
            (Some(true), _) => "fenced",
            (_, Some(true)) => "leaving",
            _ => "in service",
        };
        let listeners = broker["listeners"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(" ");
        table.add_row([
            text(&broker["node_id"]),
            text(&broker["epoch"]),
            state.to_owned(),
            gossip(&broker["node_id"]),
            text(&broker["leads"]),
            text(&broker["replicas"]),
            listeners,
            text(&broker["rack"]),
        ]);
    }
    writeln!(out, "\n{table}")?;
    for trouble in p["in_trouble"].as_array().into_iter().flatten() {
        writeln!(
            out,
            "{}-{}: leader {}, in sync {} of {}",
            text(&trouble["topic"]),
            trouble["partition"],
            text(&trouble["leader"]),
            trouble["isr"],
            trouble["replicas"]
        )?;
    }
    Ok(())
}

/// Ask for a change.
pub fn quorum(arguments: &QuorumArguments) -> Result<()> {
    let QuorumCommand::Replace { node_id, address: HttpAddress { http } } = &arguments.command;
    let request = ReplaceVoter { node_id: *node_id };
    ask(http, |agent| agent.post(format!("{http}/admin/v1/quorum/replace")).send_json(&request), REPLACE_MAX)?;
    writeln!(Results::new(), "node {node_id} is a voter again")?;
    Ok(())
}

fn base_url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    match text.split_once("://") {
        None => Ok(format!("http://{text}")),
        Some(("http", _)) => Ok(text.to_owned()),
        Some((scheme, _)) => Err(format!("the admin API speaks http, not {scheme}")),
    }
}

fn ask(
    http: &str,
    request: impl FnOnce(&ureq::Agent) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    answer_max: Duration,
) -> Result<Value> {
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT_MAX))
        .timeout_global(Some(answer_max))
        .http_status_as_error(false)
        .build()
        .into();
    let mut answer = request(&agent).with_context(|| format!("{http} (--http) cannot be asked"))?;
    let status = answer.status();
    let body: Value =
        answer.body_mut().read_json().with_context(|| format!("{http} (--http) is not the admin API of a node"))?;
    if !status.is_success() {
        bail!("{status}: {}", body["detail"].as_str().unwrap_or("no details"));
    }
    Ok(body)
}
