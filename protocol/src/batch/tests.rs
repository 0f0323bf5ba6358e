//! Batches against another implementation, and against damage.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records as theirs;
use proptest::prelude::*;

use super::*;
use crate::compression::Compression;
use crate::error::ErrorCode;

const LIMIT: usize = 16 << 20;

fn batch_of(count: usize) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new();
    for n in 0..count as i64 {
        let key = format!("key {n}");
        builder.push(1_000 + n, Some(key.as_bytes()), Some(b"value"), &[("h", Some(b"1")), ("h", None)]);
    }
    builder
}

fn build(builder: RecordBatchBuilder) -> RecordBatch {
    builder.build().expect("a batch")
}

/// The batch with some header bytes changed and the checksum right again.
fn forged(batch: &RecordBatch, at: usize, bytes: &[u8]) -> Bytes {
    let mut forged = BytesMut::from(&batch.bytes()[..]);
    forged[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&forged[21..]);
    forged[17..21].copy_from_slice(&crc.to_be_bytes());
    forged.freeze()
}

fn produce(bytes: impl Into<Bytes>, rules: &ProduceRules) -> Result<RecordBatch, ErrorCode> {
    RecordBatch::from_produce(bytes.into(), rules).map_err(|error| error.code())
}

fn deep() -> ProduceRules {
    ProduceRules { every_record: true, ..ProduceRules::default() }
}

type Plain = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn records() -> impl Strategy<Value = Vec<Plain>> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    let headers = proptest::collection::btree_map("[a-zé]{0,8}", bytes(), 0..4);
    let record = (0..1i64 << 50, bytes(), bytes(), headers.prop_map(|map| map.into_iter().collect()));
    proptest::collection::vec(record, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn our_batches_are_read_alike_by_the_oracle(records in records(), codec in 0u8..5, transactional: bool) {
        let codec = Compression::from_id(codec).expect("a codec");
        let mut builder =
            RecordBatchBuilder::new().compression(codec).place(70, 4).producer(9, 2, 5).transactional(transactional);
        for (timestamp, key, value, headers) in &records {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            builder.push(*timestamp, key.as_deref(), value.as_deref(), &headers);
        }
        let batch = build(builder);
        batch.check().expect("valid");
        let read: Vec<Record> = batch.records(LIMIT).expect("unpacks").collect::<Result<_, _>>().expect("valid");
        let set = theirs::RecordBatchDecoder::decode(&mut batch.bytes().clone()).expect("the oracle reads it");
        prop_assert_eq!(read.len(), records.len());
        prop_assert_eq!(set.records.len(), records.len());
        for (n, ((ours, theirs), plain)) in read.iter().zip(&set.records).zip(&records).enumerate() {
            let offset = 70 + n as i64;
            prop_assert_eq!((ours.offset, theirs.offset, theirs.sequence), (offset, offset, 5 + n as i32));
            prop_assert_eq!((ours.timestamp, theirs.timestamp), (plain.0, plain.0));
            prop_assert_eq!((&ours.key, &ours.value), (&theirs.key, &theirs.value));
            prop_assert_eq!(ours.key.as_deref(), plain.1.as_deref());
            prop_assert_eq!(ours.value.as_deref(), plain.2.as_deref());
            let headers: Vec<_> = theirs.headers.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            let of_ours: Vec<_> = ours.headers.iter().map(|h| (h.key.as_str(), h.value.clone())).collect();
            prop_assert_eq!(of_ours, headers);
            prop_assert_eq!((theirs.producer_id, theirs.producer_epoch, theirs.transactional), (9, 2, transactional));
        }
    }

    #[test]
    fn the_oracles_batches_are_valid_for_us(records in records(), codec in 0u8..5) {
        let codec = [
            theirs::Compression::None,
            theirs::Compression::Gzip,
            theirs::Compression::Snappy,
            theirs::Compression::Lz4,
            theirs::Compression::Zstd,
        ][usize::from(codec)];
        let set: Vec<_> = records.iter().enumerate().map(|(n, (timestamp, key, value, headers))| theirs::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: 3,
            producer_epoch: 0,
            timestamp_type: theirs::TimestampType::Creation,
            offset: n as i64,
            sequence: n as i32,
            timestamp: *timestamp,
            key: key.clone().map(Bytes::from),
            value: value.clone().map(Bytes::from),
            headers: headers.iter().map(|(k, v)| (k.clone().into(), v.clone().map(Bytes::from))).collect(),
        }).collect();
        let mut bytes = BytesMut::new();
        let options = theirs::RecordEncodeOptions { version: 2, compression: codec };
        theirs::RecordBatchEncoder::encode(&mut bytes, &set, &options).expect("the oracle writes it");
        let batch = RecordBatch::from_produce(bytes.freeze(), &deep()).expect("valid");
        for (record, plain) in batch.records(LIMIT).expect("unpacks").zip(&records) {
            let record = record.expect("valid");
            prop_assert_eq!(record.timestamp, plain.0);
            prop_assert_eq!(record.key.as_deref(), plain.1.as_deref());
            prop_assert_eq!(record.value.as_deref(), plain.2.as_deref());
        }
    }

    #[test]
    fn damaged_batches_never_panic(at in 0usize..400, byte: u8, codec in 0u8..5, cut in 0usize..400, fix_crc: bool) {
        let codec = Compression::from_id(codec).expect("a codec");
        let batch = build(batch_of(20).compression(codec));
        let at = at % batch.size();
        let mut bytes = batch.bytes().to_vec();
        bytes[at] = byte;
        if fix_crc && at >= 21 {
            bytes = forged(&batch, at, &[byte]).to_vec();
        } else {
            bytes.truncate(bytes.len().max(cut) - cut);
        }
        let _ = RecordBatch::from_produce(bytes.clone().into(), &deep());
        for batch in RecordBatches::new(bytes.into()).flatten() {
            if let Ok(records) = batch.records(LIMIT) {
                records.for_each(drop);
            }
        }
    }
}

