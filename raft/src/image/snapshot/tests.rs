//! A snapshot is the image, or an error; never less.

use super::*;
use crate::delta::MetadataDelta;
use crate::ids::{DirectoryId, LeaderEpoch, NodeId, PartitionEpoch};
use crate::record::LeaderRecoveryState;
use proptest::prelude::*;
use std::time::Instant;
use uuid::Uuid;

fn partition() -> PartitionRegistration {
    PartitionRegistration {
        replicas: [1, 2, 3].map(NodeId).into_iter().collect(),
        directories: [1, 2, 3].map(|n| DirectoryId(Uuid::from_u128(n))).into_iter().collect(),
        isr: [1, 2, 3].map(NodeId).into_iter().collect(),
        elr: Default::default(),
        last_known_elr: Default::default(),
        recovery_state: LeaderRecoveryState::Recovered,
        leader: NodeId(1),
        leader_epoch: LeaderEpoch(3),
        partition_epoch: PartitionEpoch(7),
        adding: Default::default(),
        removing: Default::default(),
    }
}

fn image(topics: u128, partitions: i32) -> MetadataImage {
    let mut delta = MetadataDelta::new(MetadataImage::empty());
    let mut replay = |record| delta.replay(MetadataOffset(5), &record).expect("sound records");
    for n in 1..=topics {
        let id = TopicId(Uuid::from_u128(n));
        replay(MetadataRecord::Topic { name: format!("topic-{n}").as_str().into(), id });
        for number in 0..partitions {
            replay(MetadataRecord::Partition { topic_id: id, partition: number, registration: partition() });
        }
    }
    let name = "retention.ms".to_owned();
    replay(MetadataRecord::Config { resource: ConfigResource::topic("topic-1"), name, value: Some("1".into()) });
    replay(MetadataRecord::ProducerIds { next: 4000 });
    delta.apply()
}

fn bytes(image: &MetadataImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_snapshot(image, &mut bytes).expect("written");
    bytes
}

#[test]
fn many_partitions_come_back_and_the_time_is_told() {
    let image = image(1000, 100);
    let begin = Instant::now();
    let written = bytes(&image);
    let wrote = begin.elapsed();
    let begin = Instant::now();
    let read = read_snapshot(&written[..]).expect("read");
    let message = format!("100,000 partitions, {} bytes: written {wrote:?}, read {:?}", written.len(), begin.elapsed());
    std::io::Write::write_all(&mut std::io::stderr(), format!("{message}\n").as_bytes()).expect("stderr");
    assert_eq!(read, image);
}

#[test]
fn every_cut_is_noticed() {
    let written = bytes(&image(3, 2));
    for cut in 0..written.len() {
        assert!(read_snapshot(&written[..cut]).is_err(), "cut at {cut}");
    }
    let longer = [&written[..], &[0]].concat();
    assert!(read_snapshot(&longer[..]).is_err());
}

#[test]
fn every_flipped_byte_is_noticed() {
    let written = bytes(&image(3, 2));
    for at in 0..written.len() {
        let mut bad = written.clone();
        bad[at] ^= 0x10;
        assert!(read_snapshot(&bad[..]).is_err(), "flipped at {at}");
    }
}

#[test]
fn a_newer_version_is_refused() {
    let mut written = bytes(&image(1, 1));
    written[4] = VERSION + 1;
    assert!(matches!(read_snapshot(&written[..]), Err(SnapshotError::UnknownVersion(2))));
}

proptest! {
    #[test]
    fn arbitrary_items_never_panic(payload in prop::collection::vec(any::<u8>(), 1..300)) {
        let mut file = [&MAGIC[..], &[VERSION]].concat();
        file.extend((payload.len() as u32).to_be_bytes());
        file.extend(crc32c::crc32c(&payload).to_be_bytes());
        file.extend(&payload);
        let _ = read_snapshot(&file[..]);
    }
}
