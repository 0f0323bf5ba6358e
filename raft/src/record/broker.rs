//! A broker's registration as the log carries it.

use super::codec::{Decoder, Encoder, RecordError};
use crate::ids::{BrokerEpoch, DirectoryId, IncarnationId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One registration of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterBroker {
    /// Kafka's `node.id`.
    pub id: NodeId,
    /// The epoch this registration gives: above every earlier one of this node, never above the entry's log index.
    pub epoch: BrokerEpoch,
    /// Which start of the process.
    pub incarnation: IncarnationId,
    /// The epoch the broker remembers from its last registration; `UNKNOWN` if none.
    pub previous_epoch: BrokerEpoch,
    /// What clients connect to, by listener name.
    pub listeners: Vec<Listener>,
    /// Where other nodes reach it.
    pub peer_address: Address,
    /// Where gossip reaches it (UDP); `None` when gossip is off.
    pub gossip_address: Option<Address>,
    /// Failure domain for placement.
    pub rack: Option<String>,
    /// Which features it supports, by name.
    pub features: BTreeMap<String, FeatureRange>,
    /// Every configured data directory with its state.
    pub directories: Vec<Directory>,
    /// Whether the node is a controller too.
    pub is_controller: bool,
}

/// A named listener (Kafka's `advertised.listeners`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// For instance `PLAINTEXT` or `EXTERNAL`.
    pub name: String,
    /// Host name or address as clients shall use it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How clients speak on it.
    pub security_protocol: SecurityProtocol,
}

/// Kafka's security protocols with Kafka's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext = 0,
    /// TLS.
    Ssl = 1,
    /// SASL without TLS.
    SaslPlaintext = 2,
    /// SASL over TLS.
    SaslSsl = 3,
}

impl SecurityProtocol {
    /// The protocol with this wire id.
    pub fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Plaintext),
            1 => Some(Self::Ssl),
            2 => Some(Self::SaslPlaintext),
            3 => Some(Self::SaslSsl),
            _ => None,
        }
    }
    /// Kafka's name, as in `listener.security.protocol.map`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }
}

/// Host and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The levels of a feature a node supports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureRange {
    /// Lowest level.
    pub min: i16,
    /// Highest level.
    pub max: i16,
}

/// A data directory of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Its identity: a wiped directory has another.
    pub id: DirectoryId,
    /// Whether its logs can be used and trusted.
    pub state: DirectoryState,
}

/// What the broker knows about a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum DirectoryState {
    /// Usable, and everything ever synced to it is there.
    Online = 0,
    /// Not usable now (disk full, failed fsync); what was synced may still be there.
    Offline = 1,
    /// Usable, but synced data was lost: its replicas count only after they caught up again.
    LogLost = 2,
}

impl DirectoryState {
    /// The state with this id.
    pub fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Online),
            1 => Some(Self::Offline),
            2 => Some(Self::LogLost),
            _ => None,
        }
    }
    /// Whether replicas can be hosted there now.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Online | Self::LogLost)
    }
}

impl RegisterBroker {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.i32(self.id.0);
        out.i64(self.epoch.0);
        out.uuid(self.incarnation.0);
        out.i64(self.previous_epoch.0);
        out.list(&self.listeners, |out, l| {
            out.string(&l.name);
            out.string(&l.host);
            out.u16(l.port);
            out.u8(l.security_protocol as u8);
        });
        encode_address(out, &self.peer_address);
        out.option(self.gossip_address.as_ref(), encode_address);
        out.option(self.rack.as_deref(), Encoder::string);
        out.count(self.features.len());
        for (name, range) in &self.features {
            out.string(name);
            out.i16(range.min);
            out.i16(range.max);
        }
        encode_directories(out, &self.directories);
        out.bool(self.is_controller);
    }

    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            id: NodeId(input.i32()?),
            epoch: BrokerEpoch(input.i64()?),
            incarnation: IncarnationId(input.uuid()?),
            previous_epoch: BrokerEpoch(input.i64()?),
            listeners: input.list(|input| {
                Ok(Listener {
                    name: input.string()?,
                    host: input.string()?,
                    port: input.u16()?,
                    security_protocol: input.known("security protocol", SecurityProtocol::from_id)?,
                })
            })?,
            peer_address: decode_address(input)?,
            gossip_address: input.option(decode_address)?,
            rack: input.option(Decoder::string)?,
            features: input
                .list(|input| Ok((input.string()?, FeatureRange { min: input.i16()?, max: input.i16()? })))?
                .into_iter()
                .collect(),
            directories: decode_directories(input)?,
            is_controller: input.bool()?,
        })
    }
}

fn encode_address(out: &mut Encoder, address: &Address) {
    out.string(&address.host);
    out.u16(address.port);
}

fn decode_address(input: &mut Decoder<'_>) -> Result<Address, RecordError> {
    Ok(Address { host: input.string()?, port: input.u16()? })
}

pub(super) fn encode_directories(out: &mut Encoder, directories: &[Directory]) {
    out.list(directories, |out, d| {
        out.uuid(d.id.0);
        out.u8(d.state as u8);
    });
}

pub(super) fn decode_directories(input: &mut Decoder<'_>) -> Result<Vec<Directory>, RecordError> {
    input.list(|input| {
        let id = DirectoryId(input.uuid()?);
        let state = input.known("directory state", DirectoryState::from_id)?;
        Ok(Directory { id, state })
    })
}