#[test]
fn a_batch_alone_in_its_frame_is_patched_in_place() {
    let batch = build(batch_of(3));
    let frame = [b"some header".as_slice(), batch.bytes(), b""].concat();
    let mut frame = BytesMut::from(&frame[..]).freeze();
    let records = frame.split_off(11);
    drop(frame);
    let before = records.as_ptr();

    let mut placed = produce(records, &deep()).expect("valid").assign_offsets(500, 7);
    assert_eq!(placed.bytes().as_ptr(), before, "not copied");
    placed.check().expect("the checksum does not cover what was rewritten");
    assert_eq!(RecordBatch::parse(placed.bytes().clone()).expect("valid"), placed);
    assert_eq!((placed.base_offset(), placed.last_offset(), placed.next_offset()), (500, 502, 503));
    assert_eq!(placed.header().partition_leader_epoch, 7);

    placed = placed.assign_append_time(9_999);
    assert_eq!(placed.bytes().as_ptr(), before, "not copied");
    placed.check().expect("the checksum is new");
    assert_eq!(RecordBatch::parse(placed.bytes().clone()).expect("valid"), placed);
    let stamps: Vec<_> = placed.records(LIMIT).expect("plain").map(|record| record.expect("valid").timestamp).collect();
    assert_eq!(stamps, [9_999; 3]);
}

#[test]
fn a_batch_in_a_shared_frame_is_copied_and_the_frame_stays() {
    let batch = build(batch_of(3));
    let frame = batch.bytes().clone();
    let placed = batch.assign_offsets(500, 7);
    assert_eq!(&frame[..8], &[0; 8]);
    assert_eq!(placed.base_offset(), 500);
    assert_ne!(frame.as_ptr(), placed.bytes().as_ptr());
}

#[test]
fn several_batches_are_walked_and_a_cut_one_is_named() {
    let (first, second) = (build(batch_of(2).place(10, 1)), build(batch_of(3).place(12, 1)));
    let mut bytes = [&first.bytes()[..], second.bytes()].concat();
    let walked: Vec<_> =
        RecordBatches::new(bytes.clone().into()).map(|batch| batch.expect("valid").next_offset()).collect();
    assert_eq!(walked, [12, 15]);
    bytes.pop();
    let mut walk = RecordBatches::new(bytes.into());
    assert_eq!(walk.next().expect("one").expect("valid"), first);
    assert!(matches!(walk.next(), Some(Err(BatchError::Truncated { .. }))));
    assert!(walk.next().is_none());
}

#[test]
fn what_a_client_may_not_send_is_refused_with_kafkas_code() {
    use ErrorCode::{CorruptMessage, InvalidRecord, InvalidTimestamp, MessageTooLarge, UnsupportedCompressionType};
    let rules = ProduceRules::default();
    let batch = build(batch_of(3));
    let bytes = batch.bytes();
    assert_eq!(produce(bytes.clone(), &rules), Ok(batch.clone()));

    let mut flipped = bytes.to_vec();
    *flipped.last_mut().expect("not empty") ^= 1;
    assert_eq!(produce(flipped, &rules), Err(CorruptMessage));
    assert_eq!(produce(bytes.slice(..bytes.len() - 1), &rules), Err(CorruptMessage));
    assert_eq!(produce(Bytes::new(), &rules), Err(InvalidRecord), "no batch");
    assert_eq!(produce([&bytes[..], bytes].concat(), &rules), Err(InvalidRecord), "two batches");
    assert_eq!(produce(forged(&batch, 16, &[1]), &rules), Err(InvalidRecord), "old format");
    assert_eq!(produce(forged(&batch, 21, &[0, 5]), &rules), Err(UnsupportedCompressionType));
    assert_eq!(produce(forged(&batch, 7, &[1]), &rules), Err(InvalidRecord), "base offset 1");
    assert_eq!(produce(forged(&batch, 23, &[0, 0, 0, 9]), &rules), Err(InvalidRecord), "ten offsets");
    assert_eq!(produce(forged(&batch, 57, &[0, 0, 0, 0]), &rules), Err(InvalidRecord), "no records");
    assert_eq!(produce(build(batch_of(1).control(true)).into_bytes(), &rules), Err(InvalidRecord), "control");
    assert_eq!(produce(build(batch_of(1).producer(1, 0, -1)).into_bytes(), &rules), Err(InvalidRecord), "sequence");

    let small = ProduceRules { batch_bytes_max: bytes.len() - 1, ..rules.clone() };
    assert_eq!(produce(bytes.clone(), &small), Err(MessageTooLarge));
    let late = ProduceRules { timestamps: 0..=1_001, ..rules };
    assert_eq!(produce(bytes.clone(), &late), Err(InvalidTimestamp), "the largest is 1002");
    assert_eq!(produce(build(batch_of(2)).into_bytes(), &late).err(), None);
}

