//! `rookery bench`: load on any Kafka-compatible cluster, and what came of it.
//!
//! In: what to write or read, and how fast. Out: a table, or a line of JSON with everything; a progress bar meanwhile. It knows the
//! cluster only by the Kafka protocol, so that one tool measures every broker; and it has to cost little beside a broker, because
//! both often share a machine.
//!
//! | command | what it does |
//! |---|---|
//! | `produce` | writes; latencies of acknowledgements |
//! | `consume` | reads a topic; offsets must follow one another |
//! | `end-to-end` | writes and reads; latencies until receipt |
//! | `fan-out` | one writes, many read everything |
//!
//! # What is measured
//!
//! - A **closed loop** keeps a number of records under way: how much a cluster can take. Its latencies are those of its queue.
//! - An **open loop** (`--rate`) has records due at even distances whatever the cluster does; latency counts from then. A cluster that
//!   stalls for a second at a thousand records a second has a thousand records late, not one (no coordinated omission).
//! - Latencies are counted in HDR histograms, one microsecond to one hour, to three digits.
//! - Nothing is lost in silence: records that were not acknowledged, were due and not made, are missing, came twice or are damaged are
//!   counted, shown, and (but for an interruption) a failure.
//!
//! # The parts
//!
//! | file | what it does |
//! |---|---|
//! | `arguments` | what can be asked for |
//! | `session` | the course of a run |
//! | `pace` | the clock; when records are due |
//! | `payload` | batches that cost next to nothing |
//! | `producer`, `partition` | batches under way, and what becomes of them |
//! | `consumer`, `check` | what is read, and whether it is whole |
//! | `link`, `leaders` | connections; who leads what |
//! | `recorder`, `processes` | what happened when; what it cost |
//! | `monitor`, `report` | what is shown meanwhile and at the end |

mod arguments;
mod check;
mod consumer;
mod leaders;
mod link;
mod monitor;
mod pace;
mod partition;
mod payload;
mod processes;
mod producer;
mod recorder;
mod report;
mod session;

use arguments::{CommonArguments, FetchArguments, LoadArguments, Output};
use clap::{Args, Subcommand};
use report::Report;
use session::Reading;
use std::time::Duration;

/// What this client calls itself.
const CLIENT_ID: &str = "rookery-bench";

/// Put load on any Kafka-compatible cluster and measure it
#[derive(Args)]
pub struct BenchArguments {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Write records: throughput, and latencies of acknowledgements
    Produce {
        #[command(flatten)]
        common: CommonArguments,
        #[command(flatten)]
        load: LoadArguments,
    },
    /// Read a topic: throughput, and whether everything is there
    Consume {
        #[command(flatten)]
        common: CommonArguments,
        #[command(flatten)]
        fetch: FetchArguments,
        #[command(flatten)]
        reading: Reading,
    },
    /// Write and read: latencies until receipt
    EndToEnd {
        #[command(flatten)]
        common: CommonArguments,
        #[command(flatten)]
        load: LoadArguments,
        #[command(flatten)]
        fetch: FetchArguments,
    },
    /// Write once, read many times: each reader reads everything
    FanOut {
        #[command(flatten)]
        common: CommonArguments,
        #[command(flatten)]
        load: LoadArguments,
        #[command(flatten)]
        fetch: FetchArguments,
        /// Readers
        #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
        consumers: u16,
    },
}

/// Do it and tell of it. It is an error if something is missing that should be there.
pub fn run(arguments: BenchArguments) -> anyhow::Result<()> {
    let (BenchCommand::Produce { common, .. }
    | BenchCommand::Consume { common, .. }
    | BenchCommand::EndToEnd { common, .. }
    | BenchCommand::FanOut { common, .. }) = &arguments.command;
    let (threads, output) = (common.threads, common.output);
    // One thread is the cheapest, and enough for more than a broker on the same machine takes.
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(usize::from(threads)).enable_all().build()?;
    let measured = runtime.block_on(measure(arguments.command));
    runtime.shutdown_timeout(Duration::ZERO);
    let report = measured?;
    report.print(output == Output::Json)?;
    report.verdict()
}

async fn measure(command: BenchCommand) -> anyhow::Result<Report> {
    match command {
        BenchCommand::Produce { common, load } => session::write("produce", &common, &load, None).await,
        BenchCommand::Consume { common, fetch, reading } => session::read(&common, &fetch, &reading).await,
        BenchCommand::EndToEnd { common, load, fetch } => {
            session::write("end-to-end", &common, &load, Some((&fetch, 1))).await
        }
        BenchCommand::FanOut { common, load, fetch, consumers } => {
            session::write("fan-out", &common, &load, Some((&fetch, consumers))).await
        }
    }
}
