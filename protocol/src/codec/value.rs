//! [`Value`]: how each type of the schemas is read and written, in the classic and in the compact form.

use bytes::Bytes;
use smol_str::SmolStr;
use uuid::Uuid;

use super::{DecodeError, Decoder, EncodeError, Encoder, Records};
#[cfg(test)]
use crate::messages::sample::Dice;

/// The form in which one field travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Version of the message.
    pub version: i16,
    /// Compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
    /// Whether null is allowed for this field in this version; says something only for an `Option`.
    pub nullable: bool,
}

/// A type that a field can have. The `_option` functions are the nullable form; what has no length prefix to say null
/// with has a byte in front instead (1 present, -1 null).
pub trait Value: Sized {
    /// The fewest bytes that a value takes.
    fn least_bytes(layout: Layout) -> usize;
    /// Read one.
    fn read(input: &mut Decoder, layout: Layout) -> Result<Self, DecodeError>;
    /// Write it.
    fn write(&self, out: &mut Encoder, layout: Layout) -> Result<(), EncodeError>;

    /// The fewest bytes of the nullable form.
    fn least_bytes_option(_: Layout) -> usize {
        1
    }
    /// Read one that may be null.
    fn read_option(input: &mut Decoder, layout: Layout) -> Result<Option<Self>, DecodeError> {
        if input.i8()? < 0 { Ok(None) } else { Self::read(input, layout).map(Some) }
    }
    /// Write one that may be null.
    fn write_option(this: Option<&Self>, out: &mut Encoder, layout: Layout) -> Result<(), EncodeError> {
        out.i8(if this.is_some() { 1 } else { -1 });
        this.map_or(Ok(()), |value| value.write(out, layout))
    }

    /// A random value for tests: only what `layout` can carry.
    #[cfg(test)]
    fn sample(dice: &mut Dice, layout: Layout) -> Self;
}

macro_rules! scalar {
    ($($rust:ty, $method:ident, $size:literal, $dice:ident => $sample:expr;)*) => {$(
        impl Value for $rust {
            fn least_bytes(_: Layout) -> usize {
                $size
            }
            fn read(input: &mut Decoder, _: Layout) -> Result<Self, DecodeError> {
                input.$method()
            }
            fn write(&self, out: &mut Encoder, _: Layout) -> Result<(), EncodeError> {
                out.$method(*self);
                Ok(())
            }
            #[cfg(test)]
            fn sample($dice: &mut Dice, _: Layout) -> Self {
                $sample
            }
        }
    )*};
}
scalar! {
    bool, bool, 1, dice => dice.below(2) == 1;
    i8, i8, 1, dice => dice.number() as i8;
    i16, i16, 2, dice => dice.number() as i16;
    u16, u16, 2, dice => dice.number() as u16;
    i32, i32, 4, dice => dice.number() as i32;
    i64, i64, 8, dice => dice.number() as i64;
    f64, f64, 8, dice => dice.number() as f64;
    Uuid, uuid, 16, dice => Uuid::from_u128(u128::from(dice.number()) << 64 | u128::from(dice.number()));
}

/// A length prefix of the classic form.
#[derive(Clone, Copy)]
enum Prefix {
    Two,
    Four,
}

