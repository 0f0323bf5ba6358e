//! The log forgets the oldest, and a snapshot keeps the rest.

use super::*;
use crate::delta::MetadataDelta;
use crate::image::{MetadataImage, SnapshotError, read_snapshot, write_snapshot};
use crate::record::arbitrary::any_record;
use crate::record::{Cause, MetadataRecord, RecordError};
use proptest::prelude::*;

fn provenance(unix_ms: i64) -> Provenance {
    Provenance { controller: NodeId(1), term: 3, unix_ms, cause: Cause::ConfigsRequested }
}

fn set(name: &str, value: &str) -> MetadataRecord {
    let resource = ConfigResource::cluster();
    MetadataRecord::Config { resource, name: name.into(), value: Some(value.into()) }
}

fn replay(image: MetadataImage, records: &[MetadataRecord]) -> MetadataImage {
    let index = MetadataOffset(image.offset.0 + 1);
    let mut delta = MetadataDelta::new(Arc::new(image));
    for record in records {
        delta.replay(index, record).expect("sound records");
    }
    delta.apply()
}

fn through_snapshot(image: &MetadataImage) -> MetadataImage {
    let mut bytes = Vec::new();
    write_snapshot(image, &mut bytes).expect("written");
    read_snapshot(&bytes[..]).expect("read")
}

#[test]
fn the_oldest_are_forgotten_and_numbers_go_on() {
    let mut image = MetadataImage::default();
    for n in 0..EventsImage::KEPT as i64 + 10 {
        image = replay(image, &[MetadataRecord::Provenance(provenance(n)), set("a", &n.to_string())]);
    }
    let events = &image.events;
    assert_eq!((events.len(), events.iter().next().map(|(n, _)| n)), (EventsImage::KEPT, Some(10)));
    assert_eq!(events.next_number(), EventsImage::KEPT as u64 + 10);
    assert_eq!(events.range(20..25).map(|(n, event)| (n, event.provenance.unix_ms)).next_back(), Some((24, 24)));
    assert_eq!(through_snapshot(&image), image);
    assert_eq!(replay(through_snapshot(&image), &[]).events.next_number(), events.next_number());
}

#[test]
fn records_without_provenance_and_of_other_entries_make_no_event() {
    let image = replay(MetadataImage::default(), &[set("a", "1")]);
    assert!(image.events.is_empty());
    let mut delta = MetadataDelta::new(Arc::new(image));
    delta.replay(MetadataOffset(5), &MetadataRecord::Provenance(provenance(1))).expect("sound");
    delta.replay(MetadataOffset(5), &set("a", "2")).expect("sound");
    delta.replay(MetadataOffset(6), &set("a", "3")).expect("sound");
    let events = delta.apply().events;
    let Some((_, event)) = events.iter().next() else { panic!("one event") };
    let Happening::ConfigsChanged(configs) = &event.what else { panic!("{event:?}") };
    assert_eq!((events.len(), configs.total()), (1, 1));
}

#[test]
fn a_secret_was_told() {
    let long = "x".repeat(TEXT_BYTES_MAX) + "é";
    let records =
        [MetadataRecord::Provenance(provenance(1)), set("ssl.keystore.password", "hunter2"), set("note", &long)];
    let image = replay(MetadataImage::default(), &records);
    assert!(!format!("{:?}", image.events).contains("hunter2"));
    let image = replay(image, &[MetadataRecord::Provenance(provenance(2)), set("ssl.keystore.password", "other")]);
    let told: Vec<_> = image.events.iter().map(|(_, event)| event.what.clone()).collect();
    let Happening::ConfigsChanged(first) = &told[0] else { panic!("{told:?}") };
    let Happening::ConfigsChanged(second) = &told[1] else { panic!("{told:?}") };
    assert_eq!((&first.listed[0].before, &first.listed[0].after), (&ConfigValue::Default, &ConfigValue::Hidden));
    assert_eq!((&second.listed[0].before, &second.listed[0].after), (&ConfigValue::Hidden, &ConfigValue::Hidden));
    assert_eq!(first.listed[1].after, ConfigValue::Set("x".repeat(TEXT_BYTES_MAX)), "cut");
}

#[test]
fn lists_are_bounded_and_counted() {
    let many: Vec<_> = std::iter::once(MetadataRecord::Provenance(provenance(1)))
        .chain((0..1000).map(|n| set(&format!("config-{n}"), "v")))
        .collect();
    let image = replay(MetadataImage::default(), &many);
    let (_, event) = image.events.iter().next().expect("an event");
    let Happening::ConfigsChanged(configs) = &event.what else { panic!("{event:?}") };
    assert_eq!((image.events.len(), configs.listed.len(), configs.total()), (1, LISTED_MAX, 1000));
}

#[test]
fn an_event_of_a_newer_build_and_a_gap_are_refused() {
    let mut bytes = Vec::new();
    let mut event = crate::record::Encoder::new();
    Event { offset: MetadataOffset(1), provenance: provenance(1), what: Happening::TopicsDeleted(Bounded::default()) }
        .encode(&mut event);
    let event = event.into_inner();
    bytes.extend(&event);
    let tag = bytes.len() - 3;
    assert_eq!(bytes[tag], 11);
    bytes[tag] = 99;
    let decoded = Event::decode(&mut crate::record::Decoder::new(&bytes));
    assert_eq!(decoded, Err(RecordError::UnknownValue { what: "event", value: 99 }));

    let mut image = MetadataImage::default();
    for n in [4, 6] {
        let event = Event::decode(&mut crate::record::Decoder::new(&event)).expect("own bytes");
        image.events.events.insert_mut(n, Arc::new(event));
    }
    let mut bytes = Vec::new();
    write_snapshot(&image, &mut bytes).expect("written");
    assert!(matches!(read_snapshot(&bytes[..]), Err(SnapshotError::Inconsistent("events are missing"))));
}

proptest! {
    /// Records that mean nothing together: those that can be applied make events that a snapshot keeps, whatever they hold.
    #[test]
    fn events_of_arbitrary_records_survive_a_snapshot(records in prop::collection::vec(any_record(), 0..60)) {
        let mut delta = MetadataDelta::new(MetadataImage::empty());
        delta.replay(MetadataOffset(0), &MetadataRecord::Provenance(provenance(1))).expect("sound");
        for record in &records {
            let mut next = delta.clone();
            if next.replay(MetadataOffset(0), record).is_ok() {
                delta = next;
            }
        }
        let image = delta.apply();
        for (_, event) in image.events.iter() {
            prop_assert!(kinds().any(|kind| kind == event.what.kind()));
        }
        prop_assert_eq!(&through_snapshot(&image), &image);
    }

    #[test]
    fn arbitrary_bytes_are_an_event_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::decode(&mut crate::record::Decoder::new(&bytes));
    }
}
