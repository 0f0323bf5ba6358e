//! The admin API of a node, asked by a command.

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use std::time::Duration;

/// A node that hangs still accepts connections.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// The HTTP address of a node.
#[derive(Args)]
pub struct HttpAddress {
    /// HTTP admin API of any node: HOST:PORT, or http://HOST:PORT
    #[arg(long, global = true, env = super::HTTP_VARIABLE, default_value = "http://127.0.0.1:8090", value_name = "URL", value_parser = base_url)]
    http: String,
}

impl HttpAddress {
    /// `GET` of a path.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.ask(|agent| agent.get(format!("{}{path}", self.http)).call(), ANSWER_MAX)
    }

    /// `GET` of a path with parameters.
    pub fn get_with(&self, path: &str, parameters: &[(&str, String)]) -> Result<Value> {
        let pairs = parameters.iter().map(|(name, value)| (*name, value.as_str()));
        self.ask(|agent| agent.get(format!("{}{path}", self.http)).query_pairs(pairs).call(), ANSWER_MAX)
    }

    /// `POST` of JSON to a path.
    pub fn post(&self, path: &str, body: &impl serde::Serialize, answer_max: Duration) -> Result<Value> {
        self.ask(|agent| agent.post(format!("{}{path}", self.http)).send_json(body), answer_max)
    }

    fn ask(
        &self,
        request: impl FnOnce(&ureq::Agent) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        answer_max: Duration,
    ) -> Result<Value> {
        let http = &self.http;
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_global(Some(answer_max))
            .http_status_as_error(false)
            .build()
            .into();
        let mut answer = request(&agent).with_context(|| format!("{http} (--http) cannot be asked"))?;
        let status = answer.status();
        let body: Value =
            answer.body_mut().read_json().with_context(|| format!("{http} (--http) is not the admin API of a node"))?;
        if !status.is_success() {
            bail!("{status}: {}", body["detail"].as_str().unwrap_or("no details"));
        }
        Ok(body)
    }
}

/// A name as one segment of a path.
pub fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}

/// A JSON value as a person reads it.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// The elements of a JSON list.
pub fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn base_url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    match text.split_once("://") {
        None => Ok(format!("http://{text}")),
        Some(("http", _)) => Ok(text.to_owned()),
        Some((scheme, _)) => Err(format!("the admin API speaks http, not {scheme}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_scheme_was_not_taken() {
        assert_eq!(base_url("n1:8090").unwrap(), "http://n1:8090");
        assert_eq!(base_url("http://n1:8090/").unwrap(), "http://n1:8090");
        assert!(base_url("https://n1:8090").is_err());
    }

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("my.group_1-x~"), "my.group_1-x~");
        assert_eq!(segment("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
    }
}
