//! Every request and response that clients send and get, in every version, and the records of `__consumer_offsets`.
//!
//! In: a [`Decoder`] or a typed message. Out: the other. Never here: what a broker does about it, or which versions it
//! offers ([`versions`](crate::versions)).
//!
//! - `api/`: one file per API with request and response together, written by `scripts/messages` from the schemas inside
//!   Kafka's published jar in the notation of `notation.rs`. Field names and struct names are Kafka's; a struct name
//!   that request and response use for different things gets `Request` or `Response` in front. Messages are re-exported
//!   here, the structs inside them live in the module of their API: `messages::FetchRequest`,
//!   `messages::fetch::FetchTopic`.
//! - [`header`]: what stands in front of every message. [`data`]: versioned values inside messages and records.
//! - [`RequestKind`] and [`ResponseKind`] hold a message of any API, so that a connection decodes without knowing them.
//!
//! Defaults are the schemas' own. Mind one of Kafka's habits: text that may be null starts out as `Some("")` unless the
//! schema says null.
//!
//! Reading does not insist that a message fills its frame (Kafka does not either); [`Decoder::remaining`] says what is
//! left.

#[macro_use]
mod notation;

mod api;
pub mod data;
#[cfg(test)]
mod fuzz;
pub mod header;
#[cfg(test)]
mod oracle;
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::fetch::{FetchPartition, FetchTopic, FetchableTopicResponse, PartitionData};
    use super::*;
    use crate::codec::Records;

    fn encoded<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
        let mut out = Encoder::new();
        message.encode(version, &mut out).map(|()| out.into_bytes())
    }

    #[test]
    fn what_a_version_cannot_say_is_an_error_unless_it_may_be_dropped() {
        let partition = FetchPartition { log_start_offset: 5, ..Default::default() };
        let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
        let mut request = FetchRequest { topics: vec![topic], rack_id: "r".into(), ..Default::default() };
        assert!(encoded(&request, 4).is_ok(), "rack and log start offset are ignorable");
        request.topics[0].partitions[0].last_fetched_epoch = 3;
        assert!(encoded(&request, 12).is_ok());
        let refused =
            EncodeError::FieldNotInVersion { message: "FetchPartition", field: "last_fetched_epoch", version: 11 };
        assert_eq!(encoded(&request, 11), Err(refused));

        let request = FetchRequest {
            replica_state: fetch::ReplicaState { replica_id: 1, replica_epoch: 2 },
            ..Default::default()
        };
        let refused = EncodeError::FieldNotInVersion { message: "FetchRequest", field: "replica_state", version: 14 };
        assert_eq!(encoded(&request, 14), Err(refused), "a tagged field");

        let everything = MetadataRequest { topics: None, ..Default::default() };
        assert_eq!(encoded(&everything, 0), Err(EncodeError::UnexpectedNull { version: 0 }));
        assert_eq!(encoded(&everything, 1).expect("fits"), [0xff, 0xff, 0xff, 0xff][..]);
        let refused = EncodeError::UnsupportedVersion { message: "MetadataRequest", version: 99 };
        assert_eq!(encoded(&everything, 99), Err(refused));
        let long = DeleteGroupsRequest { groups_names: vec!["x".repeat(40_000).into()] };
        assert_eq!(encoded(&long, 0), Err(EncodeError::TooLong { length: 40_000 }));
    }

    #[test]
    fn what_a_version_lacks_keeps_its_default() {
        let mut input = Decoder::new(Bytes::from_static(&[0, 0, 0, 0]));
        let read = MetadataRequest::decode(1, &mut input).expect("valid");
        assert!(read.allow_auto_topic_creation, "true before version 4");
        let null = MetadataRequest::decode(0, &mut Decoder::new(Bytes::from_static(&[0xff; 4])));
        assert_eq!(null, Err(DecodeError::UnexpectedNull { offset: 4 }));
        let refused = DecodeError::UnsupportedVersion { message: "ProduceRequest", version: 2 };
        assert_eq!(ProduceRequest::decode(2, &mut Decoder::new(Bytes::new())), Err(refused));
    }

    #[test]
    fn fetched_batches_travel_as_the_pieces_they_are() {
        let batches = [Bytes::from(vec![1; 4096]), Bytes::from(vec![2; 2048])];
        let records: Records = batches.iter().cloned().collect();
        let partition = PartitionData { records: Some(records.clone()), ..Default::default() };
        let topic = FetchableTopicResponse { topic: "t".into(), partitions: vec![partition], ..Default::default() };
        let response = FetchResponse { responses: vec![topic], ..Default::default() };
        let frame = response_frame(&response.clone().into(), 12, 1).expect("fits");
        let pieces: Vec<_> = frame.parts().iter().map(|part| part.as_ptr()).collect();
        assert_eq!(pieces.len(), 4, "small, batch, batch, small");
        assert_eq!(&pieces[1..3], [batches[0].as_ptr(), batches[1].as_ptr()]);

        let bytes = frame.into_bytes().slice(4..);
        let (_, read) = header::read_response::<FetchRequest>(bytes.clone(), 12).expect("valid");
        assert_eq!(read, response, "equal, though the records are one piece now");
        let read = read.responses[0].partitions[0].records.clone().expect("records").into_bytes();
        assert!(bytes.as_ptr_range().contains(&read.as_ptr()), "a slice of the frame");
    }
}
