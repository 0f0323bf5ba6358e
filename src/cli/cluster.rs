//! `rookery cluster` and `rookery quorum`: what the admin API of a node says, and asks of it.

use super::http::{HttpAddress, rows, text};
use super::output::Results;
use crate::admin::ReplaceVoter;
use anyhow::Result;
use clap::{Args, Subcommand};
use comfy_table::Table;
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

/// A voter that is taken in has to catch up first.
const REPLACE_MAX: Duration = Duration::from_secs(90);
/// Where there is no controller, an election is waited for; then the successor has to take over.
const TRANSFER_MAX: Duration = Duration::from_secs(20);
/// Of trouble on one screen.
const LINES_MAX: usize = 10;

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
    /// Make another voter the active controller, before the present one is taken out of service, say
    Transfer {
        #[command(flatten)]
        address: HttpAddress,
    },
}

/// Ask and print.
pub fn show(arguments: &ClusterArguments) -> Result<()> {
    let view = arguments.address.get("/admin/v1/cluster")?;
    let mut out = Results::new();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&view)?)?;
    } else {
        write!(out, "{}\n\n{}\n{}", summary(&view), brokers(&view), trouble(&view["partitions"]))?;
    }
    Ok(())
}

fn summary(view: &Value) -> String {
    let (quorum, p) = (&view["quorum"], &view["partitions"]);
    let controller = text(&quorum["controller"]["node_id"]);
    let lost = quorum["has_majority"] == false && controller != "-";
    let controller = if lost { format!("{controller}, as last known") } else { controller };
    [
        format!("cluster      {}", text(&view["cluster_id"])),
        format!("asked        node {}, {}", view["node_id"], text(&view["state"])),
        format!("controller   {controller} (term {})", quorum["term"]),
        format!("voters       {}", voters(view)),
        format!(
            "partitions   {}, under-replicated {}, below min.insync.replicas {}, without leader {}",
            p["total"], p["under_replicated"], p["under_min_isr"], p["offline"]
        ),
    ]
    .join("\n")
}

/// Who votes, whether that is enough, and what to do where it is not.
fn voters(view: &Value) -> String {
    let quorum = &view["quorum"];
    let of = |state: &str| -> Vec<String> {
        rows(&quorum["voter_states"]).filter(|v| v["state"] == state).map(|v| text(&v["node_id"])).collect()
    };
    let all = rows(&quorum["voter_states"]).count();
    if all == 0 {
        return "not known here: ask a controller (--http)".to_owned();
    }
    let (votes, wiped, away) = (of("votes"), of("no vote"), of("unreachable"));
    if view["cluster_id"].is_null() {
        return format!("the cluster is not formed; {} of {all} can be reached", all - away.len());
    }
    let mut said = match votes.is_empty() {
        true => format!("none of {all}"),
        false => format!("{} of {all}: {}", votes.len(), votes.join(" ")),
    };
    let majority = if quorum["has_majority"] == true { "a majority" } else { "NO MAJORITY: metadata cannot change" };
    said += &format!("; {majority}");
    if !away.is_empty() {
        said += &format!("\n             unreachable: {}", away.join(" "));
    }
    for node in wiped {
        said += &format!("\n             without a vote: {node} (`rookery quorum replace {node}` takes it in)");
    }
    said
}

