//! Every message in every version against another implementation of the protocol.
//!
//! A random message is written by ours, read by theirs with nothing left over, written again by theirs: the bytes must
//! be the same, and ours must read them back as the same message. So both agree in both directions on order, types,
//! nulls, compact forms, defaults and tags.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;

use super::data::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, GroupMetadataKey, GroupMetadataValue, OffsetCommitKey,
    OffsetCommitValue,
};
use super::sample::Dice;
use super::{ApiKey, Message, RequestKind, ResponseKind};
use crate::batch::RecordBatchBuilder;
use crate::codec::{Decoder, Encoder};
use crate::compression::Compression;

const ROUNDS: u64 = 150;

/// Where the oracle's table of versions is ahead of its requests.
const NOT_KNOWN: &[(ApiKey, i16)] =
    &[(ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10), (ApiKey::InitProducerId, 6)];

fn encode(kind: &str, key: ApiKey, write: impl FnOnce(&mut Encoder) -> Result<(), crate::codec::EncodeError>) -> Bytes {
    let mut out = Encoder::new();
    write(&mut out).unwrap_or_else(|error| panic!("{kind} {key:?}: {error}"));
    out.into_bytes()
}

fn oracle_knows(key: ApiKey, version: i16) -> Option<theirs::ApiKey> {
    let their_key = theirs::ApiKey::try_from(key as i16).ok()?;
    let known = their_key.valid_versions();
    let known = (known.min..=known.max).contains(&version) && !NOT_KNOWN.contains(&(key, version));
    known.then_some(their_key)
}

macro_rules! check {
    ($ours:ident, $what:literal) => {{
        let mut compared = 0;
        for key in ApiKey::ALL.iter().copied() {
            for version in key.versions() {
                for seed in 0..ROUNDS {
                    let message = $ours::sample(key, &mut Dice(seed), version);
                    let bytes = encode($what, key, |out| message.encode(version, out));
                    let mut input = Decoder::new(bytes.clone());
                    let read = $ours::decode(key, version, &mut input);
                    assert_eq!(read.as_ref(), Ok(&message), "{} {key:?} v{version} seed {seed}", $what);
                    assert_eq!(input.remaining(), 0, "{} {key:?} v{version} seed {seed}", $what);

                    let Some(their_key) = oracle_knows(key, version) else { continue };
                    let mut rest = bytes.clone();
                    let read = theirs::$ours::decode(their_key, &mut rest, version).unwrap_or_else(|error| {
                        panic!("{} {key:?} v{version} seed {seed}: {error}\n{message:?}", $what)
                    });
                    assert!(rest.is_empty(), "{} {key:?} v{version} seed {seed}: {} bytes left", $what, rest.len());
                    let mut again = BytesMut::new();
                    read.encode(&mut again, version)
                        .unwrap_or_else(|error| panic!("{} {key:?} v{version} seed {seed}: {error}\n{read:?}", $what));
                    assert_eq!(bytes, again, "{} {key:?} v{version} seed {seed}\n{message:?}\n{read:?}", $what);
                    compared += 1;
                }
            }
        }
        compared
    }};
}

#[test]
fn requests_agree_with_the_oracle() {
    let compared: u64 = check!(RequestKind, "request");
    assert!(compared > 150 * ROUNDS, "only {compared} were compared");
}

#[test]
fn responses_agree_with_the_oracle() {
    let compared: u64 = check!(ResponseKind, "response");
    assert!(compared > 150 * ROUNDS, "only {compared} were compared");
}

#[test]
fn headers_agree_with_the_oracle() {
    for key in ApiKey::ALL.iter().copied() {
        for version in key.versions() {
            if let Some(their_key) = oracle_knows(key, version) {
                let request = if key.is_flexible(version) { 2 } else { 1 };
                assert_eq!(their_key.request_header_version(version), request, "{key:?} v{version}");
                let mut out = Encoder::new();
                super::ResponseHeader { correlation_id: 1 }.encode(key, version, &mut out);
                let response = out.len() as i16 - 4;
                assert_eq!(their_key.response_header_version(version), response, "{key:?} v{version}");
            }
        }
    }
}

/// Samples of every message, one a line: class, version, bytes. `scripts/messages-check` hands them to Kafka's own
/// classes.
#[test]
#[ignore = "writes the file that scripts/messages-check asks for"]
fn write_samples() {
    use std::fmt::Write;

    let mut lines = String::new();
    let mut line = |class: &str, version: i16, bytes: &[u8]| {
        write!(lines, "{class} {version} ").expect("memory");
        bytes.iter().for_each(|byte| write!(lines, "{byte:02x}").expect("memory"));
        lines.push('\n');
    };
    for key in ApiKey::ALL.iter().copied() {
        for (version, seed) in key.versions().flat_map(|version| (0..20).map(move |seed| (version, seed))) {
            let request = RequestKind::sample(key, &mut Dice(seed), version);
            line(request.name(), version, &encode("request", key, |out| request.encode(version, out)));
            let response = ResponseKind::sample(key, &mut Dice(seed), version);
            line(response.name(), version, &encode("response", key, |out| response.encode(version, out)));
        }
    }
    macro_rules! data {
        ($($name:ident)*) => {$(
            for (version, seed) in $name::VERSIONS.flat_map(|version| (0..20).map(move |seed| (version, seed))) {
                let mut out = Encoder::new();
                let value = <$name as Message>::sample(&mut Dice(seed), version);
                value.encode(version, &mut out).expect("a sample fits");
                line($name::NAME, version, &out.into_bytes());
            }
        )*};
    }
    data! {
        ConsumerProtocolSubscription ConsumerProtocolAssignment
        OffsetCommitKey OffsetCommitValue GroupMetadataKey GroupMetadataValue
    }
    for codec in Compression::ALL {
        let mut batch = RecordBatchBuilder::new().compression(codec).place(70, 1);
        for n in 0..5000 {
            batch.push(1000 + n, None, Some(format!("value {n}").as_bytes()), &[("a", None), ("b", Some(b"c"))]);
        }
        line("RecordBatch", 2, batch.build().expect("a batch").bytes());
    }
    std::fs::write(std::env::var("SAMPLES").expect("SAMPLES names the file"), lines).expect("written");
}
