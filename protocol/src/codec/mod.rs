//! Reading and writing Kafka's primitive types.
//!
//! In: one frame as [`Bytes`](bytes::Bytes). Out: typed values, whose `bytes` and `records` are slices of that frame;
//! or the other way round, [`Segments`] that a connection writes vectored. Never here: what a message means, sockets,
//! compression.
//!
//! What a peer sends is bounded three ways, so that arbitrary bytes can neither panic nor fill the memory:
//!
//! 1. No array may claim more elements than the bytes that remain could hold at the least size of one element.
//! 2. An array's capacity starts small and grows with the elements that were really read.
//! 3. All array elements of one frame together stay within [`DecodeLimits`]: a frame of the largest allowed size cannot
//!    expand to many times itself.
//!
//! Nesting is as deep as the declared messages and no deeper: no declaration contains itself.
//!
//! Text is [`SmolStr`]: up to 23 bytes inline without allocation, longer text shared, a clone never more than a
//! counter. It is not a slice of the frame on purpose: a kept topic name must not pin a megabyte of records, and a
//! frame whose only slice is the record batch can be patched in place (`RecordBatch::assign_offsets`).

mod decoder;
mod encoder;
mod error;
mod records;
mod value;

pub use decoder::{DecodeLimits, Decoder};
pub use encoder::{Encoder, Segments};
pub use error::{DecodeError, EncodeError};
pub use records::Records;
pub use smol_str::SmolStr;
pub use value::{Layout, Value};
