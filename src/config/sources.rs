//! Flags over environment over file over defaults; every value remembers where it came from.

use super::ConfigError;
use super::definitions::{self, DEFINITIONS};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The table of definitions.
    Default,
    /// A TOML file.
    File(String),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "from file {path}"),
            Source::Environment(variable) => write!(f, "from environment variable {variable}"),
            Source::Flag(flag) => write!(f, "from flag {flag}"),
        }
    }
}

/// Every setting's text with its source.
#[derive(Debug, Clone)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Source)>,
}

impl Default for Settings {
    fn default() -> Self {
        let values = DEFINITIONS.iter().map(|d| (d.name, (d.default.to_owned(), Source::Default))).collect();
        Self { values }
    }
}

impl Settings {
    /// Set one value; later calls win, so call in rising order of precedence.
    pub fn set(&mut self, name: &str, value: impl Into<String>, source: Source) -> Result<(), ConfigError> {
        let Some(definition) = definitions::find(name) else {
            let hint = definitions::nearest(name).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            return Err(ConfigError::Unknown { name: name.to_owned(), source_text: source.to_string(), hint });
        };
        self.values.insert(definition.name, (value.into(), source));
        Ok(())
    }

    /// Take all settings of a TOML file. `node.id = 1` and `"node.id" = 1` are the same setting.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError::File { path: shown.clone(), reason: e.to_string() })?;
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| ConfigError::File { path: shown.clone(), reason: e.to_string() })?;
        self.take_table("", &table, &shown)
    }

    fn take_table(&mut self, prefix: &str, table: &toml::Table, path: &str) -> Result<(), ConfigError> {
        for (key, value) in table {
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            let text = match value {
                toml::Value::Table(inner) => {
                    self.take_table(&name, inner, path)?;
                    continue;
                }
                toml::Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(","),
                other => scalar(other),
            };
            self.set(&name, text, Source::File(path.to_owned()))?;
        }
        Ok(())
    }

    /// Take `ROOKERY_NODE_ID` for `node.id`, and so on. Returns variables that begin like ours and name no setting:
    /// they are worth a warning and no more, as container platforms make such names up (`ROOKERY_SERVICE_HOST`).
    pub fn read_environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
        let mut strange = Vec::new();
        for (variable, value) in variables {
            if !variable.starts_with("ROOKERY_") {
                continue;
            }
            match DEFINITIONS.iter().find(|d| variable_of(d.name) == variable) {
                Some(d) => {
                    self.values.insert(d.name, (value, Source::Environment(variable)));
                }
                None => strange.push(variable),
            }
        }
        strange
    }

    /// The text of a setting; empty is "not set".
    pub fn text(&self, name: &str) -> &str {
        &self.entry(name).0
    }

    /// Where the text came from.
    pub fn source(&self, name: &str) -> &Source {
        &self.entry(name).1
    }

    fn entry(&self, name: &str) -> &(String, Source) {
        self.values.get(name).expect("every setting that is read is in the table of definitions")
    }

    /// The setting as a value of its type, or the line that says why not.
    pub fn get<T: FromStr>(&self, name: &str, expected: &str) -> Result<T, ConfigError> {
        self.text(name).trim().parse().map_err(|_| self.invalid(name, expected))
    }

    /// A number within bounds, both included.
    pub fn number<T>(&self, name: &str, min: T, max: T) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + fmt::Display + Copy,
    {
        let expected = format!("a whole number from {min} to {max}");
        let value: T = self.get(name, &expected)?;
        if value < min || value > max { Err(self.invalid(name, &expected)) } else { Ok(value) }
    }

    /// The line for a value that does not fit.
    pub fn invalid(&self, name: &str, expected: impl Into<String>) -> ConfigError {
        let (value, source) = self.entry(name);
        ConfigError::Invalid {
            name: name.to_owned(),
            value: value.clone(),
            source_text: source.to_string(),
            expected: expected.into(),
        }
    }

    /// All settings, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str, &Source)> {
        self.values.iter().map(|(name, (value, source))| (*name, value.as_str(), source))
    }
}

/// `node.id` → `ROOKERY_NODE_ID`.
pub fn variable_of(name: &str) -> String {
    format!("ROOKERY_{}", name.replace(['.', '-'], "_").to_uppercase())
}

fn scalar(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_sources_win_and_are_named() {
        let mut settings = Settings::default();
        assert_eq!(settings.source("node.id"), &Source::Default);
        let strange = settings.read_environment(
            [("ROOKERY_NODE_ID", "x"), ("ROOKERY_SERVICE_HOST", "10.0.0.1"), ("HOME", "/")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into_iter(),
        );
        assert_eq!(strange, ["ROOKERY_SERVICE_HOST"]);
        let error = settings.number("node.id", 0, i32::MAX).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node.id = `x` (from environment variable ROOKERY_NODE_ID): expected a whole number from 0 to 2147483647"
        );
        settings.set("node.id", "7", Source::Flag("--node-id".into())).unwrap();
        assert_eq!(settings.number("node.id", 0, i32::MAX), Ok(7));
    }

    #[test]
    fn a_file_may_write_dotted_names_as_toml_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rookery.toml");
        std::fs::write(&path, "node.id = 4\n\"broker.rack\" = \"a\"\nlisteners = [\"A://h:1\", \"B://h:2\"]\n")
            .unwrap();
        let mut settings = Settings::default();
        settings.read_file(&path).unwrap();
        assert_eq!(settings.text("node.id"), "4");
        assert_eq!(settings.text("broker.rack"), "a");
        assert_eq!(settings.text("listeners"), "A://h:1,B://h:2");

        std::fs::write(&path, "node.idd = 4\n").unwrap();
        let error = settings.read_file(&path).unwrap_err().to_string();
        assert!(error.contains("unknown setting `node.idd`") && error.contains("did you mean `node.id`"), "{error}");
    }
}
