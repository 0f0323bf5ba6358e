use super::*;
use crate::admin::scenario::Scenario;

fn numbers(page: &EventPage) -> Vec<u64> {
    page.events.iter().map(|event| event.number).collect()
}

#[test]
fn pages_go_on_where_the_last_one_ended() {
    let mut scenario = Scenario::with_brokers(3);
    (0..20).for_each(|n| scenario.create(&format!("t{n}"), &[1]));
    let log = &scenario.image.events;
    let last = log.next_number() - 1;
    let newest = page(log, &EventQuery { limit: Some(5), ..Default::default() }).unwrap();
    assert_eq!((numbers(&newest), newest.next, newest.oldest), ((last - 4..=last).collect(), last, Some(0)));
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let query = EventQuery { after, limit: Some(7), ..Default::default() };
        let query = if after.is_none() { EventQuery { before: Some(7), ..query } } else { query };
        let found = page(log, &query).unwrap();
        seen.extend(numbers(&found));
        if found.next == last && found.events.len() < 7 {
            break;
        }
        after = Some(if after.is_none() { 6 } else { found.next });
    }
    assert_eq!(seen, (0..=last).collect::<Vec<_>>());
    let older = page(log, &EventQuery { before: Some(3), limit: Some(2), ..Default::default() }).unwrap();
    assert_eq!(numbers(&older), [1, 2]);
    // Nothing new: the cursor stays, also one from beyond the end.
    for after in [last, last + 1000] {
        let none = page(log, &EventQuery { after: Some(after), ..Default::default() }).unwrap();
        assert_eq!((none.events.len(), none.next), (0, last));
    }
    let empty = page(&EventsImage::default(), &EventQuery::default()).unwrap();
    assert_eq!(empty, EventPage::default());
}

#[test]
fn filters_find_what_is_about_a_broker_a_topic_and_a_kind() {
    let mut scenario = Scenario::with_brokers(3);
    scenario.create("t", &[2, 3]);
    scenario.create("other", &[1]);
    scenario.kill(2);
    let kinds = |query: EventQuery| -> Vec<&'static str> {
        page(&scenario.image.events, &query).unwrap().events.iter().map(|event| event.kind).collect()
    };
    let of_broker = kinds(EventQuery { broker: Some(2), ..Default::default() });
    assert_eq!(of_broker, ["broker_registered", "broker_unfenced", "broker_fenced", "leader_elected"]);
    let of_topic = kinds(EventQuery { topic: Some("t".into()), ..Default::default() });
    assert_eq!(of_topic, ["topics_created", "leader_elected"]);
    let of_kind = kinds(EventQuery { kind: Some("broker_fenced, cluster_formed".into()), ..Default::default() });
    assert_eq!(of_kind, ["cluster_formed", "broker_fenced"]);
    // Filtered away, yet looked at: the cursor moves on.
    let last = scenario.image.events.next_number() - 1;
    let query = EventQuery { after: Some(0), kind: Some("leader_lost".into()), ..Default::default() };
    assert_eq!(page(&scenario.image.events, &query).unwrap().next, last);
}

#[test]
fn an_event_says_who_when_what_and_why() {
    let mut scenario = Scenario::with_brokers(2);
    scenario.create("t", &[2, 1]);
    scenario.now += std::time::Duration::from_millis(2345);
    scenario.kill(2);
    let events = page(&scenario.image.events, &EventQuery { limit: Some(2), ..Default::default() }).unwrap().events;
    let fence = serde_json::to_value(&events[0]).unwrap();
    assert_eq!(fence["time"], "1970-01-01T12:00:02.345Z");
    assert_eq!((&fence["kind"], &fence["term"]), (&"broker_fenced".into(), &1.into()));
    assert_eq!(fence["because"], "its connection closed and nobody listens there any more");
    assert_eq!(fence["broker"]["id"], 2);
    let election = serde_json::to_value(&events[1]).unwrap();
    assert_eq!(election["what"], "leader elected: t-0 2 → 1 (epoch 1, ISR {2, 1} → {1})");
    assert_eq!(election["partitions"][0]["leader_before"], 2);
    assert_eq!(election["partitions"][0]["elr"], serde_json::json!([2]));
}

#[test]
fn long_lists_are_counted() {
    let mut scenario = Scenario::with_brokers(2);
    (0..30).for_each(|n| scenario.create(&format!("t{n}"), &[2]));
    scenario.kill(2);
    let events = page(&scenario.image.events, &EventQuery { limit: Some(1), ..Default::default() }).unwrap().events;
    assert!(events[0].what.ends_with("; and 26 more"), "{}", events[0].what);
    assert_eq!((events[0].partitions.len(), events[0].more), (16, 14));
}
