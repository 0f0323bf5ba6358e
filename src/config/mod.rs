//! Settings: where they come from, what they may be, what a node makes of them.
//!
//! In: flags, environment, a TOML file, the table of defaults. Out: one [`ServerConfig`]. A wrong setting is one
//! line that names the setting, its value, where it came from and what was expected. This room reads the file and
//! the environment once and never again; settings that change while a node runs live in the metadata log.
//!
//! - [`definitions`]: every setting by its name (Kafka's where the setting is Kafka's), with default and meaning
//! - [`sources`]: flags over environment over file over defaults, each value with its [`sources::Source`]
//! - [`listeners`]: `listeners` and `advertised.listeners`
//! - [`server`]: the typed result, with the checks that need more than one setting

pub mod definitions;
pub mod listeners;
pub mod server;
pub mod sources;

pub use listeners::Listener;
pub use server::{ServerConfig, Voter};
pub use sources::{Settings, Source};

/// A setting that cannot be used, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The value does not fit the setting.
    #[error("{name} = `{value}` ({source_text}): expected {expected}")]
    Invalid {
        /// The setting.
        name: String,
        /// What was given.
        value: String,
        /// Where it was given.
        source_text: String,
        /// What would fit.
        expected: String,
    },
    /// No setting has this name.
    #[error("unknown setting `{name}` ({source_text}){hint}")]
    Unknown {
        /// As given.
        name: String,
        /// Where it was given.
        source_text: String,
        /// The nearest known name, or nothing.
        hint: String,
    },
    /// The file cannot be read or is no TOML.
    #[error("config file {path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// What is wrong with it, with line and column where it is the text.
        reason: String,
    },
    /// Settings that are fine alone and wrong together.
    #[error("{0}")]
    Conflict(String),
}