impl Prefix {
    fn least_bytes(self, layout: Layout) -> usize {
        match self {
            _ if layout.flexible => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    fn read(self, input: &mut Decoder, layout: Layout) -> Result<Option<usize>, DecodeError> {
        match self {
            _ if layout.flexible => input.compact_length(),
            Self::Two => input.length16(),
            Self::Four => input.length32(),
        }
    }

    fn write(self, out: &mut Encoder, layout: Layout, length: Option<usize>) -> Result<(), EncodeError> {
        match self {
            _ if layout.flexible => out.compact_length(length),
            Self::Two => out.length16(length),
            Self::Four => out.length32(length),
        }
    }
}

/// The three functions of the plain form, for types whose nullable form is the primary one.
macro_rules! plain_form_of_nullable {
    () => {
        fn least_bytes(layout: Layout) -> usize {
            Self::least_bytes_option(layout)
        }
        fn read(input: &mut Decoder, layout: Layout) -> Result<Self, DecodeError> {
            Self::read_option(input, layout)?.ok_or(DecodeError::UnexpectedNull { offset: input.position() })
        }
        fn write(&self, out: &mut Encoder, layout: Layout) -> Result<(), EncodeError> {
            Self::write_option(Some(self), out, layout)
        }
    };
}

impl Value for SmolStr {
    plain_form_of_nullable!();

    fn least_bytes_option(layout: Layout) -> usize {
        Prefix::Two.least_bytes(layout)
    }
    fn read_option(input: &mut Decoder, layout: Layout) -> Result<Option<Self>, DecodeError> {
        let length = Prefix::Two.read(input, layout)?;
        length.map(|length| input.text(length)).transpose()
    }
    fn write_option(this: Option<&Self>, out: &mut Encoder, layout: Layout) -> Result<(), EncodeError> {
        Prefix::Two.write(out, layout, this.map(|text| text.len()))?;
        out.slice(this.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }
    #[cfg(test)]
    fn sample(dice: &mut Dice, _: Layout) -> Self {
        dice.text().into()
    }
}

impl Value for Bytes {
    plain_form_of_nullable!();

    fn least_bytes_option(layout: Layout) -> usize {
        Prefix::Four.least_bytes(layout)
    }
    fn read_option(input: &mut Decoder, layout: Layout) -> Result<Option<Self>, DecodeError> {
        let length = Prefix::Four.read(input, layout)?;
        length.map(|length| input.slice(length)).transpose()
    }
    fn write_option(this: Option<&Self>, out: &mut Encoder, layout: Layout) -> Result<(), EncodeError> {
        Prefix::Four.write(out, layout, this.map(Self::len))?;
        this.into_iter().for_each(|bytes| out.bytes(bytes));
        Ok(())
    }
    #[cfg(test)]
    fn sample(dice: &mut Dice, _: Layout) -> Self {
        dice.bytes().into()
    }
}

impl Value for Records {
    plain_form_of_nullable!();

    fn least_bytes_option(layout: Layout) -> usize {
        Prefix::Four.least_bytes(layout)
    }
    fn read_option(input: &mut Decoder, layout: Layout) -> Result<Option<Self>, DecodeError> {
        Ok(Bytes::read_option(input, layout)?.map(Self::from))
    }
    fn write_option(this: Option<&Self>, out: &mut Encoder, layout: Layout) -> Result<(), EncodeError> {
        Prefix::Four.write(out, layout, this.map(Self::len))?;
        this.into_iter().flat_map(Self::pieces).for_each(|piece| out.bytes(piece));
        Ok(())
    }
    #[cfg(test)]
    fn sample(dice: &mut Dice, _: Layout) -> Self {
        (0..dice.below(3)).map(|_| Bytes::from(dice.bytes())).collect()
    }
}

impl<T: Value> Value for Vec<T> {
    plain_form_of_nullable!();

    fn least_bytes_option(layout: Layout) -> usize {
        Prefix::Four.least_bytes(layout)
    }
    fn read_option(input: &mut Decoder, layout: Layout) -> Result<Option<Self>, DecodeError> {
        /// Up to here the claim is believed; beyond it, the array grows as elements arrive.
        const BELIEVED_BYTES: usize = 4096;
        let Some(count) = Prefix::Four.read(input, layout)? else { return Ok(None) };
        input.charge(count, T::least_bytes(layout), size_of::<T>())?;
        let mut elements = Vec::with_capacity(count.min(BELIEVED_BYTES / size_of::<T>().max(1)));
        for _ in 0..count {
            if elements.len() == elements.capacity() {
                // Doubles, but never beyond the count.
                elements.reserve_exact(elements.len().max(1).min(count - elements.len()));
            }
            elements.push(T::read(input, layout)?);
        }
        Ok(Some(elements))
    }
    fn write_option(this: Option<&Self>, out: &mut Encoder, layout: Layout) -> Result<(), EncodeError> {
        Prefix::Four.write(out, layout, this.map(Self::len))?;
        this.into_iter().flatten().try_for_each(|element| element.write(out, layout))
    }
    #[cfg(test)]
    fn sample(dice: &mut Dice, layout: Layout) -> Self {
        (0..dice.below(4)).map(|_| T::sample(dice, layout)).collect()
    }
}

impl<T: Value> Value for Option<T> {
    fn least_bytes(layout: Layout) -> usize {
        if layout.nullable { T::least_bytes_option(layout) } else { T::least_bytes(layout) }
    }
    fn read(input: &mut Decoder, layout: Layout) -> Result<Self, DecodeError> {
        if layout.nullable { T::read_option(input, layout) } else { T::read(input, layout).map(Some) }
    }
    fn write(&self, out: &mut Encoder, layout: Layout) -> Result<(), EncodeError> {
        match self {
            value if layout.nullable => T::write_option(value.as_ref(), out, layout),
            Some(value) => value.write(out, layout),
            None => Err(EncodeError::UnexpectedNull { version: layout.version }),
        }
    }
    #[cfg(test)]
    fn sample(dice: &mut Dice, layout: Layout) -> Self {
        (!layout.nullable || dice.below(3) > 0).then(|| T::sample(dice, layout))
    }
}
