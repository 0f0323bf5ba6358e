//! Which APIs and versions this broker offers: the one table behind ApiVersions.
//!
//! A row appears here when its handler exists; a test of the handlers holds that. `offered` is what ApiVersions says,
//! `accepted` what is then really decoded; they differ where Kafka's differ.
//!
//! Each row goes up to the last version of Kafka 4.4, except:
//!
//! - **ApiVersions** stops at 4: version 5 (KIP-1242) lets a client name the node it means, and its rules are not
//!   implemented.
//! - **Produce** is offered from 0 and accepted from 3: librdkafka does not compress unless version 0 is in the range
//!   (KAFKA-18659).
//! - **FindCoordinator** stops at 5: 6 only adds share groups, which there are not. A client that needs them learns it
//!   from the range.
//! - **InitProducerId** stops at 5: 6 (two-phase commit, KIP-939) is unstable in Kafka itself.
//!
//! And these go all the way although they name features that are missing, because each answer is well defined without
//! the feature:
//!
//! - **ListOffsets** 8, 9 and 11 know offsets of tiered storage: without it the earliest local offset is the earliest
//!   one, the latest tiered and the earliest pending upload are unknown (-1). 10 adds a timeout that only tiered reads
//!   use.
//! - **Produce** 12 lets a transactional producer skip AddPartitionsToTxn, but clients do so only once
//!   `transaction.version` 2 is finalised.
//! - **OffsetCommit** and **OffsetFetch** 9 carry the member epoch of KIP-848 groups, which is the generation in a
//!   classic one; 10 names topics by id.
//! - **Fetch** 15 and up carry replica state, which only followers fill in.

use std::ops::RangeInclusive;

use crate::messages::ApiKey;

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRow {
    /// The API.
    pub key: ApiKey,
    /// What ApiVersions says.
    pub offered: RangeInclusive<i16>,
    /// What is decoded and handled.
    pub accepted: RangeInclusive<i16>,
}

const fn row(key: ApiKey, first: i16, last: i16) -> ApiRow {
    ApiRow { key, offered: first..=last, accepted: first..=last }
}

/// Every API that the broker offers, by key.
pub const APIS: &[ApiRow] = &[
    ApiRow { key: ApiKey::Produce, offered: 0..=13, accepted: 3..=13 },
    row(ApiKey::Fetch, 4, 18),
    row(ApiKey::ListOffsets, 1, 11),
    row(ApiKey::Metadata, 0, 13),
    row(ApiKey::OffsetCommit, 2, 10),
    row(ApiKey::OffsetFetch, 1, 10),
    row(ApiKey::FindCoordinator, 0, 5),
    // From 0, as Kafka again does: librdkafka before 2.11 with Kerberos needs it, kafka-go asks for 1 (KAFKA-19444).
    row(ApiKey::JoinGroup, 0, 9),
    row(ApiKey::Heartbeat, 0, 4),
    row(ApiKey::LeaveGroup, 0, 5),
    row(ApiKey::SyncGroup, 0, 5),
    row(ApiKey::DescribeGroups, 0, 6),
    row(ApiKey::ListGroups, 0, 5),
    row(ApiKey::ApiVersions, 0, 4),
    row(ApiKey::CreateTopics, 2, 7),
    row(ApiKey::DeleteTopics, 1, 6),
    row(ApiKey::InitProducerId, 0, 5),
    row(ApiKey::OffsetForLeaderEpoch, 2, 4),
    row(ApiKey::DescribeConfigs, 1, 4),
    row(ApiKey::DeleteGroups, 0, 3),
    row(ApiKey::ElectLeaders, 0, 2),
    row(ApiKey::IncrementalAlterConfigs, 0, 1),
    row(ApiKey::DescribeCluster, 0, 2),
    row(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// The row of `key`, None if the broker does not offer it.
pub fn api(key: ApiKey) -> Option<&'static ApiRow> {
    APIS.binary_search_by_key(&key, |row| row.key).ok().map(|index| &APIS[index])
}

/// Whether a request of `key` in `version` is decoded and handled.
pub fn accepts(key: ApiKey, version: i16) -> bool {
    api(key).is_some_and(|row| row.accepted.contains(&version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_within_the_declarations() {
        assert!(APIS.is_sorted_by_key(|row| row.key));
        for row in APIS {
            let declared = row.key.versions();
            assert!(row.accepted.start() >= declared.start() && row.accepted.end() <= declared.end(), "{row:?}");
            assert!(row.offered.start() <= row.accepted.start() && row.offered.end() == row.accepted.end(), "{row:?}");
            assert_eq!(api(row.key), Some(row));
        }
        assert!(accepts(ApiKey::Produce, 3) && !accepts(ApiKey::Produce, 2));
        assert_eq!(api(ApiKey::SaslHandshake), None);
    }
}
