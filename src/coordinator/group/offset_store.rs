//! The offsets of all groups of one partition, each as it is committed and as it will be.

use super::records::OffsetAndMetadata;
use super::types::GroupId;
use rookery_raft::ids::TopicName;
use std::collections::BTreeMap;

/// One partition's offset.
///
/// Invariant: `pending == 0` means that `latest` is what is committed, and `committed` is not used.
#[derive(Debug, Default)]
struct Entry {
    /// What the last written record says; `None`: a tombstone.
    latest: Option<OffsetAndMetadata>,
    /// While records are pending: what the last committed record says.
    committed: Option<OffsetAndMetadata>,
    /// Records of this key that are written and not committed.
    pending: u32,
}

type Topics = BTreeMap<TopicName, BTreeMap<i32, Entry>>;

/// Committed offsets by group, topic and partition.
///
/// Two readers: decisions (delete, expire, stable fetch) see the newest value, plain fetches the newest committed one.
#[derive(Debug, Default)]
pub(super) struct OffsetStore {
    groups: BTreeMap<GroupId, Topics>,
}

impl OffsetStore {
    /// A record was written (or replayed): it becomes the newest value.
    pub fn write(&mut self, group: &GroupId, topic: &TopicName, partition: i32, value: Option<OffsetAndMetadata>) {
        let entry = self
            .groups
            .entry(group.clone())
            .or_default()
            .entry(topic.clone())
            .or_default()
            .entry(partition)
            .or_default();
        if entry.pending == 0 {
            entry.committed = entry.latest.take();
        }
        entry.latest = value;
        entry.pending += 1;
    }

    /// The high watermark passed a record; called for each written one, in their order.
    pub fn commit(&mut self, group: &GroupId, topic: &TopicName, partition: i32, value: &Option<OffsetAndMetadata>) {
        let Some(topics) = self.groups.get_mut(group) else { return };
        let Some(partitions) = topics.get_mut(topic) else { return };
        let Some(entry) = partitions.get_mut(&partition) else { return };
        entry.pending = entry.pending.saturating_sub(1);
        if entry.pending > 0 {
            entry.committed.clone_from(value);
            return;
        }
        entry.committed = None;
        if entry.latest.is_none() {
            partitions.remove(&partition);
            if partitions.is_empty() {
                topics.remove(topic);
            }
            if topics.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// The offset of one partition, with (`stable`) or without what is not committed yet.
    pub fn get(&self, group: &str, topic: &str, partition: i32, stable: bool) -> Option<&OffsetAndMetadata> {
        self.groups.get(group)?.get(topic)?.get(&partition)?.read(stable)
    }

    /// All offsets of a group.
    pub fn of_group(&self, group: &str, stable: bool) -> impl Iterator<Item = (&TopicName, i32, &OffsetAndMetadata)> {
        let topics = self.groups.get(group).into_iter().flatten();
        topics.flat_map(move |(topic, partitions)| {
            partitions.iter().filter_map(move |(partition, entry)| Some((topic, *partition, entry.read(stable)?)))
        })
    }

    /// All groups that have an offset, or a tombstone that is not committed.
    pub fn groups(&self) -> impl Iterator<Item = &GroupId> {
        self.groups.keys()
    }

    /// Whether anything, even a tombstone in flight, is known of the group.
    pub fn knows(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }
}

impl Entry {
    fn read(&self, stable: bool) -> Option<&OffsetAndMetadata> {
        if stable || self.pending == 0 { self.latest.as_ref() } else { self.committed.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_raft::ids::TopicId;

    fn at(offset: i64) -> Option<OffsetAndMetadata> {
        Some(OffsetAndMetadata {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            commit_unix_ms: 0,
            expire_unix_ms: None,
            topic_id: TopicId::NONE,
        })
    }

    #[test]
    fn committed_reads_lag_behind_writes_and_never_go_back() {
        let (mut store, group, topic) = (OffsetStore::default(), GroupId::from("g"), TopicName::from("t"));
        let read = |store: &OffsetStore, stable| store.get("g", "t", 0, stable).map(|o| o.offset);
        store.write(&group, &topic, 0, at(1));
        assert_eq!((read(&store, false), read(&store, true)), (None, Some(1)));
        store.commit(&group, &topic, 0, &at(1));
        assert_eq!(read(&store, false), Some(1));
        store.write(&group, &topic, 0, at(2));
        store.write(&group, &topic, 0, None);
        store.write(&group, &topic, 0, at(4));
        assert_eq!((read(&store, false), read(&store, true)), (Some(1), Some(4)));
        store.commit(&group, &topic, 0, &at(2));
        assert_eq!(read(&store, false), Some(2));
        store.commit(&group, &topic, 0, &None);
        assert_eq!((read(&store, false), read(&store, true)), (None, Some(4)));
        store.commit(&group, &topic, 0, &at(4));
        assert_eq!(read(&store, false), Some(4));
        store.write(&group, &topic, 0, None);
        assert_eq!((read(&store, false), read(&store, true)), (Some(4), None));
        store.commit(&group, &topic, 0, &None);
        assert!(!store.knows("g"));
    }
}
