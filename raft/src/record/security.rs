//! Quotas, access rules and credentials as the log carries them. Ids are Kafka's wire ids.

use super::codec::{Decoder, Encoder, RecordError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $id:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $id),* }

        impl $name {
            /// The value with this wire id.
            pub fn from_id(id: u8) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)* _ => None }
            }
            /// Its wire id.
            pub fn id(self) -> u8 {
                self as u8
            }
        }
    };
}

wire_enum! {
    /// What an access rule protects.
    ResourceType {
        /// A topic.
        Topic = 2,
        /// A group.
        Group = 3,
        /// The cluster.
        Cluster = 4,
        /// A transactional id.
        TransactionalId = 5,
        /// A delegation token.
        DelegationToken = 6,
        /// A user principal.
        User = 7,
    }
}
wire_enum! {
    /// How the resource name of a rule matches (KIP-290).
    PatternType {
        /// The whole name; `*` is every name.
        Literal = 3,
        /// The name begins with it.
        Prefixed = 4,
    }
}
wire_enum! {
    /// What a rule is about.
    AclOperation {
        /// Every operation.
        All = 2,
        /// Fetch.
        Read = 3,
        /// Produce.
        Write = 4,
        /// Create.
        Create = 5,
        /// Delete.
        Delete = 6,
        /// Alter.
        Alter = 7,
        /// Describe.
        Describe = 8,
        /// What only brokers do.
        ClusterAction = 9,
        /// Read configs.
        DescribeConfigs = 10,
        /// Write configs.
        AlterConfigs = 11,
        /// Idempotent produce.
        IdempotentWrite = 12,
        /// Create delegation tokens.
        CreateTokens = 13,
        /// Describe delegation tokens.
        DescribeTokens = 14,
        /// Two-phase commit (KIP-939).
        TwoPhaseCommit = 15,
    }
}
wire_enum! {
    /// Whether a rule allows or denies.
    AclPermission {
        /// Denies, whatever else allows.
        Deny = 2,
        /// Allows.
        Allow = 3,
    }
}
wire_enum! {
    /// SCRAM's hash.
    ScramMechanism {
        /// SCRAM-SHA-256.
        Sha256 = 1,
        /// SCRAM-SHA-512.
        Sha512 = 2,
    }
}

/// One part of a quota's entity: a user, a client id or an address (KIP-546).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuotaEntity {
    /// `user`, `client-id` or `ip`.
    pub kind: String,
    /// Whose; `None` is the default of that kind.
    pub name: Option<String>,
}

/// An access rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessControlEntry {
    /// Its identity in the log.
    pub id: Uuid,
    /// What kind of thing it protects.
    pub resource_type: ResourceType,
    /// Which one.
    pub resource_name: String,
    /// How the name matches.
    pub pattern_type: PatternType,
    /// For instance `User:alice`.
    pub principal: String,
    /// From which host; `*` is everywhere.
    pub host: String,
    /// What is done.
    pub operation: AclOperation,
    /// Allowed or denied.
    pub permission: AclPermission,
}

/// A user's SCRAM credential; holds no password, only what RFC 5802 lets a server keep.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserScramCredential {
    /// Whose.
    pub user: String,
    /// Which hash.
    pub mechanism: ScramMechanism,
    /// Salt.
    pub salt: Vec<u8>,
    /// RFC 5802's StoredKey.
    pub stored_key: Vec<u8>,
    /// RFC 5802's ServerKey.
    pub server_key: Vec<u8>,
    /// How many rounds of PBKDF2.
    pub iterations: i32,
}

impl std::fmt::Debug for UserScramCredential {
    // Keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserScramCredential({}, {:?})", self.user, self.mechanism)
    }
}

impl QuotaEntity {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.string(&self.kind);
        out.option(self.name.as_deref(), Encoder::string);
    }
    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        Ok(Self { kind: input.string()?, name: input.option(Decoder::string)? })
    }
}

impl AccessControlEntry {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.uuid(self.id);
        out.u8(self.resource_type.id());
        out.string(&self.resource_name);
        out.u8(self.pattern_type.id());
        out.string(&self.principal);
        out.string(&self.host);
        out.u8(self.operation.id());
        out.u8(self.permission.id());
    }
    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            id: input.uuid()?,
            resource_type: input.known("resource type", ResourceType::from_id)?,
            resource_name: input.string()?,
            pattern_type: input.known("pattern type", PatternType::from_id)?,
            principal: input.string()?,
            host: input.string()?,
            operation: input.known("ACL operation", AclOperation::from_id)?,
            permission: input.known("ACL permission", AclPermission::from_id)?,
        })
    }
}

impl UserScramCredential {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.string(&self.user);
        out.u8(self.mechanism.id());
        out.bytes(&self.salt);
        out.bytes(&self.stored_key);
        out.bytes(&self.server_key);
        out.i32(self.iterations);
    }
    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            user: input.string()?,
            mechanism: input.known("SCRAM mechanism", ScramMechanism::from_id)?,
            salt: input.bytes()?,
            stored_key: input.bytes()?,
            server_key: input.bytes()?,
            iterations: input.i32()?,
        })
    }
}