#[test]
fn every_record_is_looked_at_only_when_asked() {
    use ErrorCode::InvalidRecord;
    for codec in Compression::ALL {
        let mut builder = batch_of(2).compression(codec);
        builder.push(1_003, None, Some(b"no key"), &[]);
        let bytes = build(builder).into_bytes();
        assert!(produce(bytes.clone(), &deep()).is_ok());
        let keys = ProduceRules { keys_required: true, ..ProduceRules::default() };
        assert_eq!(produce(bytes, &keys), Err(InvalidRecord), "{codec}: a record without key");

        let mut builder = batch_of(2).compression(codec);
        builder.push_at(5, 1_003, None, None, &[]);
        let batch = build(builder);
        // Six offsets for three records: told apart by the header alone.
        assert_eq!(produce(batch.bytes().clone(), &ProduceRules::default()), Err(InvalidRecord));
        let claims_three = forged(&batch, 23, &[0, 0, 0, 2]);
        assert!(produce(claims_three.clone(), &ProduceRules::default()).is_ok());
        assert_eq!(produce(claims_three, &deep()), Err(InvalidRecord), "{codec}: an offset is left out");

        let batch = build(batch_of(3).compression(codec));
        let two = [&[0, 0, 0, 1][..], &batch.bytes()[27..57], &[0, 0, 0, 2]].concat();
        assert_eq!(produce(forged(&batch, 23, &two), &deep()), Err(InvalidRecord), "{codec}: one record too many");
        let four = [&[0, 0, 0, 3][..], &batch.bytes()[27..57], &[0, 0, 0, 4]].concat();
        assert_eq!(produce(forged(&batch, 23, &four), &deep()), Err(InvalidRecord), "{codec}: one too few");
    }
}

#[test]
fn a_bomb_in_a_batch_is_refused() {
    let mut builder = RecordBatchBuilder::new().compression(Compression::Zstd);
    builder.push(0, None, Some(&vec![0; 4 << 20]), &[]);
    let rules = ProduceRules { plain_bytes_max: 1 << 20, ..deep() };
    assert_eq!(produce(build(builder).into_bytes(), &rules), Err(ErrorCode::InvalidRecord));
}

#[test]
fn compaction_keeps_offsets_and_the_end() {
    let mut builder = RecordBatchBuilder::new().place(100, 3);
    builder.push_at(2, 10, Some(b"a"), None, &[]).push_at(7, 12, Some(b"b"), None, &[]);
    let batch = build(builder.last_offset_delta(9));
    let offsets: Vec<_> = batch.records(LIMIT).expect("plain").map(|record| record.expect("valid").offset).collect();
    assert_eq!((offsets, batch.next_offset(), batch.header().records_count), (vec![102, 107], 110, 2));
}

#[test]
fn control_records_say_commit_or_abort() {
    let mut builder = RecordBatchBuilder::new().control(true).transactional(true);
    builder.push(0, Some(&ControlRecordType::Commit.to_key()), Some(&[0, 0, 0, 0, 0, 0]), &[]);
    let batch = build(builder);
    assert!(batch.header().is_control() && batch.header().is_transactional());
    let record = batch.records(LIMIT).expect("plain").next().expect("one").expect("valid");
    assert_eq!(ControlRecordType::from_key(&record.key.expect("a key")), Some(ControlRecordType::Commit));
    assert_eq!(ControlRecordType::from_key(&[0]), None);
}

/// What Kafka's own producer makes of one record without key, value "hi", at time 0.
#[test]
fn the_golden_batch() {
    let mut builder = RecordBatchBuilder::new();
    builder.push(0, None, Some(b"hi"), &[]);
    let batch = build(builder);
    let golden = [
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 58, 0xff, 0xff, 0xff, 0xff, 2][..],
        &batch.header().crc.to_be_bytes(),
        &[0, 0, 0, 0, 0, 0],
        &[0; 16],
        &[0xff; 14],
        &[0, 0, 0, 1],
        &[16, 0, 0, 0, 1, 4, b'h', b'i', 0],
    ]
    .concat();
    assert_eq!(batch.bytes(), &golden[..]);
    assert_eq!(batch.header().crc, crc32c::crc32c(&golden[21..]));
}
