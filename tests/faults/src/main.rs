//! Fault tests of real processes: three nodes in network namespaces, real Kafka clients, faults from a seed, and
//! checkers that look for each anomaly the cluster promises not to have.
//!
//! ```text
//! run ── lab ── disks ── nodes   the cluster: namespaces, cables, file systems, processes
//!  ├─ workload ── clients/   real clients as processes; each writes what it did
//!  ├─ schedule ── faults/    what is broken when, from the seed
//!  ├─ wire ── reader, probe  what the test asks itself, over Kafka's protocol
//!  └─ history ── facts ── checkers/ ── report ── picture
//! ```
//!
//! | to find | look in |
//! |---|---|
//! | a run from start to verdict | [`run`] |
//! | the distribution of gaps and of crash → first ack, beside Apache Kafka | [`gaps`] |
//! | whether clients notice that the controller changes | [`latency`] |
//! | what a rolling restart costs | [`rolling`] |
//! | whether anybody is fenced or elected where nothing is broken | [`calm`], the harsh conditions: [`hogs`] |
//! | what measurements share: topics placed by hand, what was lost | [`bench`], their lines and table: [`figures`] |
//! | namespaces, cables, cuts | [`lab`] |
//! | a file system per node: freeze, fill, lose power | [`disks`] |
//! | a cluster to measure, whichever broker | [`cluster`], its processes: [`processes`] |
//! | `rookery server`, its health over HTTP | [`nodes`], [`http`] |
//! | Apache Kafka's nodes | [`kafka`] |
//! | what can be broken, how it heals, how it is seen to have worked: one file per family | [`faults`] |
//! | which fault comes when | [`schedule`] |
//! | the clients' command lines | [`workload`]; the programs are in `clients/` |
//! | what is kept of a run | [`history`], and put in order, [`facts`] |
//! | one file per anomaly | [`checkers`] |
//! | table, verdict | [`report`]; the picture: [`picture`] |
//!
//! The package sees the cluster as a user does: it starts the binary it is given and speaks Kafka and HTTP. It never
//! depends on the broker's own package, so that it needs no RocksDB and cannot ask the broker for favours.
//!
//! Rules: everything a verdict rests on is in the history, so that `check` on the directory says the same again. All times
//! are the machine's monotonic clock in nanoseconds, which every process shares. An operation without an answer has an
//! unknown outcome. A fault counts only if it was seen to take effect.

mod bench;
mod calm;
mod checkers;
mod cluster;
mod disks;
mod facts;
mod faults;
mod figures;
mod gaps;
mod history;
mod hogs;
mod http;
mod kafka;
mod lab;
mod latency;
mod nodes;
mod picture;
mod probe;
mod processes;
mod reader;
mod report;
mod rolling;
mod run;
mod schedule;
mod wire;
mod workload;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Fault tests of a three-node cluster of real processes, driven by real Kafka clients", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Break things for a while, heal, read everything back, look for anomalies
    Run(run::RunArguments),
    /// Look for anomalies in the history of an earlier run
    Check {
        /// The directory of the run
        run: PathBuf,
    },
    /// Break one thing over and over and show how long nothing is acknowledged
    Gaps(gaps::GapsArguments),
    /// Hand the controller over, kill one that is no broker, and show whether clients notice
    Latency(latency::LatencyArguments),
    /// Restart all nodes in turn, over and over, and show what clients see of it
    Rolling(rolling::RollingArguments),
    /// Break nothing, but keep cores, network or disk busy: nobody may be fenced, nobody elected
    Calm(calm::CalmArguments),
    /// Show the table of measurements that are kept, again
    Table {
        /// The directories of their runs; what is the same in several counts together
        #[arg(required = true)]
        runs: Vec<PathBuf>,
    },
    /// Show which faults there are
    List,
    /// Whether this machine can have fault tests: exit code 3, and why, if not
    Here,
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(arguments) => lab::attended(move |stop| run::run(&arguments, stop)),
        Command::Check { run } => report::again(&run),
        Command::Gaps(arguments) => lab::attended(move |stop| gaps::run(&arguments, stop)),
        Command::Latency(arguments) => lab::attended(move |stop| latency::run(&arguments, stop)),
        Command::Rolling(arguments) => lab::attended(move |stop| rolling::run(&arguments, stop)),
        Command::Calm(arguments) => lab::attended(move |stop| calm::run(&arguments, stop)),
        Command::Table { runs } => figures::again(&runs),
        Command::Here => Ok(match lab::Lab::create(run::NODES) {
            Ok(_) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("faults: {why:#}");
                ExitCode::from(3)
            }
        }),
        Command::List => {
            report::list();
            Ok(ExitCode::SUCCESS)
        }
    }
}
