//! The notation in which messages are declared, and what a declaration turns into.
//!
//! ```text
//! api! {
//!     Fetch: versions 4..=18, flexible 12;          // flexible from version 12 on, or `never`
//!
//!     request FetchRequest {                        // then the structs it uses
//!         replica_id: i32 [to(14)] = -1,            // in which versions; default if not that of the type
//!         max_wait_ms: i32,                         // in all versions
//!         rack_id: SmolStr [from(11).ignorable()],  // dropped, not refused, where a version cannot say it
//!     } tagged {
//!         0 => cluster_id: Option<SmolStr> [from(12).ignorable()],
//!     }
//!     response FetchResponse { … }
//! }
//! ```
//!
//! A struct becomes a Rust struct with `Default` (the declared defaults) and [`Value`](crate::codec::Value). On
//! reading, a field that the version lacks keeps its default; on writing, such a field with another value is an error
//! unless it is `ignorable`. Ranges are relative to the versions in which the struct is on the wire at all.

/// The versions that have a field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presence {
    first: i16,
    last: i16,
    nullable_from: i16,
    /// Whether a value that the version cannot say is dropped.
    pub(crate) ignorable: bool,
}

pub(crate) const fn always() -> Presence {
    between(0, i16::MAX)
}

pub(crate) const fn from(first: i16) -> Presence {
    between(first, i16::MAX)
}

pub(crate) const fn to(last: i16) -> Presence {
    between(0, last)
}

pub(crate) const fn between(first: i16, last: i16) -> Presence {
    Presence { first, last, nullable_from: 0, ignorable: false }
}

impl Presence {
    pub(crate) const fn nullable(mut self, first: i16) -> Self {
        self.nullable_from = first;
        self
    }

    pub(crate) const fn ignorable(mut self) -> Self {
        self.ignorable = true;
        self
    }

