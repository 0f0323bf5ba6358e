//! The command line: what a person types, what the process says and how it ends.
//!
//! In: arguments. Out: text on standard output (results) and standard error (what went wrong, in one line), and an
//! exit code: 0 done, 1 failed, 2 wrong usage or settings.

mod server;

use clap::{Parser, Subcommand};
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
}

/// Parse the arguments of this process and do what they say.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Server(arguments) => server::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let usage = error.downcast_ref::<crate::config::ConfigError>().is_some();
            eprintln!("rookery: {error:#}");
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}
