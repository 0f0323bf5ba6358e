//! `rookery cluster` and `rookery quorum`: what the admin API of a node says, and asks of it.

use crate::admin::ReplaceVoter;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;
use serde_json::Value;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(90);

/// The HTTP address of a node.
#[derive(Args)]
pub struct HttpAddress {
    /// HTTP admin API of any node
    #[arg(long, env = "ROOKERY_HTTP", default_value = "http://127.0.0.1:8090", value_name = "URL")]
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
#[allow(clippy::print_stdout)]
pub fn show(arguments: &ClusterArguments) -> Result<()> {
    let view = ask(ureq::get(format!("{}/admin/v1/cluster", arguments.address.base())).config().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build().call())?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&view)?);
        return Ok(());
    }
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    println!("cluster      {}", text(&view["cluster_id"]));
    println!("asked        node {}, {}", view["node_id"], text(&view["state"]));
    println!("controller   {} (term {})", text(&view["quorum"]["controller"]["node_id"]), view["quorum"]["term"]);
    let p = &view["partitions"];
    println!(
        "partitions   {}, under-replicated {}, below min.insync.replicas {}, without leader {}",
        p["total"], p["under_replicated"], p["under_min_isr"], p["offline"]
    );
    let gossip = |node: &Value| {
        let members = view["gossip"].as_array().into_iter().flatten();
        members.filter(|m| m["node_id"] == *node).map(|m| text(&m["state"])).next().unwrap_or_else(|| "-".to_owned())
    };
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["node", "epoch", "state", "gossip", "leads", "replicas", "listeners", "rack"]);
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
    println!("\n{table}");
    for trouble in p["in_trouble"].as_array().into_iter().flatten() {
        println!(
            "{}-{}: leader {}, in sync {} of {}",
            text(&trouble["topic"]),
            trouble["partition"],
            text(&trouble["leader"]),
            trouble["isr"],
            trouble["replicas"]
        );
    }
    Ok(())
}

/// Ask for a change.
#[allow(clippy::print_stdout)]
pub fn quorum(arguments: &QuorumArguments) -> Result<()> {
    let QuorumCommand::Replace { node_id, address } = &arguments.command;
    let url = format!("{}/admin/v1/quorum/replace", address.base());
    let request = ureq::post(url).config().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
    ask(request.send_json(ReplaceVoter { node_id: *node_id }))?;
    println!("node {node_id} is a voter again");
    Ok(())
}

impl HttpAddress {
    fn base(&self) -> &str {
        self.http.trim_end_matches('/')
    }
}

fn ask(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value> {
    let mut answer = answer.context("the node's HTTP API cannot be reached (--http says where)")?;
    let status = answer.status();
    let body: Value = answer.body_mut().read_json().context("the answer is no JSON")?;
    if !status.is_success() {
        bail!("{}: {}", status, body["detail"].as_str().unwrap_or("no details"));
    }
    Ok(body)
}
