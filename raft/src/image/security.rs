//! Quotas, access rules, credentials.

use crate::record::{AccessControlEntry, QuotaEntity, ScramMechanism, UserScramCredential};
use rpds::RedBlackTreeMapSync;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Client quotas by entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientQuotasImage {
    pub(crate) entities: RedBlackTreeMapSync<Vec<QuotaEntity>, Arc<BTreeMap<String, f64>>>,
}

impl ClientQuotasImage {
    /// The quotas set on exactly this entity.
    pub fn of(&self, entity: &[QuotaEntity]) -> Option<&BTreeMap<String, f64>> {
        self.entities.get(entity).map(Arc::as_ref)
    }
    /// All entities with quotas.
    pub fn iter(&self) -> impl Iterator<Item = (&[QuotaEntity], &BTreeMap<String, f64>)> {
        self.entities.iter().map(|(entity, quotas)| (entity.as_slice(), quotas.as_ref()))
    }
}

/// Access rules by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclsImage {
    pub(crate) entries: RedBlackTreeMapSync<Uuid, Arc<AccessControlEntry>>,
}

impl AclsImage {
    /// All rules, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<AccessControlEntry>> {
        self.entries.values()
    }
    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// SCRAM credentials by user and mechanism.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScramImage {
    pub(crate) credentials: RedBlackTreeMapSync<(String, ScramMechanism), Arc<UserScramCredential>>,
}

impl ScramImage {
    /// A user's credential.
    pub fn credential(&self, user: &str, mechanism: ScramMechanism) -> Option<&Arc<UserScramCredential>> {
        self.credentials.get(&(user.to_owned(), mechanism))
    }
    /// All credentials, by user.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<UserScramCredential>> {
        self.credentials.values()
    }
}
