//! `rookery why`: what is wrong with a partition, a broker or a group, and how it came to that.

use super::http::{HttpAddress, rows, segment, text};
use super::output::Results;
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::io::Write;

/// As wide as a time, for what has none.
const NOW: &str = "now                     ";

/// Tell what is wrong with a partition, a broker or a group, how it came to that, and what it waits for
#[derive(Args)]
#[command(after_help = "\
Any node answers from the metadata it has. Of something that is well it says so, and the last thing that happened to it.

  rookery why partition orders 3
  rookery why broker 2
  rookery why group billing           ask the coordinator itself (--http) for its members")]
pub struct WhyArguments {
    #[command(subcommand)]
    subject: Subject,
    /// As JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    address: HttpAddress,
}

#[derive(Subcommand)]
enum Subject {
    /// Why a partition has no leader, refuses writes, or is under-replicated
    Partition {
        /// The topic
        topic: String,
        /// The partition's number
        number: i32,
    },
    /// Why a broker does not serve, and what hangs on it
    Broker {
        /// Its node id
        id: i32,
    },
    /// Why a consumer group does not go on
    Group {
        /// Its id
        id: String,
    },
}

/// Ask and print.
pub fn show(arguments: &WhyArguments) -> Result<()> {
    let path = match &arguments.subject {
        Subject::Partition { topic, number } => format!("partitions/{}/{number}", segment(topic)),
        Subject::Broker { id } => format!("brokers/{id}"),
        Subject::Group { id } => format!("groups/{}", segment(id)),
    };
    let answer = arguments.address.get(&format!("/admin/v1/why/{path}"))?;
    let mut out = Results::new();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
    } else {
        write!(out, "{}", told(&answer))?;
    }
    Ok(())
}

fn told(answer: &Value) -> String {
    let mut lines = vec![format!("{}: {}", text(&answer["subject"]), text(&answer["summary"]))];
    let reason = |reason: &Value| {
        let time = reason["time"].as_str().unwrap_or(NOW);
        let number = reason["event"].as_u64().map_or_else(String::new, |number| format!("#{number}"));
        format!("  {time}  {number:>7}  {}", text(&reason["text"]))
    };
    lines.extend(rows(&answer["because"]).map(reason));
    let last = &answer["last_event"];
    let is_told = rows(&answer["because"]).any(|reason| reason["event"] == last["number"]);
    if !last.is_null() && !is_told {
        lines.push(format!("last event:  {}", super::events::line(last).trim_start()));
    }
    for (name, label) in [("waiting_for", "waiting for"), ("what_to_do", "what to do")] {
        if let Some(said) = answer[name].as_str() {
            lines.push(format!("{:<12} {said}", format!("{label}:")));
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_chain_reads_from_the_oldest_event_to_now() {
        let last =
            json!({ "number": 8, "time": "2026-03-01T14:02:11.345Z", "what": "broker 2 fenced", "because": "it died" });
        let answer = json!({
            "subject": "partition t-0",
            "summary": "leader none",
            "because": [
                { "time": "2026-03-01T14:02:11.345Z", "event": 8, "text": "broker 2 fenced, because it died" },
                { "text": "only {2} hold everything committed" },
            ],
            "waiting_for": "broker 2",
            "last_event": last,
        });
        let said = told(&answer);
        let expected = "partition t-0: leader none
  2026-03-01T14:02:11.345Z       #8  broker 2 fenced, because it died
  now                                only {2} hold everything committed
waiting for: broker 2
";
        assert_eq!(said, expected);
        let well = json!({ "subject": "broker 1", "summary": "serves", "because": [], "last_event": last });
        let line = "2026-03-01T14:02:11.345Z       #8  broker 2 fenced, because it died";
        assert_eq!(told(&well), format!("broker 1: serves\nlast event:  {line}\n"));
    }
}
