//! The command line: what a person types, what the process says and how it ends.
//!
//! In: arguments. Out: text on standard output (results) and standard error (what went wrong, in one line), and an
//! exit code: 0 done, or nobody reads the results any more; 1 failed; 2 wrong usage or settings.

mod bench;
mod client;
mod cluster;
mod consume;
mod elect;
mod events;
mod http;
mod output;
mod produce;
mod server;
mod topic;
mod tries;
mod why;

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

/// A Kafka-compatible broker: one binary, no ZooKeeper, no JVM.
#[derive(Parser)]
#[command(name = "rookery", version, about, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node; without arguments a complete one-node cluster on the default ports
    Server(server::ServerArguments),
    Topic(topic::TopicArguments),
    Produce(produce::ProduceArguments),
    Consume(consume::ConsumeArguments),
    Bench(Box<bench::BenchArguments>),
    Cluster(cluster::ClusterArguments),
    Quorum(cluster::QuorumArguments),
    Events(events::EventsArguments),
    Why(why::WhyArguments),
}

/// What client commands take from the environment, where settings of a server lie too.
const BOOTSTRAP_VARIABLE: &str = "ROOKERY_BOOTSTRAP";
const HTTP_VARIABLE: &str = "ROOKERY_HTTP";

/// Where the cluster is.
#[derive(Args, Clone, Debug)]
struct ClusterAddress {
    /// Kafka addresses of some nodes, comma-separated
    #[arg(long, env = BOOTSTRAP_VARIABLE, default_value = "127.0.0.1:9092", value_name = "HOST:PORT,...")]
    bootstrap: client::Bootstrap,
}

impl ClusterAddress {
    fn client(self) -> client::KafkaClient {
        client::KafkaClient::new(self.bootstrap)
    }
}

/// Parse the arguments of this process and do what they say.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Server(arguments) => server::run(arguments),
        Command::Topic(arguments) => block_on(topic::run(arguments)),
        Command::Produce(arguments) => block_on(produce::run(arguments)),
        Command::Consume(arguments) => block_on(consume::run(arguments)),
        Command::Bench(arguments) => bench::run(*arguments),
        Command::Cluster(arguments) => cluster::show(&arguments),
        Command::Quorum(arguments) => cluster::quorum(&arguments),
        Command::Events(arguments) => events::show(&arguments),
        Command::Why(arguments) => why::show(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let usage = error.downcast_ref::<crate::config::ConfigError>().is_some();
            output::say(format_args!("{error:#}"));
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// A client's work needs no more than this thread.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    // A name service that hangs, or input that never comes, must not hold the process.
    runtime.shutdown_background();
    done
}
