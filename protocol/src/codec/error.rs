//! What can be wrong with bytes that came in, and with a value that is to go out.

use thiserror::Error;

/// Bytes that are no valid message. `offset` counts from the first byte that the decoder was given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("at byte {offset}: {needed} bytes needed, {remaining} left")]
    Truncated {
        /// Where the value starts.
        offset: usize,
        /// How many bytes it needs.
        needed: usize,
        /// How many there are.
        remaining: usize,
    },
    /// A length below -1.
    #[error("at byte {offset}: length {length} is negative")]
    NegativeLength {
        /// Behind the length.
        offset: usize,
        /// What it says.
        length: i64,
    },
    /// Null where this version has no null.
    #[error("at byte {offset}: null in a field that is never null")]
    UnexpectedNull {
        /// Behind the null.
        offset: usize,
    },
    /// More elements claimed than the remaining bytes can hold.
    #[error("at byte {offset}: an array claims {claimed} elements, but {remaining} bytes are left")]
    ArrayTooLong {
        /// Behind the element count.
        offset: usize,
        /// The count.
        claimed: usize,
        /// Bytes left.
        remaining: usize,
    },
    /// The arrays of this frame would take more memory than [`DecodeLimits`](super::DecodeLimits) allows.
    #[error("at byte {offset}: the arrays of this frame need more memory than its size allows")]
    TooMuchMemory {
        /// Behind the count of the array that was one too many.
        offset: usize,
    },
    /// Text that is not UTF-8.
    #[error("at byte {offset}: text is not UTF-8")]
    InvalidUtf8 {
        /// Where the text starts.
        offset: usize,
    },
    /// A variable-length number that does not fit its type.
    #[error("at byte {offset}: a variable-length number has too many bits")]
    VarintTooLong {
        /// Where the number starts.
        offset: usize,
    },
    /// A known tagged field that did not use the bytes it declared.
    #[error("at byte {offset}: tagged field {tag} declares {declared} bytes and uses {used}")]
    TaggedFieldSize {
        /// Behind the field.
        offset: usize,
        /// Which.
        tag: u32,
        /// Its declared size.
        declared: usize,
        /// The size of its value.
        used: usize,
    },
    /// An API key that no declaration has.
    #[error("API key {0} is not known")]
    UnknownApiKey(i16),
    /// A version outside the message's valid ones.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// The message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
}

/// A value that the chosen version cannot carry. Always a mistake of the sender, never of the peer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A field has a meaning that this version cannot say and that may not be dropped.
    #[error("{message}.{field} is set, but version {version} does not have it")]
    FieldNotInVersion {
        /// The struct.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// Null in a version in which the field is never null.
    #[error("null in a field that is never null in version {version}")]
    UnexpectedNull {
        /// The version.
        version: i16,
    },
    /// A length that its prefix cannot hold.
    #[error("{length} bytes or elements do not fit the length prefix")]
    TooLong {
        /// The length.
        length: usize,
    },
    /// A version outside the message's valid ones.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// The message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
}
