//! Every transition of a group, and every rule about offsets, one by one.

use super::bench::*;
use super::*;
use crate::coordinator::CoordinatorError::*;
use crate::coordinator::{CoordinatorRecord, LoopLimits, RewriteLimits};
use bytes::Bytes;
use rookery_raft::ids::{TopicId, TopicName};
use std::time::Duration;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_group_is_found_where_kafka_puts_it() {
    // Kafka: Utils.abs(id.hashCode()) % 50.
    let ids = [("", 0), ("a", 47), ("group-1", 49), ("grüppe", 12), ("🚀rocket", 31), ("polygenelubricants", 0)];
    for (id, partition) in ids {
        assert_eq!(partition_of(id, 50), partition, "{id}");
    }
}

#[test]
fn a_new_member_is_sent_back_for_its_id_then_waits_for_others() {
    let mut bench = Bench::new();
    let first = bench.ask_join(JoinGroupRequest { requires_known_member_id: true, ..join("g") });
    assert_eq!(first.error, Some(MemberIdRequired));
    assert!(first.member_id.starts_with("client-"));
    let waiting = bench.send(GroupRequest::Join(rejoin("g", &first.member_id)));
    assert_eq!(bench.state("g"), "PreparingRebalance");
    bench.pass(Duration::from_millis(2999));
    assert!(bench.answers.is_empty());
    bench.pass(Duration::from_millis(1));
    let joined = bench.joined(waiting);
    assert_eq!((joined.error, joined.generation, &joined.leader), (None, 1, &first.member_id));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(bench.state("g"), "CompletingRebalance");
    let given = vec![(first.member_id.clone(), Bytes::from_static(b"all"))];
    let Ok(GroupResponse::Sync(synced)) = bench.ask(GroupRequest::Sync(sync("g", &joined, given))) else { panic!() };
    assert_eq!((&synced.assignment[..], synced.protocol_name.as_deref()), (&b"all"[..], Some("range")));
    assert_eq!(bench.state("g"), "Stable");
    assert_eq!(bench.ask(beat("g", 1, &first.member_id)), Ok(GroupResponse::Heartbeat));
}

#[test]
fn an_id_that_does_not_come_back_is_forgotten_and_its_group_with_it() {
    let mut bench = Bench::new();
    let first = bench.ask_join(JoinGroupRequest { requires_known_member_id: true, ..join("g") });
    assert_eq!(bench.state("g"), "Empty");
    bench.pass(seconds(10));
    assert_eq!(bench.state("g"), "Dead");
    assert_eq!(bench.ask_join(rejoin("g", &first.member_id)).error, Some(UnknownMemberId));
    let retention = bench.config.offsets_retention_check_interval;
    assert_eq!(bench.event_loop.next_deadline(), Some(retention), "no timer is left behind");
}

#[test]
fn the_first_rebalance_waits_while_members_come_but_not_longer_than_the_rebalance_timeout() {
    let mut bench = Bench::new();
    let short = || JoinGroupRequest { rebalance_timeout_ms: 7_000, ..join("g") };
    let first = bench.send(GroupRequest::Join(short()));
    for _ in 0..3 {
        bench.pass(seconds(2));
        bench.send(GroupRequest::Join(short()));
    }
    assert!(bench.take(first).is_none());
    bench.pass(seconds(1));
    assert_eq!(bench.joined(first).generation, 1);
    assert_eq!(bench.describe("g").members.len(), 4);
}

