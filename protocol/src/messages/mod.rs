//! Every request and response that clients send and get, in every version, and the records of `__consumer_offsets`.
//!
//! In: a [`Decoder`] or a typed message. Out: the other. Never here: what a broker does about it, or which versions it offers ([`versions`](crate::versions)).
//!
//! - `api/`: one file per API with request and response together, written by `scripts/messages` from the schemas inside Kafka's published jar in
//!   the notation of `notation.rs`. Field names and struct names are Kafka's; a struct name that request and response use for different things gets
//!   `Request` or `Response` in front. Messages are re-exported here, the structs inside them live in the module of their API:
//!   `messages::FetchRequest`, `messages::fetch::FetchTopic`.
//! - [`header`]: what stands in front of every message. [`data`]: versioned values inside messages and records.
//! - [`RequestKind`] and [`ResponseKind`] hold a message of any API, so that a connection decodes without knowing them.
//!
//! Defaults are the schemas' own. Mind one of Kafka's habits: text that may be null starts out as `Some("")` unless the schema says null.
//!
//! Reading does not insist that a message fills its frame (Kafka does not either); [`Decoder::remaining`] says what is left.

#[macro_use]
mod notation;

mod api;
pub mod data;
pub mod header;
#[cfg(test)]
pub(crate) mod sample;

use std::ops::RangeInclusive;

pub use api::*;
pub use header::{RequestHeader, ResponseHeader, request_frame, response_frame};

use crate::codec::{DecodeError, Decoder, EncodeError, Encoder, Layout, Value};

/// A message with versions.
pub trait Message: Value + Default {
    /// Kafka's name.
    const NAME: &'static str;
    /// The versions that its declaration knows.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields (KIP-482), if any.
    const FLEXIBLE_FROM: Option<i16>;

    /// Read one in `version`.
    fn decode(version: i16, input: &mut Decoder) -> Result<Self, DecodeError> {
        match layout::<Self>(version) {
            Some(layout) => Self::read(input, layout),
            None => Err(DecodeError::UnsupportedVersion { message: Self::NAME, version }),
        }
    }

    /// Write it in `version`. A value that this version cannot say is an error, unless the schema lets it be dropped.
    fn encode(&self, version: i16, out: &mut Encoder) -> Result<(), EncodeError> {
        match layout::<Self>(version) {
            Some(layout) => self.write(out, layout),
            None => Err(EncodeError::UnsupportedVersion { message: Self::NAME, version }),
        }
    }

    /// A random one for tests that `version` can carry.
    #[cfg(test)]
    fn sample(dice: &mut sample::Dice, version: i16) -> Self {
        <Self as Value>::sample(dice, layout::<Self>(version).expect("a valid version"))
    }
}

fn layout<M: Message>(version: i16) -> Option<Layout> {
    let flexible = M::FLEXIBLE_FROM.is_some_and(|first| version >= first);
    M::VERSIONS.contains(&version).then_some(Layout { version, flexible, nullable: true })
}

/// A message that a client sends.
pub trait Request: Message + Into<RequestKind> {
    /// Its API.
    const KEY: ApiKey;
    /// What answers it, in the same version.
    type Response: Response;
}

/// A message that a broker answers with.
pub trait Response: Message + Into<ResponseKind> {
    /// Its API.
    const KEY: ApiKey;
}

impl ApiKey {
    /// Whether `version` has compact lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        self.flexible_from().is_some_and(|first| version >= first)
    }
}
