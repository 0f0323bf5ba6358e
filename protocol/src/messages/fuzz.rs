//! Arbitrary and damaged bytes against the decoder of every request in every version: no panic, and memory within a
//! small multiple of the frame.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;

use super::sample::Dice;
use super::{ApiKey, MetadataRequest, Request, RequestHeader, RequestKind, ResponseKind};
use crate::codec::{DecodeError, Decoder, Encoder};

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread holds.
struct Counting;

fn count(bytes: isize) {
    // A thread that is ending has no counters any more.
    let _ = IN_USE.try_with(|in_use| {
        in_use.set(in_use.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(in_use.get())));
    });
}

// SAFETY: hands everything to the system's allocator; counting touches no memory of the caller.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it moves, both may exist.
        count(size as isize);
        count(-(layout.size() as isize));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `work` held at once beyond what was there before.
fn peak_bytes(work: impl FnOnce()) -> usize {
    let before = IN_USE.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before) as usize
}

/// What one frame may make the decoder hold. A struct of nothing but empty names is some thirty times its wire size,
/// and a growing array is there one and a half times for a moment. The constant is what arrays are believed in advance,
/// at each level of nesting.
const MULTIPLE: usize = 50;
const CONSTANT: usize = 32 << 10;

fn decode(key: ApiKey, version: i16, frame: Bytes, what: &str) {
    let length = frame.len();
    let held = peak_bytes(|| drop(RequestKind::decode(key, version, &mut Decoder::new(frame.clone()))));
    assert!(held <= MULTIPLE * length + CONSTANT, "{what} {key:?} v{version}: {length} bytes made it hold {held}");
    drop(ResponseKind::decode(key, version, &mut Decoder::new(frame)));
}

/// Valid bytes with a few of them changed, cut off, or with a huge count and a long tail of the smallest elements
/// behind it.
fn damaged(dice: &mut Dice, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len().max(1));
        match dice.below(5) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = dice.next() as u8,
            2 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            3 => {
                let edge: &[u8] =
                    [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff; 5], &[0xff, 0xff, 0xff, 0x7f], &[0x80; 6]][dice.below(4)];
                bytes.splice(at..bytes.len().min(at + edge.len()), edge.iter().copied());
            }
            _ => {
                let tail = 8 << 10;
                bytes.truncate(at);
                // As a compact count, the low bytes of a classic one, and what follows as ones or zeros.
                let counts: [&[u8]; 3] = [&[0x80, 0x10], &[0, 0, 0x04, 0], &[0xff, 0x3f]];
                bytes.extend_from_slice(counts[dice.below(3)]);
                bytes.resize(at + tail, dice.below(2) as u8);
            }
        }
    }
    bytes
}

#[test]
fn arbitrary_bytes_neither_panic_nor_fill_the_memory() {
    let mut dice = Dice(1);
    for key in ApiKey::ALL.iter().copied() {
        for version in key.versions() {
            for _ in 0..300 {
                let length = dice.below(300);
                let bytes: Vec<u8> = (0..length).map(|_| [0, 1, 2, dice.next() as u8, 0xff][dice.below(5)]).collect();
                decode(key, version, bytes.into(), "arbitrary");
            }
        }
    }
}

#[test]
fn damaged_requests_neither_panic_nor_fill_the_memory() {
    for key in ApiKey::ALL.iter().copied() {
        for version in key.versions() {
            for seed in 0..400 {
                let mut dice = Dice(seed);
                let mut out = Encoder::new();
                RequestKind::sample(key, &mut dice, version).encode(version, &mut out).expect("a sample fits");
                let bytes = damaged(&mut dice, out.into_bytes().to_vec());
                decode(key, version, bytes.into(), "damaged");
            }
        }
    }
}

#[test]
fn arbitrary_frames_do_not_panic_in_their_header() {
    let mut dice = Dice(2);
    for _ in 0..20_000 {
        let length = dice.below(40);
        let mut bytes: Vec<u8> = (0..length).map(|_| dice.next() as u8).collect();
        bytes.iter_mut().take(1).for_each(|byte| *byte = 0);
        drop(RequestHeader::peek(&bytes));
        let mut input = Decoder::new(bytes.into());
        if let Ok((key, header)) = RequestHeader::decode(&mut input) {
            drop(RequestKind::decode(key, header.api_version, &mut input));
        }
    }
}

#[test]
fn four_bytes_that_claim_two_thousand_million_topics_are_refused() {
    let frame = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    let held = peak_bytes(|| {
        let result = RequestKind::decode(MetadataRequest::KEY, 1, &mut Decoder::new(frame.clone()));
        assert_eq!(result, Err(DecodeError::ArrayTooLong { offset: 4, claimed: 0x7fff_ffff, remaining: 0 }));
    });
    assert_eq!(held, 0);
}

#[test]
fn a_large_frame_of_empty_names_is_stopped_by_the_limit() {
    let count = 4 << 20;
    let mut out = Encoder::new();
    out.uvarint(count + 1);
    out.slice(&vec![1; count as usize]);
    let frame = out.into_bytes();
    let length = frame.len();
    let held = peak_bytes(|| {
        // DeleteGroups: the element is a bare name, a single byte if empty.
        let result = RequestKind::decode(ApiKey::DeleteGroups, 2, &mut Decoder::new(frame));
        assert!(matches!(result, Err(DecodeError::TooMuchMemory { .. })), "{:?}", result.map(|_| ()));
    });
    assert!(held < length, "held {held}");
}