#[test]
fn the_protocol_most_members_prefer_is_chosen_among_those_all_know() {
    let mut bench = Bench::new();
    let with =
        |names: &[&str]| JoinGroupRequest { protocols: names.iter().map(|name| protocol(name)).collect(), ..join("g") };
    let a = bench.send(GroupRequest::Join(with(&["range", "sticky", "roundrobin"])));
    bench.send(GroupRequest::Join(with(&["sticky", "range"])));
    bench.send(GroupRequest::Join(with(&["roundrobin", "sticky", "range", "sticky"])));
    assert_eq!(bench.ask_join(with(&["other"])).error, Some(InconsistentGroupProtocol));
    let connect = JoinGroupRequest { protocol_type: "connect".into(), ..join("g") };
    assert_eq!(bench.ask_join(connect).error, Some(InconsistentGroupProtocol));
    bench.pass(seconds(10));
    assert_eq!(bench.joined(a).protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn a_session_timeout_out_of_range_and_a_join_without_protocols_are_refused_and_leave_no_group() {
    let mut bench = Bench::new();
    for session_timeout_ms in [-1, 5_999, 1_800_001] {
        let refused = bench.ask_join(JoinGroupRequest { session_timeout_ms, ..join("g") });
        assert_eq!(refused.error, Some(InvalidSessionTimeout));
    }
    let empty = JoinGroupRequest { protocols: Vec::new(), ..join("g") };
    assert_eq!(bench.ask_join(empty).error, Some(InconsistentGroupProtocol));
    assert_eq!(bench.state("g"), "Dead");
    let long = JoinGroupRequest { client_id: "x".repeat(40_000).into(), ..join("g") };
    assert_eq!(bench.ask(GroupRequest::Join(long)), Err(InvalidRequest));
}

#[test]
fn a_follower_that_joins_again_goes_on_and_a_leader_starts_a_rebalance() {
    let mut bench = Bench::new();
    let members = bench.stable("g", 2);
    let again = bench.ask_join(rejoin("g", &members[1].member_id));
    assert_eq!((again.generation, again.members.len()), (1, 0));
    let leader = bench.send(GroupRequest::Join(rejoin("g", &members[0].member_id)));
    assert_eq!(bench.state("g"), "PreparingRebalance");
    assert_eq!(bench.ask(beat("g", 1, &members[1].member_id)), Err(RebalanceInProgress));
    let follower = bench.send(GroupRequest::Join(rejoin("g", &members[1].member_id)));
    let (leader, follower) = (bench.joined(leader), bench.joined(follower));
    assert_eq!((leader.generation, follower.generation), (2, 2));
    assert_eq!(leader.members.len(), 2);
    // Its answer was lost: the same again. With other metadata: a new round.
    assert_eq!(bench.ask_join(rejoin("g", &members[1].member_id)).generation, 2);
    let mut changed = rejoin("g", &members[1].member_id);
    changed.protocols[0].metadata = subscription(&["payments"]);
    bench.send(GroupRequest::Join(changed));
    assert_eq!(bench.state("g"), "PreparingRebalance");
}

#[test]
fn who_does_not_join_in_time_is_removed_and_another_leads() {
    let mut bench = Bench::new();
    let members = bench.stable("g", 2);
    let mut changed = rejoin("g", &members[1].member_id);
    changed.protocols[0].metadata = subscription(&["payments"]);
    let follower = bench.send(GroupRequest::Join(changed));
    for _ in 0..12 {
        bench.pass(seconds(5));
        let beat = bench.ask(beat("g", 1, &members[0].member_id));
        assert!(matches!(beat, Err(RebalanceInProgress | UnknownMemberId | IllegalGeneration)));
    }
    let follower = bench.joined(follower);
    assert_eq!((follower.generation, &follower.leader), (2, &members[1].member_id));
    assert_eq!(bench.ask(beat("g", 2, &members[0].member_id)), Err(UnknownMemberId));
}

#[test]
fn a_silent_member_is_removed_when_its_session_ends() {
    let mut bench = Bench::new();
    let members = bench.stable("g", 2);
    bench.pass(seconds(6));
    assert_eq!(bench.ask(beat("g", 1, &members[0].member_id)), Ok(GroupResponse::Heartbeat));
    assert_eq!(bench.ask(beat("g", 7, &members[0].member_id)), Err(IllegalGeneration));
    assert_eq!(bench.ask(beat("g", 1, "nobody")), Err(UnknownMemberId));
    assert_eq!(bench.ask(beat("nowhere", 1, "nobody")), Err(UnknownMemberId));
    bench.pass(seconds(6));
    assert_eq!(bench.ask(beat("g", 1, &members[0].member_id)), Err(RebalanceInProgress));
    assert_eq!(bench.ask_join(rejoin("g", &members[0].member_id)).members.len(), 1);
}

#[test]
fn the_last_one_to_leave_leaves_an_empty_group_of_the_next_generation() {
    let mut bench = Bench::new();
    let members = bench.stable("g", 1);
    assert_eq!(
        bench.ask(leave("g", "nobody", None)),
        Ok(GroupResponse::Leave(vec![LeftMember {
            identity: MemberIdentity { member_id: "nobody".into(), group_instance_id: None },
            error: Some(UnknownMemberId),
        }]))
    );
    bench.ask(leave("g", &members[0].member_id, None)).unwrap();
    assert_eq!(bench.state("g"), "Empty");
    let Some(GroupChange::Group { value: Some(record), .. }) = bench.changes().pop() else { panic!() };
    assert_eq!((record.generation, record.protocol, record.members.len()), (2, None, 0));
    bench.fail_over(true);
    assert_eq!(bench.state("g"), "Empty");
    assert_eq!(bench.stable("g", 1)[0].generation, 3);
}

#[test]
fn an_assignment_is_given_only_when_it_is_committed() {
    let mut bench = Bench::new();
    let waiting: Vec<_> = (0..2).map(|_| bench.send(GroupRequest::Join(join("g")))).collect();
    bench.pass(seconds(6));
    let joined: Vec<_> = waiting.into_iter().map(|id| bench.joined(id)).collect();
    let (leader, follower) = if joined[0].members.is_empty() { (1, 0) } else { (0, 1) };
    let follower_sync = bench.send(GroupRequest::Sync(sync("g", &joined[follower], Vec::new())));
    bench.held = true;
    let given = vec![(joined[follower].member_id.clone(), Bytes::from_static(b"x"))];
    let leader_sync = bench.send(GroupRequest::Sync(sync("g", &joined[leader], given)));
    bench.settle();
    assert!(bench.answers.is_empty());
    assert_eq!(bench.state("g"), "CompletingRebalance");
    // The leader asks again: its older request is answered, what it said first stays.
    let again = bench.send(GroupRequest::Sync(sync("g", &joined[leader], Vec::new())));
    assert_eq!(bench.take(leader_sync), Some(Err(RebalanceInProgress)));
    bench.release();
    let Some(Ok(GroupResponse::Sync(synced))) = bench.take(follower_sync) else { panic!() };
    assert_eq!(&synced.assignment[..], b"x");
    assert!(bench.take(again).is_some());
    assert_eq!(bench.state("g"), "Stable");
    assert_eq!(bench.changes().len(), 1);
}

#[test]
fn an_assignment_that_does_not_commit_in_time_is_given_to_nobody() {
    let mut bench = Bench::new();
    let waiting = bench.send(GroupRequest::Join(join("g")));
    bench.pass(seconds(3));
    let joined = bench.joined(waiting);
    bench.held = true;
    let syncing = bench.send(GroupRequest::Sync(sync("g", &joined, vec![(joined.member_id.clone(), "x".into())])));
    bench.pass(seconds(5));
    assert_eq!(bench.take(syncing), Some(Err(CoordinatorNotAvailable)));
    assert_eq!(bench.state("g"), "PreparingRebalance");
    bench.release();
    assert_eq!(bench.state("g"), "PreparingRebalance", "the late commit is of a round that was given up");
    assert_eq!(bench.ask_join(rejoin("g", &joined.member_id)).generation, 2);
}

#[test]
fn who_does_not_sync_in_time_is_removed() {
    let mut bench = Bench::new();
    let members = bench.stable("g", 2);
    let rejoined: Vec<_> = members.iter().map(|m| bench.send(GroupRequest::Join(rejoin("g", &m.member_id)))).collect();
    let leader = bench.joined(rejoined[0]);
    bench.ask(GroupRequest::Sync(sync("g", &leader, Vec::new()))).unwrap();
    for _ in 0..12 {
        bench.pass(seconds(5));
        for member in &members {
            let _ = bench.ask(beat("g", 2, &member.member_id));
        }
    }
    assert_eq!(bench.ask(beat("g", 2, &members[1].member_id)), Err(UnknownMemberId));
    assert_eq!(bench.ask(beat("g", 2, &leader.member_id)), Err(RebalanceInProgress));
}

#[test]
fn sync_is_refused_to_strangers_and_latecomers() {
    let mut bench = Bench::new();
    let members = bench.stable("g", 1);
    let ask = |bench: &mut Bench, change: &dyn Fn(&mut SyncGroupRequest)| {
        let mut request = sync("g", &members[0], Vec::new());
        change(&mut request);
        bench.ask(GroupRequest::Sync(request)).err()
    };
    assert_eq!(ask(&mut bench, &|_| {}), None);
    assert_eq!(ask(&mut bench, &|s| s.group_id = "other".into()), Some(UnknownMemberId));
    assert_eq!(ask(&mut bench, &|s| s.member_id = "other".into()), Some(UnknownMemberId));
    assert_eq!(ask(&mut bench, &|s| s.generation = 0), Some(IllegalGeneration));
    assert_eq!(ask(&mut bench, &|s| s.protocol_name = Some("sticky".into())), Some(InconsistentGroupProtocol));
    assert_eq!(ask(&mut bench, &|s| s.protocol_type = Some("connect".into())), Some(InconsistentGroupProtocol));
    assert_eq!(ask(&mut bench, &|s| s.group_instance_id = Some("i".into())), Some(UnknownMemberId));
    bench.send(GroupRequest::Join(join("g")));
    assert_eq!(ask(&mut bench, &|_| {}), Some(RebalanceInProgress));
}

/// A stable group of one static member.
fn stable_static(bench: &mut Bench) -> JoinGroupResponse {
    let waiting = bench.send(GroupRequest::Join(join_static("g", "i")));
    bench.pass(seconds(3));
    let joined = bench.joined(waiting);
    let given = vec![(joined.member_id.clone(), assignment_of("i"))];
    bench.ask(GroupRequest::Sync(sync("g", &joined, given))).unwrap();
    joined
}

#[test]
fn a_static_member_that_comes_back_takes_its_place_without_a_rebalance() {
    let mut bench = Bench::new();
    let old = stable_static(&mut bench);
    assert!(old.member_id.starts_with("i-"));
    // An older client is not told that it leads: it must not assign.
    let second = bench.ask_join(join_static("g", "i"));
    assert_eq!((second.error, second.generation, &second.leader), (None, 1, &old.member_id));
    assert!(second.members.is_empty());
    // A newer one is told, and told not to assign.
    let third = bench.ask_join(JoinGroupRequest { supports_skipping_assignment: true, ..join_static("g", "i") });
    assert_eq!((third.skip_assignment, &third.leader, third.members.len()), (true, &third.member_id, 1));
    assert_eq!(bench.state("g"), "Stable");
    bench.fail_over(true);
    let Ok(GroupResponse::Sync(synced)) = bench.ask(GroupRequest::Sync(sync("g", &third, Vec::new()))) else {
        panic!()
    };
    assert_eq!(synced.assignment, assignment_of("i"));
    let fenced = HeartbeatRequest {
        group_id: "g".into(),
        generation: 1,
        member_id: second.member_id.clone(),
        group_instance_id: Some("i".into()),
    };
    assert_eq!(bench.ask(GroupRequest::Heartbeat(fenced)), Err(FencedInstanceId));
    let mut commit = commit("g", 1, &second.member_id, "orders", 5);
    commit.group_instance_id = Some("i".into());
    assert_eq!(bench.ask(GroupRequest::CommitOffsets(commit)), Err(FencedInstanceId));
    let refused = JoinGroupRequest { member_id: second.member_id, ..join_static("g", "i") };
    assert_eq!(bench.ask_join(refused).error, Some(FencedInstanceId));
}

#[test]
fn a_static_member_that_comes_back_otherwise_than_before_starts_a_rebalance() {
    let mut bench = Bench::new();
    stable_static(&mut bench);
    let other = JoinGroupRequest { protocols: vec![protocol("sticky"), protocol("range")], ..join_static("g", "i") };
    let joined = bench.ask_join(other);
    assert_eq!((joined.generation, joined.protocol_name.as_deref()), (2, Some("sticky")));
    // In CompletingRebalance: the leader may have assigned to the old id.
    let again = bench.ask_join(JoinGroupRequest { protocols: vec![protocol("sticky")], ..join_static("g", "i") });
    assert_eq!(again.generation, 3);
}

#[test]
fn a_static_member_that_waits_is_fenced_by_its_successor_and_survives_a_rebalance_it_misses() {
    let mut bench = Bench::new();
    let first = bench.send(GroupRequest::Join(join_static("g", "i")));
    let second = bench.send(GroupRequest::Join(join_static("g", "i")));
    assert_eq!(bench.joined(first).error, Some(FencedInstanceId));
    bench.pass(seconds(6));
    let member = bench.joined(second);
    assert_eq!(member.members.len(), 1);
    bench.ask(GroupRequest::Sync(sync("g", &member, Vec::new()))).unwrap();
    let newcomer = bench.send(GroupRequest::Join(JoinGroupRequest { rebalance_timeout_ms: 5_000, ..join("g") }));
    for _ in 0..12 {
        bench.pass(seconds(5));
        let _ = bench.ask(beat("g", 1, &member.member_id));
    }
    let newcomer = bench.joined(newcomer);
    assert_eq!((newcomer.members.len(), &newcomer.leader), (2, &newcomer.member_id));
    bench.ask(leave("g", "", Some("i"))).unwrap();
    assert_eq!(bench.describe("g").members.len(), 1);
}

#[test]
fn a_full_group_turns_newcomers_away() {
    let config = GroupConfig { size_max: 2, ..GroupConfig::default() };
    let mut bench = Bench::with(config, LoopLimits::default(), 1);
    let members = bench.stable("g", 2);
    assert_eq!(bench.ask_join(join("g")).error, Some(GroupMaxSizeReached));
    bench.send(GroupRequest::Join(rejoin("g", &members[0].member_id)));
    assert_eq!(bench.state("g"), "PreparingRebalance");
    bench.config.size_max = 1;
    bench.fail_over(true);
    assert_eq!(bench.state("g"), "PreparingRebalance", "over the lowered limit");
    bench.send(GroupRequest::Join(rejoin("g", &members[0].member_id)));
    assert_eq!(bench.ask_join(rejoin("g", &members[1].member_id)).error, Some(GroupMaxSizeReached));
    assert_eq!(bench.state("g"), "CompletingRebalance");
}

#[test]
fn members_of_a_stable_group_do_not_notice_a_fail_over() {
    let mut bench = Bench::new();
    let members = bench.stable("g", 3);
    bench.ask(GroupRequest::CommitOffsets(commit("g", 1, &members[1].member_id, "orders", 42))).unwrap();
    bench.fail_over(true);
    for member in &members {
        assert_eq!(bench.ask(beat("g", 1, &member.member_id)), Ok(GroupResponse::Heartbeat));
        let Ok(GroupResponse::Sync(synced)) = bench.ask(GroupRequest::Sync(sync("g", member, Vec::new()))) else {
            panic!()
        };
        assert_eq!(synced.assignment, assignment_of(&member.member_id));
    }
    assert_eq!(bench.fetch("g", "orders", 0), 42);
    bench.pass(seconds(11));
    assert_ne!(bench.state("g"), "Stable", "sessions began anew, nobody kept them");
}

#[test]
fn offsets_are_taken_from_members_of_the_generation_or_from_anyone_while_the_group_is_empty() {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench, commit: OffsetCommitRequest| bench.ask(GroupRequest::CommitOffsets(commit)).err();
    assert_eq!(ask(&mut bench, commit("g", 5, "m", "orders", 1)), Some(GroupIdNotFound));
    let old = OffsetCommitRequest { knows_group_id_not_found: false, ..commit("g", 5, "m", "orders", 1) };
    assert_eq!(ask(&mut bench, old), Some(IllegalGeneration));
    assert_eq!(ask(&mut bench, commit("g", -1, "", "orders", 1)), None);
    assert_eq!((bench.state("g"), bench.fetch("g", "orders", 0), bench.fetch("g", "orders", 1)), ("Empty", 1, -1));
    let waiting = bench.send(GroupRequest::Join(join("g")));
    bench.pass(seconds(3));
    let member = bench.joined(waiting);
    assert_eq!(ask(&mut bench, commit("g", 1, &member.member_id, "orders", 2)), Some(RebalanceInProgress));
    bench.ask(GroupRequest::Sync(sync("g", &member, Vec::new()))).unwrap();
    assert_eq!(ask(&mut bench, commit("g", 1, &member.member_id, "orders", 2)), None);
    assert_eq!(ask(&mut bench, commit("g", 0, &member.member_id, "orders", 3)), Some(IllegalGeneration));
    assert_eq!(ask(&mut bench, commit("g", 1, "other", "orders", 3)), Some(UnknownMemberId));
    assert_eq!(ask(&mut bench, commit("g", -1, "", "orders", 3)), Some(UnknownMemberId));
    bench.send(GroupRequest::Join(join("g")));
    // While members gather, those of the old generation still commit what they did.
    assert_eq!(ask(&mut bench, commit("g", 1, &member.member_id, "orders", 4)), None);
    assert_eq!(bench.fetch("g", "orders", 0), 4);
}

#[test]
fn metadata_that_is_too_long_spoils_its_own_partition_only() {
    let mut bench = Bench::new();
    let mut request = commit("g", -1, "", "orders", 1);
    let mut bad = request.topics[0].partitions[0].clone();
    (bad.partition, bad.metadata) = (1, "x".repeat(4097).into());
    request.topics[0].partitions.push(bad);
    let Ok(GroupResponse::CommitOffsets(result)) = bench.ask(GroupRequest::CommitOffsets(request)) else { panic!() };
    assert_eq!(result[0].1, [(0, None), (1, Some(OffsetMetadataTooLarge))]);
    assert_eq!((bench.fetch("g", "orders", 0), bench.fetch("g", "orders", 1)), (1, -1));
}

#[test]
fn a_commit_is_acknowledged_and_visible_only_below_the_high_watermark() {
    let mut bench = Bench::new();
    bench.ask(GroupRequest::CommitOffsets(commit("g", -1, "", "orders", 1))).unwrap();
    bench.held = true;
    let committing = bench.send(GroupRequest::CommitOffsets(commit("g", -1, "", "orders", 2)));
    bench.settle();
    assert_eq!(bench.fetch("g", "orders", 0), 1);
    let stable = OffsetFetchRequest { group_id: "g".into(), topics: None, require_stable: true };
    let fetching = bench.send(GroupRequest::FetchOffsets(stable));
    assert!(bench.answers.is_empty());
    bench.release();
    assert!(matches!(bench.take(committing), Some(Ok(_))));
    let Some(Ok(GroupResponse::FetchOffsets(topics))) = bench.take(fetching) else { panic!() };
    assert_eq!(topics[0].partitions[0].offset, 2);
    bench.held = true;
    let late = bench.send(GroupRequest::CommitOffsets(commit("g", -1, "", "orders", 3)));
    bench.pass(seconds(5));
    assert_eq!(bench.take(late), Some(Err(CoordinatorNotAvailable)));
    let lost = bench.send(GroupRequest::CommitOffsets(commit("g", -1, "", "orders", 4)));
    bench.fail_over(true);
    assert_eq!(bench.take(lost), Some(Err(NotCoordinator)));
    assert_eq!(bench.fetch("g", "orders", 0), 2);
}

#[test]
fn a_group_is_deleted_whole_and_only_when_empty() {
    let mut bench = Bench::new();
    let members = bench.stable("g", 1);
    bench.ask(GroupRequest::CommitOffsets(commit("g", 1, &members[0].member_id, "orders", 7))).unwrap();
    let delete = || GroupRequest::DeleteGroups(vec!["g".into(), "none".into()]);
    let result = |g| Ok(GroupResponse::DeleteGroups(vec![("g".into(), g), ("none".into(), Some(GroupIdNotFound))]));
    assert_eq!(bench.ask(delete()), result(Some(NonEmptyGroup)));
    bench.ask(leave("g", &members[0].member_id, None)).unwrap();
    assert_eq!(bench.ask(delete()), result(None));
    for _ in 0..2 {
        assert_eq!((bench.state("g"), bench.fetch("g", "orders", 0)), ("Dead", -1));
        assert!(bench.event_loop.live_keys().is_empty());
        bench.fail_over(true);
    }
}

#[test]
fn offsets_of_topics_in_use_cannot_be_deleted() {
    let mut bench = Bench::new();
    let members = bench.stable("g", 1);
    for topic in ["orders", "old"] {
        bench.ask(GroupRequest::CommitOffsets(commit("g", 1, &members[0].member_id, topic, 7))).unwrap();
    }
    let topics: Vec<(TopicName, _)> = vec![("orders".into(), vec![0]), ("old".into(), vec![0, 9])];
    let delete = OffsetDeleteRequest { group_id: "g".into(), topics };
    let Ok(GroupResponse::DeleteOffsets(result)) = bench.ask(GroupRequest::DeleteOffsets(delete.clone())) else {
        panic!()
    };
    assert_eq!(result[0].1, [(0, Some(GroupSubscribedToTopic))]);
    assert_eq!(result[1].1, [(0, None), (9, None)]);
    assert_eq!((bench.fetch("g", "orders", 0), bench.fetch("g", "old", 0)), (7, -1));
    let unknown = OffsetDeleteRequest { group_id: "none".into(), ..delete };
    assert_eq!(bench.ask(GroupRequest::DeleteOffsets(unknown)), Err(GroupIdNotFound));
}

#[test]
fn offsets_expire_a_week_after_the_last_use_and_the_empty_group_with_them() {
    let week = seconds(7 * 24 * 60 * 60);
    let mut bench = Bench::new();
    // Without members: by the age of the commit. With its own retention: by that.
    bench.ask(GroupRequest::CommitOffsets(commit("simple", -1, "", "orders", 1))).unwrap();
    let own = OffsetCommitRequest { retention_ms: Some(3_600_000), ..commit("simple", -1, "", "brief", 1) };
    bench.ask(GroupRequest::CommitOffsets(own)).unwrap();
    // With members: not while they read the topic, whatever the age.
    let member = bench.stable("used", 1).remove(0);
    for topic in ["orders", "old"] {
        bench.ask(GroupRequest::CommitOffsets(commit("used", 1, &member.member_id, topic, 1))).unwrap();
    }
    let live = |bench: &mut Bench, time: Duration| {
        let end = bench.now.monotonic + time;
        while bench.now.monotonic < end {
            bench.pass(seconds(9).min(end - bench.now.monotonic));
            let _ = bench.event_loop.handle(
                bench.now,
                u64::MAX - bench.now.monotonic.as_millis() as u64,
                beat("used", 1, &member.member_id),
            );
            bench.event_loop.take_answers();
        }
    };
    live(&mut bench, seconds(2 * 60 * 60));
    assert_eq!((bench.fetch("simple", "orders", 0), bench.fetch("simple", "brief", 0)), (1, -1));
    live(&mut bench, week);
    assert_eq!((bench.fetch("simple", "orders", 0), bench.state("simple")), (-1, "Dead"));
    assert_eq!((bench.fetch("used", "orders", 0), bench.fetch("used", "old", 0)), (1, -1));
    // The members gone: a week from then on.
    bench.ask(leave("used", &member.member_id, None)).unwrap();
    bench.pass(week - seconds(1200));
    assert_eq!(bench.fetch("used", "orders", 0), 1);
    bench.pass(seconds(2400));
    assert_eq!((bench.fetch("used", "orders", 0), bench.state("used")), (-1, "Dead"));
    bench.fail_over(true);
    assert!(bench.event_loop.live_keys().is_empty());
}

#[test]
fn a_deleted_topic_takes_its_offsets_along_but_not_those_of_its_namesake() {
    let mut bench = Bench::new();
    let (old, new) = (TopicId(uuid::Uuid::from_u128(1)), TopicId(uuid::Uuid::from_u128(2)));
    for (group, id) in [("a", old), ("b", new), ("c", TopicId::NONE)] {
        let mut request = commit(group, -1, "", "orders", 1);
        request.topics[0].topic_id = id;
        bench.ask(GroupRequest::CommitOffsets(request)).unwrap();
    }
    let topics = Some(vec![FetchTopic { name: "orders".into(), topic_id: new, partitions: vec![0] }]);
    let stale = OffsetFetchRequest { group_id: "a".into(), topics, require_stable: false };
    let Ok(GroupResponse::FetchOffsets(topics)) = bench.ask(GroupRequest::FetchOffsets(stale)) else { panic!() };
    assert_eq!(topics[0].partitions[0].offset, -1, "committed to the topic's predecessor");
    bench.ask(GroupRequest::TopicsDeleted(vec![("orders".into(), old)])).unwrap();
    let left = ["a", "b", "c"].map(|group| bench.fetch(group, "orders", 0));
    assert_eq!(left, [-1, 1, -1]);
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut bench = Bench::new();
    bench.stable("stable", 1);
    bench.ask(GroupRequest::CommitOffsets(commit("simple", -1, "", "orders", 1))).unwrap();
    let mut list = |states: &[&str], types: &[&str]| {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let filter = ListGroupsFilter { states: own(states), types: own(types) };
        match bench.ask(GroupRequest::List(filter)) {
            Ok(GroupResponse::List(groups)) => groups.into_iter().map(|g| g.group_id.to_string()).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&[], &[]), ["simple", "stable"]);
    assert_eq!(list(&["empty"], &["Classic"]), ["simple"]);
    assert_eq!(list(&["Stable"], &["consumer"]), [""; 0]);
}

#[test]
fn rewriting_drops_the_dead_keeps_the_live_and_what_it_does_not_understand() {
    let rewrite = RewriteLimits { records_min: 50, live_percent_max: 50, bytes_per_step: 2_000 };
    let limits = LoopLimits { rewrite, ..LoopLimits::default() };
    let mut bench = Bench::with(GroupConfig::default(), limits, 1);
    let foreign = CoordinatorRecord { key: Bytes::from_static(b"\0\x03later"), value: Some(Bytes::from_static(b"v")) };
    bench.append_foreign(foreign.clone());
    bench.fail_over(true);
    assert_eq!(bench.event_loop.unknown_records(), 1);
    bench.stable("g", 2);
    for i in 0..400 {
        bench.ask(GroupRequest::CommitOffsets(commit("s", -1, "", &format!("t{}", i % 7), i))).unwrap();
    }
    bench.ask(GroupRequest::CommitOffsets(commit("gone", -1, "", "t", 1))).unwrap();
    bench.ask(GroupRequest::DeleteGroups(vec!["gone".into()])).unwrap();
    let end = bench.log_end();
    let mut steps = 0;
    loop {
        // A commit that is written before the copies and committed after them: it replaces what the stretch held.
        bench.held = true;
        let committing = bench.send(GroupRequest::CommitOffsets(commit("s", -1, "", "t0", 1000 + steps)));
        bench.settle();
        let more = bench.rewrite();
        bench.settle();
        assert_eq!(bench.event_loop.log_start_due(), None, "what replaces the stretch is not committed yet");
        bench.release();
        assert!(matches!(bench.take(committing), Some(Ok(_))));
        bench.advance_log_start();
        steps += 1;
        assert!(steps < 100);
        if !more {
            break;
        }
    }
    assert!(steps > 1 && bench.log_start > 0 && bench.log_end() > end);
    assert!(bench.records().len() < 60, "{}", bench.records().len());
    bench.fail_over(true);
    assert_eq!(bench.state("g"), "Stable");
    assert_eq!(bench.state("gone"), "Dead");
    assert_eq!(bench.fetch("s", "t0", 0), 1000 + steps - 1);
    for i in 1..7 {
        let newest = (0..400).rfind(|n| n % 7 == i).unwrap();
        assert_eq!(bench.fetch("s", &format!("t{i}"), 0), newest);
    }
    assert!(bench.records().contains(&foreign));
}
