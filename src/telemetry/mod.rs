//! The process's own log and its metrics.
//!
//! In: `tracing` events and `metrics` from every room. Out: lines on standard error (for people, or JSON for machines)
//! and the text that `GET /metrics` answers. This room decides nothing and is imported by all.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Why the process's log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter's text.
    #[error("log.level = `{filter}`: {reason}")]
    Filter {
        /// As set.
        filter: String,
        /// As `tracing` explains it.
        reason: String,
    },
    /// Set up twice in one process.
    #[error("the process's log or metrics are set up already: {0}")]
    Twice(String),
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Send the process's log to standard error.
pub fn init_log(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(filter)
        .map_err(|e| TelemetryError::Filter { filter: filter.to_owned(), reason: e.to_string() })?;
    let builder = fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    let result = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(color).try_init()
        }
    };
    result.map_err(|e| TelemetryError::Twice(e.to_string()))
}

/// Collect the process's metrics; the handle renders them for `/metrics`. Needs [`keep_metrics`] beside it.
pub fn init_metrics() -> Result<PrometheusHandle, TelemetryError> {
    PrometheusBuilder::new().install_recorder().map_err(|e| TelemetryError::Twice(e.to_string()))
}

/// Folds the samples of histograms into their distributions, for ever. Rendering does so as well; where nobody asks for `/metrics` every
/// sample would stay in memory.
pub async fn keep_metrics(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}
