use super::machine::Machine;
use super::*;
use crate::replica::partition::Role;
use crate::simulation::{every_seed, number, seeds};

/// So many seeds see everything that there is to see.
const MANY: u64 = 100;
/// What some run at least has to have seen.
const SEEN: [&str; 25] = [
    "acks",
    "unknown",
    "crashes",
    "pauses",
    "cuts",
    "lossy",
    "failed_syncs",
    "forgotten",
    "slow_disks",
    "quorum_disks",
    "wipes",
    "lost_logs",
    "power_cuts",
    "no_quorum",
    "full_disks",
    "full_to_the_end",
    "rotten",
    "mended",
    "unclean_elections",
    "departures",
    "rolling",
    "min_insync_changes",
    "elections",
    "fences",
    "controllers",
];

#[test]
fn a_cluster_keeps_every_promise_under_faults() {
    let mut total = Seen::default();
    let seeds = seeds(8, 1);
    let are_many = seeds.end - seeds.start >= MANY;
    // What travelled and happened, a line each: for one seed.
    let traced = number("ROOKERY_SIM_TRACE").is_some();
    let run = |seed| {
        let (result, lines) = run(seed, traced);
        lines.iter().for_each(|line| println!("{line}"));
        result
    };
    for seen in every_seed(seeds, run) {
        seen.0.into_iter().for_each(|(what, count)| total.add_some(what, count));
    }
    println!("{total:?}");
    let missing: Vec<_> = SEEN.iter().filter(|what| !total.0.contains_key(*what)).collect();
    assert!(!are_many || missing.is_empty(), "never: {missing:?}; {total:?}");
}

/// How one of three nodes stops answering.
#[derive(Clone, Copy, Debug)]
enum Silence {
    Stopped,
    CutOff,
    /// Its kernel tells.
    Killed,
}

/// Virtual milliseconds from a controller's falling silent until every partition has another leader that serves.
fn controller_gap(seed: u64, silence: Silence) -> u64 {
    inline::turn_on();
    seed_thread(Some(seed));
    let mut world = World::new(seed);
    world.climate.clear();
    let whole = |w: &World| w.topic.is_some() && w.all_partitions(|p| p.isr.len() == 3) && w.is_whole();
    world.until(20_000, "a whole cluster", whole).expect("no faults yet");
    let settle = world.now + world.rng.random_range(300..800);
    world.until(1000, "some time", |w| w.now >= settle).expect("time passes");
    let is_controller = |m: &Machine| m.process.as_ref().and_then(Process::quorum).is_some_and(|q| q.is_active());
    let at = world.machines.iter().position(is_controller).expect("a whole cluster has a controller");
    let (victim, since) = (world.machines[at].id, world.now);
    match silence {
        Silence::Stopped => world.pause(at, since + 20_000),
        Silence::CutOff => world.isolate(at, since + 20_000, (true, true)),
        Silence::Killed => world.crash(at, 20_000),
    }
    let served = |w: &World| {
        let serves = |id: &TopicIdPartition| {
            let others = w.machines.iter().filter(|m| m.id != victim);
            let mut replicas = others.flat_map(|m| w.replicas_of(m)).filter(|p| p.id() == *id);
            replicas.any(|p| p.role().0 == Role::Leader) && w.all_partitions(|p| !p.isr.contains(&victim))
        };
        w.partitions.keys().all(serves)
    };
    world.until(15_000, "leaders without the silent node", served).expect("two of three go on");
    let gap = world.now - since;
    world.machines.iter_mut().filter_map(|m| m.process.take()).for_each(Process::end);
    seed_thread(None);
    gap
}

#[test]
fn a_controller_that_falls_silent_is_replaced_and_fenced_within_a_second() {
    for silence in [Silence::Stopped, Silence::CutOff, Silence::Killed] {
        let mut gaps = every_seed(seeds(12, 20), |seed| Ok(controller_gap(seed, silence)));
        gaps.sort_unstable();
        let (median, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        println!("{silence:?}: {gaps:?}");
        let (typical, longest) = if matches!(silence, Silence::Killed) { (500, 600) } else { (700, 1000) };
        assert!(median <= typical && worst <= longest, "{silence:?}: {gaps:?}");
    }
}

#[test]
fn a_stale_and_a_wiped_voter_are_no_majority() {
    every_seed(seeds(4, 10), schedules::without_majority);
}

#[test]
fn data_goes_on_without_a_quorum() {
    every_seed(seeds(4, 10), schedules::without_quorum);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (first, second) = (run(3, true).1, run(3, true).1);
    if let Some(at) = first.iter().zip(&second).position(|(one, other)| one != other) {
        let from = at.saturating_sub(5);
        panic!("line {at}: {:#?}\n{:#?}", &first[from..=at], &second[from..=at]);
    }
    assert_eq!(first.len(), second.len());
    assert!(first.len() > 1000, "{}", first.len());
}
