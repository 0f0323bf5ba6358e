//! `rookery events`: the event log of the cluster, as any node has it.

use super::http::{HttpAddress, rows, text};
use super::output::Results;
use anyhow::Result;
use clap::Args;
use serde_json::Value;
use std::io::Write;

/// Show what happened in the cluster lately: fences, elections, ISR changes, suspicions, disks, topics, configs
#[derive(Args)]
#[command(after_help = "\
Every node has the same log: it is part of the metadata, and keeps the last 4,096 events. Times are the wall clock of the controller
that decided. `rookery why` tells what of it explains a partition, a broker or a group.

  rookery events --kind leader_lost,unclean_leader_elected
  rookery events --broker 2 --limit 20
  rookery events --after 117          what came after event 117, for scripts (--json tells `next`)")]
pub struct EventsArguments {
    /// Events after this number, the oldest of them first; otherwise the newest are shown
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// Events before this number, the newest of them
    #[arg(long, value_name = "NUMBER", conflicts_with = "after")]
    before: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Only what is about this broker, or moved leadership or ISR places from or to it
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// Only what is about this topic
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Only these kinds, comma-separated; an unknown one lists them all
    #[arg(long, value_name = "KIND,...")]
    kind: Option<String>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    address: HttpAddress,
}

/// Ask and print.
pub fn show(arguments: &EventsArguments) -> Result<()> {
    let mut parameters = vec![("limit", arguments.limit.to_string())];
    let mut add = |name, value: Option<String>| parameters.extend(value.map(|value| (name, value)));
    add("after", arguments.after.map(|n| n.to_string()));
    add("before", arguments.before.map(|n| n.to_string()));
    add("broker", arguments.broker.map(|id| id.to_string()));
    add("topic", arguments.topic.clone());
    add("kind", arguments.kind.clone());
    let page = arguments.address.get_with("/admin/v1/events", &parameters)?;
    let mut out = Results::new();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&page)?)?;
    } else {
        rows(&page["events"]).try_for_each(|event| writeln!(out, "{}", line(event)))?;
    }
    Ok(())
}

/// One event in one line.
pub fn line(event: &Value) -> String {
    let because = match event["because"].as_str() {
        None | Some("") => String::new(),
        Some(why) => format!(", because {why}"),
    };
    let [number, time, what] = [&event["number"], &event["time"], &event["what"]].map(text);
    format!("{time}  {:>7}  {what}{because}", format!("#{number}"))
}