    pub(crate) const fn holds(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    pub(crate) const fn layout(self, of_struct: crate::codec::Layout) -> crate::codec::Layout {
        crate::codec::Layout { nullable: of_struct.version >= self.nullable_from, ..of_struct }
    }
}

macro_rules! default_of {
    () => {
        Default::default()
    };
    ($value:expr) => {
        $value
    };
}

macro_rules! presence {
    () => {{
        use $crate::messages::notation::*;
        always()
    }};
    ($($spec:tt)+) => {{
        #[allow(unused_imports)]
        use $crate::messages::notation::*;
        $($spec)+
    }};
}

/// A field of all versions costs nothing; one of some versions asks first.
macro_rules! if_present {
    ($layout:ident [] $do:expr) => {
        $do
    };
    ($layout:ident [] $do:expr, $missing:expr) => {
        $do
    };
    ($layout:ident [$($spec:tt)+] $do:expr $(, $missing:expr)?) => {{
        const PRESENCE: $crate::messages::notation::Presence = presence!($($spec)+);
        if PRESENCE.holds($layout.version) {
            #[allow(unused_variables)]
            let $layout = PRESENCE.layout($layout);
            $do
        }
        $(else if !PRESENCE.ignorable {
            $missing
        })?
    }};
}

/// The declaration of a field, as its documentation.
macro_rules! declared {
    ($name:expr, $type:ty [$($spec:tt)*] $($default:expr)?) => {
        concat!("`", $name, ": ", stringify!($type), " ", stringify!($($spec)*), $(" = ", stringify!($default),)? "`")
    };
}

macro_rules! structure {
    ($name:ident
        { $($field:ident: $type:ty $([$($spec:tt)+])? $(= $default:expr)?,)* }
        { $($tag:literal => $tagged:ident: $ttype:ty $([$($tspec:tt)+])? $(= $tdefault:expr)?,)* }
    ) => {
        #[doc = concat!("Kafka's `", stringify!($name), "`.")]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(
                #[doc = declared!(stringify!($field), $type [$($($spec)+)?] $($default)?)]
                pub $field: $type,
            )*
            $(
                #[doc = declared!(
                    concat!("tag ", $tag, ", ", stringify!($tagged)),
                    $ttype [$($($tspec)+)?] $($tdefault)?
                )]
                pub $tagged: $ttype,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: default_of!($($default)?),)*
                    $($tagged: default_of!($($tdefault)?),)*
                }
            }
        }

        #[allow(unused_variables, unused_mut)]
        impl $crate::codec::Value for $name {
            fn least_bytes(layout: $crate::codec::Layout) -> usize {
                let layout = $crate::codec::Layout { nullable: true, ..layout };
                let mut least = usize::from(layout.flexible);
                $(if_present!(layout [$($($spec)+)?] least += <$type as $crate::codec::Value>::least_bytes(layout));)*
                least
            }

            fn read(
                input: &mut $crate::codec::Decoder,
                layout: $crate::codec::Layout,
            ) -> Result<Self, $crate::codec::DecodeError> {
                let layout = $crate::codec::Layout { nullable: true, ..layout };
                let mut this = Self::default();
                $(if_present!(layout [$($($spec)+)?] this.$field = $crate::codec::Value::read(input, layout)?);)*
                if layout.flexible {
                    input.tagged_fields(|input, tag| {
                        match tag {
                            $($tag if presence!($($($tspec)+)?).holds(layout.version) => {
                                let layout = presence!($($($tspec)+)?).layout(layout);
                                this.$tagged = $crate::codec::Value::read(input, layout)?;
                            })*
                            _ => return Ok(false),
                        }
                        #[allow(unreachable_code)]
                        Ok(true)
                    })?;
                }
                Ok(this)
            }

            fn write(
                &self,
                out: &mut $crate::codec::Encoder,
                layout: $crate::codec::Layout,
            ) -> Result<(), $crate::codec::EncodeError> {
                let layout = $crate::codec::Layout { nullable: true, ..layout };
                let missing = |field| $crate::codec::EncodeError::FieldNotInVersion {
                    message: stringify!($name),
                    field,
                    version: layout.version,
                };
                $(if_present!(layout [$($($spec)+)?]
                    $crate::codec::Value::write(&self.$field, out, layout)?,
                    {
                        let default: $type = default_of!($($default)?);
                        if self.$field != default {
                            return Err(missing(stringify!($field)));
                        }
                    }
                );)*
                let mut tags = 0u32;
                $(
                    let default: $ttype = default_of!($($tdefault)?);
                    let $tagged = self.$tagged != default;
                    if $tagged && presence!($($($tspec)+)?).holds(layout.version) && layout.flexible {
                        tags += 1;
                    } else if $tagged && !presence!($($($tspec)+)?).ignorable {
                        return Err(missing(stringify!($tagged)));
                    }
                )*
                if layout.flexible {
                    out.uvarint(tags);
                    $(if $tagged && presence!($($($tspec)+)?).holds(layout.version) {
                        let layout = presence!($($($tspec)+)?).layout(layout);
                        out.tagged_field($tag, |out| $crate::codec::Value::write(&self.$tagged, out, layout))?;
                    })*
                }
                Ok(())
            }

            #[cfg(test)]
            fn sample(dice: &mut $crate::messages::sample::Dice, layout: $crate::codec::Layout) -> Self {
                let layout = $crate::codec::Layout { nullable: true, ..layout };
                let mut this = Self::default();
                $(if_present!(layout [$($($spec)+)?] this.$field = $crate::codec::Value::sample(dice, layout));)*
                $(if layout.flexible && presence!($($($tspec)+)?).holds(layout.version) && dice.below(2) == 0 {
                    let layout = presence!($($($tspec)+)?).layout(layout);
                    this.$tagged = $crate::codec::Value::sample(dice, layout);
                })*
                this
            }
        }
    };
}

macro_rules! flexible_from {
    (never) => {
        None
    };
    ($version:literal) => {
        Some($version)
    };
}

macro_rules! message {
    ($name:ident, $versions:expr, $flexible:tt) => {
        impl $crate::messages::Message for $name {
            const NAME: &'static str = stringify!($name);
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
            const FLEXIBLE_FROM: Option<i16> = flexible_from!($flexible);
        }
    };
}

/// One API: its request, its response and the structs of both.
macro_rules! api {
    (
        $api:ident: versions $versions:expr, flexible $flexible:tt;
        request $request:ident { $($fields:tt)* } $(tagged { $($tagged:tt)* })?
        $(struct $in:ident { $($in_fields:tt)* } $(tagged { $($in_tagged:tt)* })?)*
        response $response:ident { $($out_fields:tt)* } $(tagged { $($out_tagged:tt)* })?
        $(struct $out:ident { $($inner_fields:tt)* } $(tagged { $($inner_tagged:tt)* })?)*
    ) => {
        structure!($request { $($fields)* } { $($($tagged)*)? });
        $(structure!($in { $($in_fields)* } { $($($in_tagged)*)? });)*
        structure!($response { $($out_fields)* } { $($($out_tagged)*)? });
        $(structure!($out { $($inner_fields)* } { $($($inner_tagged)*)? });)*
        message!($request, $versions, $flexible);
        message!($response, $versions, $flexible);

        impl $crate::messages::Request for $request {
            const KEY: $crate::messages::ApiKey = $crate::messages::ApiKey::$api;
            type Response = $response;
        }
        impl $crate::messages::Response for $response {
            const KEY: $crate::messages::ApiKey = $crate::messages::ApiKey::$api;
        }
    };
}

