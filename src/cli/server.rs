//! `rookery server`.

use super::output::Results;
use crate::config::definitions::DEFINITIONS;
use crate::config::{ServerConfig, Settings, Source};
use crate::server::Node;
use crate::telemetry::{self, LogFormat};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Where every setting can come from: a flag, `--set NAME=VALUE`, ROOKERY_NAME in the environment, the file, the default.
#[derive(Args)]
pub struct ServerArguments {
    /// TOML file of settings, such as `node.id = 1`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// This node's number [node.id]
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// Data directory [log.dirs]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where Kafka clients connect: HOST:PORT, or NAME://HOST:PORT,... [listeners]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// What clients are told to connect to, if that differs [advertised.listeners]
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<String>,
    /// Where other nodes connect [peer.listener]; by default what --voters says of this node
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<String>,
    /// HTTP admin API [http.listener]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// The initial voters of the metadata quorum, by their peer addresses: 1@HOST:PORT,2@... [controller.quorum.voters]
    #[arg(long, value_name = "VOTERS")]
    voters: Option<String>,
    /// broker, controller, or both [process.roles]
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
    /// Rack or zone of this broker [broker.rack]
    #[arg(long, value_name = "RACK")]
    rack: Option<String>,
    /// Any setting by its name, any number of times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Print every setting with its default and meaning, and end
    #[arg(long)]
    help_settings: bool,
}

/// Run a node until it is told to stop.
pub fn run(arguments: ServerArguments) -> anyhow::Result<()> {
    if arguments.help_settings {
        return print_settings();
    }
    let mut settings = Settings::default();
    let strange = read_settings(&arguments, &mut settings)?;
    let config = ServerConfig::new(settings)?;
    let format = match config.settings.text("log.format") {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => return Err(config.settings.invalid("log.format", "`text` or `json`").into()),
    };
    telemetry::init_log(format, config.settings.text("log.level"))?;
    let prometheus = telemetry::init_metrics()?;
    for variable in strange {
        tracing::warn!(variable, "this environment variable begins like a setting and is none");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.spawn(telemetry::keep_metrics(prometheus.clone()));
    let ended = runtime.block_on(async { Node::run(config, prometheus, told_to_stop()).await });
    // A commit that hangs in the kernel must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(ended?)
}

/// Resolves at the first SIGTERM or Ctrl-C. Asked twice, the process ends at once, also when it stops for a reason of its own.
fn told_to_stop() -> impl Future<Output = ()> {
    let mut terminate = signal(SignalKind::terminate()).expect("a process can listen to SIGTERM");
    let (told, first) = oneshot::channel();
    tokio::spawn(async move {
        let mut told = Some(told);
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            match told.take() {
                Some(told) => drop(told.send(())),
                None => {
                    tracing::warn!("told to stop again: this process ends at once, without leaving in order");
                    std::process::exit(1);
                }
            }
        }
    });
    async {
        let _ = first.await;
    }
}

fn read_settings(arguments: &ServerArguments, settings: &mut Settings) -> anyhow::Result<Vec<String>> {
    if let Some(path) = &arguments.config {
        settings.read_file(path)?;
    }
    let mut strange = settings.read_environment(std::env::vars());
    strange.retain(|variable| ![super::BOOTSTRAP_VARIABLE, super::HTTP_VARIABLE].contains(&variable.as_str()));
    let named = |text: &String| if text.contains("://") { text.clone() } else { format!("PLAINTEXT://{text}") };
    for (flag, name, value) in [
        ("--node-id", "node.id", arguments.node_id.clone()),
        ("--data-dir", "log.dirs", arguments.data_dir.clone()),
        ("--listen", "listeners", arguments.listen.as_ref().map(named)),
        ("--advertise", "advertised.listeners", arguments.advertise.as_ref().map(named)),
        ("--peer", "peer.listener", arguments.peer.clone()),
        ("--http", "http.listener", arguments.http.clone()),
        ("--voters", "controller.quorum.voters", arguments.voters.clone()),
        ("--roles", "process.roles", arguments.roles.clone()),
        ("--rack", "broker.rack", arguments.rack.clone()),
    ] {
        if let Some(value) = value {
            settings.set(name, value, Source::Flag(flag.to_owned()))?;
        }
    }
    for item in &arguments.set {
        let (name, value) = item
            .split_once('=')
            .ok_or_else(|| anyhow::anyhow!("--set {item}: expected NAME=VALUE, such as --set num.partitions=3"))?;
        settings.set(name.trim(), value.trim(), Source::Flag(format!("--set {name}")))?;
    }
    Ok(strange)
}

fn print_settings() -> anyhow::Result<()> {
    let mut out = Results::new();
    for d in DEFINITIONS {
        let default = if d.default.is_empty() { "not set" } else { d.default };
        writeln!(out, "{}\n    {} [{default}]", d.name, d.doc)?;
    }
    Ok(())
}
