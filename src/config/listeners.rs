//! Named listeners, as in Kafka: `NAME://HOST:PORT`.

use super::{ConfigError, Settings};
use std::fmt;

/// A host name or address and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// From 1, or 0 for "any free one" where that makes sense.
    pub port: u16,
}

impl HostPort {
    /// Read `HOST:PORT`; IPv6 addresses stand in brackets.
    pub fn parse(text: &str) -> Option<HostPort> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if !host.chars().all(ok) {
            return None;
        }
        Some(HostPort { host: host.to_owned(), port: port.parse().ok()? })
    }

    /// True for an address that means "every interface" and so cannot be told to others.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::")
    }

    /// What to bind to: an empty host is every interface.
    pub fn bind_address(&self) -> (&str, u16) {
        (if self.host.is_empty() { "0.0.0.0" } else { &self.host }, self.port)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One listener: where it binds and what clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name, upper case.
    pub name: String,
    /// Where it binds.
    pub bind: HostPort,
    /// What clients are told.
    pub advertised: HostPort,
}

/// Read `listeners` and `advertised.listeners` and match them by name.
pub fn listeners(settings: &Settings) -> Result<Vec<Listener>, ConfigError> {
    let bound = parse_list(settings, "listeners")?;
    if bound.is_empty() {
        return Err(settings.invalid("listeners", "at least one NAME://HOST:PORT"));
    }
    let advertised = parse_list(settings, "advertised.listeners")?;
    if let Some((name, _)) = advertised.iter().find(|(name, _)| !bound.iter().any(|(n, _)| n == name)) {
        return Err(settings.invalid("advertised.listeners", format!("names of `listeners` only; {name} is none")));
    }
    check_security(settings, &bound)?;
    let mut result: Vec<Listener> = Vec::with_capacity(bound.len());
    for (name, bind) in bound {
        if result.iter().any(|l| l.name == name) {
            return Err(settings.invalid("listeners", format!("every name once; {name} is there twice")));
        }
        let told = advertised.iter().find(|(n, _)| *n == name).map(|(_, a)| a.clone());
        if told.is_none() && bind.is_wildcard() {
            return Err(ConfigError::Conflict(format!(
                "listener {name} binds to every interface ({bind}): say in advertised.listeners what clients shall connect to"
            )));
        }
        if told.as_ref().is_some_and(HostPort::is_wildcard) {
            return Err(
                settings.invalid("advertised.listeners", "an address that clients can reach, not every interface")
            );
        }
        result.push(Listener { advertised: told.unwrap_or_else(|| bind.clone()), name, bind });
    }
    Ok(result)
}

fn parse_list(settings: &Settings, name: &str) -> Result<Vec<(String, HostPort)>, ConfigError> {
    let items = settings.text(name).split(',').map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            let parsed = item.split_once("://").and_then(|(n, a)| Some((n.to_uppercase(), HostPort::parse(a)?)));
            match parsed {
                Some((n, address)) if is_listener_name(&n) => Ok((n, address)),
                _ => Err(settings.invalid(name, format!("NAME://HOST:PORT, comma-separated; `{item}` is not that"))),
            }
        })
        .collect()
}

fn is_listener_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// A listener whose protocol is not spoken must not silently fall back to plain text.
fn check_security(settings: &Settings, bound: &[(String, HostPort)]) -> Result<(), ConfigError> {
    const MAP: &str = "listener.security.protocol.map";
    let map: Vec<(String, String)> = settings
        .text(MAP)
        .split(',')
        .filter(|item| !item.trim().is_empty())
        .map(|item| {
            let (name, protocol) =
                item.split_once(':').ok_or_else(|| settings.invalid(MAP, "NAME:PROTOCOL, comma-separated"))?;
            Ok((name.trim().to_uppercase(), protocol.trim().to_uppercase()))
        })
        .collect::<Result<_, ConfigError>>()?;
    for (name, _) in bound {
        let mapped = map.iter().find(|(n, _)| n == name).map(|(_, p)| p.as_str());
        let protocol = mapped.unwrap_or(match name.as_str() {
            "SSL" | "SASL_PLAINTEXT" | "SASL_SSL" => name,
            _ => "PLAINTEXT",
        });
        if protocol != "PLAINTEXT" {
            return Err(ConfigError::Conflict(format!(
                "listener {name} has security protocol {protocol}, which this version does not speak yet: only PLAINTEXT"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn with(pairs: &[(&str, &str)]) -> Result<Vec<Listener>, ConfigError> {
        let mut settings = Settings::default();
        for (name, value) in pairs {
            settings.set(name, *value, Source::Flag("--set".into())).unwrap();
        }
        listeners(&settings)
    }

    #[test]
    fn what_is_advertised_goes_by_name() {
        let got = with(&[
            ("listeners", "in://0.0.0.0:9092, OUT://:9093"),
            ("advertised.listeners", "OUT://b.example:9093,IN://10.0.0.1:9092"),
        ]);
        let got: Vec<_> = got.unwrap().iter().map(|l| format!("{} {} {}", l.name, l.bind, l.advertised)).collect();
        assert_eq!(got, ["IN 0.0.0.0:9092 10.0.0.1:9092", "OUT :9093 b.example:9093"]);
    }

    #[test]
    fn what_clients_could_never_reach_is_refused() {
        let refused = |pairs: &[(&str, &str)], part: &str| {
            let error = with(pairs).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(&[("listeners", "PLAINTEXT://0.0.0.0:9092")], "advertised.listeners");
        refused(&[("listeners", "A://h:1,A://h:2")], "twice");
        refused(&[("listeners", "h:1")], "`h:1` is not that");
        refused(&[("listeners", "A://h:99999")], "is not that");
        refused(&[("listeners", "SSL://h:1")], "only PLAINTEXT");
        refused(&[("advertised.listeners", "B://h:1")], "B is none");
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        let got = HostPort::parse("[::1]:9092").unwrap();
        assert_eq!((got.host.as_str(), got.port, got.to_string().as_str()), ("::1", 9092, "[::1]:9092"));
        assert_eq!(HostPort::parse("::1:9092"), None);
    }
}