fn brokers(view: &Value) -> Table {
    let gossip = |node: &Value| {
        let state = rows(&view["gossip"]).find(|m| m["node_id"] == *node).map(|m| text(&m["state"]));
        state.unwrap_or_else(|| "-".to_owned())
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
    for broker in rows(&view["brokers"]) {
        let state = match (broker["fenced"].as_bool(), broker["shutting_down"].as_bool()) {
            (Some(true), _) => "fenced",
            (_, Some(true)) => "leaving",
            _ => "in service",
        };
        table.add_row([
            text(&broker["node_id"]),
            text(&broker["epoch"]),
            state.to_owned(),
            gossip(&broker["node_id"]),
            text(&broker["leads"]),
            text(&broker["replicas"]),
            rows(&broker["listeners"]).map(text).collect::<Vec<_>>().join(" "),
            text(&broker["rack"]),
        ]);
    }
    table
}

/// Each partition in trouble where they are few, else the worst topics.
fn trouble(partitions: &Value) -> String {
    let few: Vec<&Value> = rows(&partitions["in_trouble"]).collect();
    let mut lines: Vec<String> = if few.len() <= LINES_MAX {
        let line = |p: &&Value| {
            let [topic, leader] = [&p["topic"], &p["leader"]].map(text);
            format!("{topic}-{}: leader {leader}, in sync {} of {}", p["partition"], p["isr"], p["replicas"])
        };
        few.iter().map(line).collect()
    } else {
        let line = |t: &Value| {
            let counts = [
                ("without leader", &t["offline"]),
                ("below min.insync.replicas", &t["under_min_isr"]),
                ("under-replicated", &t["under_replicated"]),
            ];
            let counts = counts.iter().filter(|(_, n)| **n != 0).map(|(what, n)| format!("{n} {what}"));
            format!(
                "{}: of {} partitions {}",
                text(&t["topic"]),
                t["partitions"],
                counts.collect::<Vec<_>>().join(", ")
            )
        };
        rows(&partitions["worst_topics"]).take(LINES_MAX).map(line).collect()
    };
    let topics = partitions["topics_in_trouble"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
    if few.len() > LINES_MAX && topics > lines.len() {
        lines.push(format!("and {} more topics (--json names them)", topics - lines.len()));
    }
    lines.iter().map(|line| format!("\n{line}")).chain((!lines.is_empty()).then(|| "\n".to_owned())).collect()
}

/// Ask for a change.
pub fn quorum(arguments: &QuorumArguments) -> Result<()> {
    match &arguments.command {
        QuorumCommand::Replace { node_id, address } => replace(*node_id, address),
        QuorumCommand::Transfer { address } => {
            let controller = address.post("/admin/v1/quorum/transfer", &serde_json::json!({}), TRANSFER_MAX)?;
            writeln!(Results::new(), "node {} is the active controller", text(&controller["node_id"]))?;
            Ok(())
        }
    }
}

fn replace(node_id: i32, address: &HttpAddress) -> Result<()> {
    let answer = address.post("/admin/v1/quorum/replace", &ReplaceVoter { node_id }, REPLACE_MAX)?;
    if answer["status"] == "replaced" {
        writeln!(Results::new(), "node {node_id} is a voter again")?;
    } else {
        writeln!(Results::new(), "node {node_id} is a voter and has its disk: nothing had to be done")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn quorum(states: &[&str], has_majority: Option<bool>) -> Value {
        let voters = states.iter().zip(1..).map(|(state, id)| json!({ "node_id": id, "state": state }));
        let voters: Vec<Value> = voters.collect();
        let quorum =
            json!({ "voter_states": voters, "has_majority": has_majority, "term": 4, "controller": { "node_id": 1 } });
        json!({ "cluster_id": "c", "node_id": 1, "state": "running", "quorum": quorum })
    }

    #[test]
    fn a_voter_without_a_vote_was_not_shown() {
        let view = quorum(&["votes", "votes", "no vote"], Some(true));
        let said = summary(&view);
        assert!(said.contains("2 of 3: 1 2; a majority"), "{said}");
        assert!(said.contains("without a vote: 3 (`rookery quorum replace 3`"), "{said}");
        assert!(said.contains("controller   1 (term 4)"), "{said}");
    }

    #[test]
    fn a_quorum_without_majority_still_named_its_controller() {
        let said = summary(&quorum(&["unreachable", "votes", "no vote"], Some(false)));
        assert!(said.contains("controller   1, as last known"), "{said}");
        assert!(said.contains("1 of 3: 2; NO MAJORITY"), "{said}");
        assert!(said.contains("unreachable: 1"), "{said}");
        let said = summary(&quorum(&[], None));
        assert!(said.contains("voters       not known here"), "{said}");
        let mut view = quorum(&["no vote", "unreachable"], Some(false));
        view["cluster_id"] = Value::Null;
        assert!(summary(&view).contains("not formed; 1 of 2 can be reached"));
    }

    #[test]
    fn a_cluster_in_trouble_scrolled_its_summary_away() {
        let partition =
            |n: usize| json!({ "topic": "t", "partition": n, "leader": null, "isr": [1], "replicas": [1, 2] });
        let topic = |n: usize| json!({ "topic": format!("t{n}"), "partitions": 9, "offline": 0, "under_min_isr": 1, "under_replicated": 4 });
        let view = |partitions: usize, topics: usize| {
            json!({
                "in_trouble": (0..partitions).map(partition).collect::<Vec<_>>(),
                "topics_in_trouble": topics,
                "worst_topics": (0..topics).map(topic).collect::<Vec<_>>(),
            })
        };
        assert_eq!(trouble(&view(0, 0)), "");
        assert_eq!(trouble(&view(1, 1)), "\nt-0: leader -, in sync [1] of [1,2]\n");
        assert_eq!(trouble(&view(10, 1)).trim().lines().count(), 10);
        let line = "t0: of 9 partitions 1 below min.insync.replicas, 4 under-replicated";
        assert_eq!(trouble(&view(11, 1)).trim(), line);
        let said = trouble(&view(1000, 33));
        assert_eq!(said.trim().lines().count(), 11);
        assert!(said.ends_with("and 23 more topics (--json names them)\n"), "{said}");
    }
}