/// A value that travels inside a message or a record, behind an int16 with its version.
macro_rules! data {
    (
        versions $versions:expr, flexible $flexible:tt;
        value $name:ident { $($fields:tt)* } $(tagged { $($tagged:tt)* })?
        $(struct $in:ident { $($in_fields:tt)* } $(tagged { $($in_tagged:tt)* })?)*
    ) => {
        structure!($name { $($fields)* } { $($($tagged)*)? });
        $(structure!($in { $($in_fields)* } { $($($in_tagged)*)? });)*
        message!($name, $versions, $flexible);
    };
}

/// The table of all APIs: the keys, and one enum each over requests and responses.
macro_rules! apis {
    ($($key:literal $api:ident = $module:ident: $request:ident, $response:ident;)*) => {
        $(pub use $module::{$request, $response};)*

        /// Which API a request speaks: the number in front of every request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(
                #[doc = concat!("[`", stringify!($request), "`]")]
                $api = $key,
            )*
        }

        impl ApiKey {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$api,)*];

            /// Kafka's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$api => stringify!($api),)*
                }
            }

            /// The versions that the declarations know; what a broker offers is [`versions`](crate::versions).
            pub const fn versions(self) -> std::ops::RangeInclusive<i16> {
                match self {
                    $(Self::$api => <$request as $crate::messages::Message>::VERSIONS,)*
                }
            }

            /// The first version with compact lengths and tagged fields (KIP-482), if any.
            pub const fn flexible_from(self) -> Option<i16> {
                match self {
                    $(Self::$api => <$request as $crate::messages::Message>::FLEXIBLE_FROM,)*
                }
            }
        }

        impl TryFrom<i16> for ApiKey {
            type Error = $crate::codec::DecodeError;

            fn try_from(key: i16) -> Result<Self, $crate::codec::DecodeError> {
                match key {
                    $($key => Ok(Self::$api),)*
                    _ => Err($crate::codec::DecodeError::UnknownApiKey(key)),
                }
            }
        }

        kinds! {
            /// A request of any API.
            RequestKind: $($api $request,)*
        }
        kinds! {
            /// A response of any API.
            ResponseKind: $($api $response,)*
        }
    };
}

macro_rules! kinds {
    ($(#[$doc:meta])* $kind:ident: $($api:ident $message:ident,)*) => {
        $(#[$doc])*
        // Lives once per request in flight, on the stack of its task: a box would only add an allocation.
        #[allow(clippy::large_enum_variant)]
        #[derive(Clone, Debug, PartialEq)]
        pub enum $kind {
            $(
                #[doc = concat!("[`", stringify!($message), "`]")]
                $api($message),
            )*
        }

        impl $kind {
            /// Read the body of `key` in `version`; what follows the body stays in `input`.
            pub fn decode(
                key: ApiKey,
                version: i16,
                input: &mut $crate::codec::Decoder,
            ) -> Result<Self, $crate::codec::DecodeError> {
                match key {
                    $(ApiKey::$api => $crate::messages::Message::decode(version, input).map(Self::$api),)*
                }
            }

            /// Write the body in `version`.
            pub fn encode(
                &self,
                version: i16,
                out: &mut $crate::codec::Encoder,
            ) -> Result<(), $crate::codec::EncodeError> {
                match self {
                    $(Self::$api(message) => $crate::messages::Message::encode(message, version, out),)*
                }
            }

            /// Its API.
            pub fn key(&self) -> ApiKey {
                match self {
                    $(Self::$api(_) => ApiKey::$api,)*
                }
            }

            /// Kafka's name of the message.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$api(_) => stringify!($message),)*
                }
            }

            #[cfg(test)]
            pub(crate) fn sample(key: ApiKey, dice: &mut $crate::messages::sample::Dice, version: i16) -> Self {
                match key {
                    $(ApiKey::$api => Self::$api($crate::messages::Message::sample(dice, version)),)*
                }
            }
        }

        $(
            impl From<$message> for $kind {
                fn from(message: $message) -> Self {
                    Self::$api(message)
                }
            }
        )*
    };
}
