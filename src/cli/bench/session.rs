//! The course of a run: prepare, connect, warm up, measure, wait for what is under way, tell.

use super::arguments::{CommonArguments, FetchArguments, LoadArguments};
use super::check::Depth;
use super::consumer::{Consumed, Consumer, ConsumerSettings, Ends};
use super::leaders::Lookup;
use super::monitor::{Goal, Monitor};
use super::pace::{Clock, Nanos, Pacer, Schedule, nanos};
use super::payload::{Mold, ProducerIdentity};
use super::processes::Brokers;
use super::producer::{Plan, Produced, Producer, ProducerSettings};
use super::recorder::Recorder;
use super::report::{ClientReport, ConsumedReport, LoadReport, ProducedReport, Report};
use crate::cli::client::KafkaClient;
use crate::cli::consume::{EARLIEST, LATEST, list_offset};
use crate::cli::output::say;
use crate::cli::produce::producer_id;
use crate::cli::topic;
use anyhow::{Context, Result, bail};
use clap::Args;
use parking_lot::Mutex;
use rand::random;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::messages::create_topics::CreatableTopic;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Partitions of a topic that is created.
const PARTITIONS_DEFAULT: i32 = 12;

/// What to read, of `consume`.
#[derive(Args, Clone, Debug)]
pub struct Reading {
    /// Read what comes from now on, not what is there; needs --records or --duration
    #[arg(long)]
    pub tail: bool,
    /// End after so many records
    #[arg(long, value_name = "N")]
    pub records: Option<u64>,
    /// End after so long
    #[arg(long, value_name = "TIME", value_parser = super::arguments::duration)]
    pub duration: Option<Duration>,
    /// Look into every batch: checksum, records
    #[arg(long)]
    pub verify: bool,
    /// Bytes of key and value of each record, if that is known: throughput is that of those, and not of whole batches
    #[arg(long, value_name = "BYTES")]
    pub record_bytes: Option<u64>,
}

/// A person, or the system, that has seen enough.
struct Signals {
    /// No more records; what is under way is waited for.
    stop: CancellationToken,
    /// The end, now.
    abandon: CancellationToken,
}

impl Signals {
    fn listen() -> Result<Self> {
        let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (stopping, abandoning) = (stop.clone(), abandon.clone());
        tokio::spawn(async move {
            for token in [stopping, abandoning] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
                say("waiting for what is under way; once more ends at once");
            }
        });
        Ok(Self { stop, abandon })
    }
}

/// Write, and read it as well if that is asked for: how, and how many times.
pub async fn write(
    command: &'static str,
    common: &CommonArguments,
    load: &LoadArguments,
    reading: Option<(&FetchArguments, u16)>,
) -> Result<Report> {
    let load_report = LoadReport::of(load)?;
    if reading.is_some() && load.acks == 0 {
        bail!("{command} needs --acks all or 1: otherwise nobody knows what there is to be read");
    }
    Brokers::begin(&common.broker_pids)?; // the wrong ones are noticed before anything is done
    let (clock, run) = (Clock::start(), random());
    let mut client = common.cluster.clone().client();
    let partitions = prepare(&mut client, common, load).await?;
    let signals = Signals::listen()?;
    let (acks, received) = (Arc::new(Mutex::new(Recorder::new())), Arc::new(Mutex::new(Recorder::new())));
    let producers = connect(&mut client, common, load, partitions, clock, run, &acks).await?;

    let starts = match reading {
        Some(_) => offsets(&mut client, &common.topic, partitions, LATEST).await?,
        None => BTreeMap::new(),
    };
    let start = clock.now();
    let measured_from = start + nanos(load.warm_up);
    acks.lock().begin(measured_from);
    received.lock().begin(measured_from);
    let (tell_ends, ends) = watch::channel(None);
    let stop_reading = CancellationToken::new();
    let mut readers = JoinSet::new();
    for _ in 0..reading.map_or(0, |(_, consumers)| consumers) {
        let (fetch, _) = reading.context("there is a way to read")?;
        let consumer = Consumer {
            settings: ConsumerSettings {
                record_bytes: Some(load.record_bytes + load.key_bytes),
                ..consumer_settings(common, fetch, Depth::Stamps(run))
            },
            clock,
            recorder: received.clone(),
            ends: ends.clone(),
            stop: stop_reading.clone(),
        };
        let (lookup, starts) = (Lookup::new(&common.topic, &common.cluster.bootstrap), starts.clone());
        readers.spawn(async move { consumer.run(lookup, &starts).await });
    }
    let (records, duration) = load.measured();
    let goal = match (records, duration) {
        (Some(records), _) => Goal::Records(records),
        (None, Some(duration)) => Goal::Time(duration),
        (None, None) => Goal::Open,
    };
    let monitor = Monitor {
        clock,
        measured_from,
        shown: acks.clone(),
        other: reading.map(|_| received.clone()),
        goal,
        broker_pids: common.broker_pids.clone(),
        quiet: common.quiet,
    };
    let done = CancellationToken::new();
    let monitoring = tokio::spawn(monitor.run(done.clone()));

    let until = duration.map(|duration| measured_from + nanos(duration));
    let mut produced = produce(producers, load, clock, start, measured_from, records, until, &signals).await?;
    // Whatever was acknowledged is there to be read, up to here.
    let ends = starts
        .iter()
        .map(|(partition, start)| (*partition, produced.ends.get(partition).copied().unwrap_or_default().max(*start)));
    tell_ends.send_replace(Some(Arc::new(ends.collect())));
    let consumed = gather(&mut readers, common.patience, &stop_reading, &signals).await?;
    done.cancel();
    let cost = monitoring.await??;

    let acks = acks.lock();
    let received = received.lock();
    let interrupted = signals.stop.is_cancelled();
    let consumed_report = reading.map(|(_, consumers)| {
        let consumers = u64::from(consumers);
        // What readers were kept from reading is not missing.
        let expected = (!signals.abandon.is_cancelled()).then_some(produced.acknowledged * consumers);
        ConsumedReport::of(&consumed.tally, consumed.errors, consumers, expected, &received)
    });
    let bytes = acks.bytes + received.bytes;
    Ok(Report {
        command,
        topic: common.topic.clone(),
        partitions,
        connections: common.connections,
        began: clock.unix_ms(measured_from),
        load: Some(load_report),
        produced: Some(ProducedReport::of(&produced, &acks)),
        consumed: consumed_report,
        client: ClientReport::of(&cost, bytes),
        brokers: cost.brokers,
        interrupted,
        failure: produced.failure.take().or(consumed.failure),
    })
}

/// Read a topic.
pub async fn read(common: &CommonArguments, fetch: &FetchArguments, reading: &Reading) -> Result<Report> {
    if reading.tail && reading.records.is_none() && reading.duration.is_none() {
        bail!("--tail needs --records or --duration: there is no end otherwise");
    }
    Brokers::begin(&common.broker_pids)?;
    let clock = Clock::start();
    let mut client = common.cluster.clone().client();
    let topic = client.patiently(async |client| client.topic_with_leaders(&common.topic).await).await?;
    let partitions = topic.partitions.len();
    let latest = offsets(&mut client, &common.topic, partitions, LATEST).await?;
    let starts =
        if reading.tail { latest.clone() } else { offsets(&mut client, &common.topic, partitions, EARLIEST).await? };
    let signals = Signals::listen()?;
    let recorder = Arc::new(Mutex::new(Recorder::new()));
    let depth = if reading.verify { Depth::Records } else { Depth::Headers };
    let there = latest.values().sum::<i64>() - starts.values().sum::<i64>();
    let (_keep, ends): (_, watch::Receiver<Ends>) = watch::channel((!reading.tail).then(|| Arc::new(latest)));
    let measured_from = clock.now();
    recorder.lock().begin(measured_from);
    // Who has read what was asked for was not interrupted.
    let enough = signals.stop.child_token();
    let consumer = Consumer {
        settings: ConsumerSettings {
            record_bytes: reading.record_bytes,
            records_max: reading.records,
            ..consumer_settings(common, fetch, depth)
        },
        clock,
        recorder: recorder.clone(),
        ends,
        stop: enough.clone(),
    };
    let goal = match (reading.records, reading.duration) {
        (Some(records), _) => Goal::Records(records),
        (None, Some(duration)) => Goal::Time(duration),
        (None, None) => Goal::Records(u64::try_from(there).unwrap_or(0)),
    };
    let monitor = Monitor {
        clock,
        measured_from,
        shown: recorder.clone(),
        other: None,
        goal,
        broker_pids: common.broker_pids.clone(),
        quiet: common.quiet,
    };
    let done = CancellationToken::new();
    let monitoring = tokio::spawn(monitor.run(done.clone()));
    let lookup = Lookup::new(&common.topic, &common.cluster.bootstrap);
    let time_over = async {
        match reading.duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let mut reading_all = std::pin::pin!(consumer.run(lookup, &starts));
    let consumed = tokio::select! {
        consumed = &mut reading_all => consumed,
        () = time_over => {
            enough.cancel();
            reading_all.await
        }
    };
    done.cancel();
    let cost = monitoring.await??;
    let recorder = recorder.lock();
    Ok(Report {
        command: "consume",
        topic: common.topic.clone(),
        partitions,
        connections: common.connections,
        began: clock.unix_ms(measured_from),
        load: None,
        produced: None,
        consumed: Some(ConsumedReport::of(&consumed.tally, consumed.errors, 1, None, &recorder)),
        client: ClientReport::of(&cost, recorder.bytes),
        brokers: cost.brokers,
        interrupted: signals.stop.is_cancelled(),
        failure: consumed.failure,
    })
}

/// The topic is there, with as many partitions as were asked for: how many.
async fn prepare(client: &mut KafkaClient, common: &CommonArguments, load: &LoadArguments) -> Result<usize> {
    let name = &common.topic;
    let wanted = CreatableTopic {
        name: SmolStr::new(name),
        num_partitions: load.partitions.unwrap_or(PARTITIONS_DEFAULT),
        replication_factor: load.replication_factor,
        configs: load.configs.iter().map(|c| topic::config(c)).collect::<Result<_>>()?,
        ..Default::default()
    };
    topic::create(client, wanted, true).await.with_context(|| format!("topic {name}"))?;
    let partitions = client.patiently(async |client| client.created_topic(name).await).await?.partitions.len();
    if let Some(asked) = load.partitions
        && usize::try_from(asked)? != partitions
    {
        bail!("topic {name} has {partitions} partitions, not {asked}: name another one (--topic), or delete it");
    }
    Ok(partitions)
}

/// Producers, connected and ready to begin.
async fn connect(
    client: &mut KafkaClient,
    common: &CommonArguments,
    load: &LoadArguments,
    partitions: usize,
    clock: Clock,
    run: u64,
    acks: &Arc<Mutex<Recorder>>,
) -> Result<Vec<Producer>> {
    let idempotent = load.is_idempotent()?;
    let shape = load.shape()?;
    let settings = ProducerSettings {
        topic: SmolStr::new(&common.topic),
        partitions,
        acks: load.acks,
        connections: usize::from(common.connections),
        requests_in_flight: usize::from(load.requests_in_flight),
        request_bytes: usize::try_from(load.request_bytes)?,
        linger: nanos(load.linger),
        in_flight_records: load.in_flight_records(),
        record_bytes: shape.user_bytes(),
        request_timeout: common.request_timeout,
        patience: common.patience,
    };
    let mut producers = Vec::new();
    for number in 0..load.producers {
        let id = if idempotent { Some((client.patiently(producer_id).await?, 0)) } else { None };
        let mold = Mold::new(shape.clone(), ProducerIdentity { id, number, run })?;
        let lookup = Lookup::new(&common.topic, &common.cluster.bootstrap);
        let producer = Producer::connect(settings.clone(), clock, mold, acks.clone(), lookup, usize::from(number));
        producers.push(producer.await?);
    }
    Ok(producers)
}

/// All producers together, to their end.
#[expect(clippy::too_many_arguments, reason = "one place, and all of it the plan of a run")]
async fn produce(
    producers: Vec<Producer>,
    load: &LoadArguments,
    clock: Clock,
    start: Nanos,
    measured_from: Nanos,
    records: Option<u64>,
    until: Option<Nanos>,
    signals: &Signals,
) -> Result<Produced> {
    let count = producers.len() as u64;
    let (mut writing, mut pacers) = (JoinSet::new(), Vec::new());
    for (number, producer) in (0..).zip(producers) {
        let schedule = load.rate.map(|rate| {
            // One after the other, so that all together are even.
            let first = start + (1e9 * number as f64 / rate) as Nanos;
            Schedule::new(first, rate / count as f64)
        });
        let records = records.map(|records| records / count + u64::from(number < records % count));
        let due = Arc::new(Notify::new());
        if let Some(schedule) = schedule {
            pacers.push(Pacer::start(clock, schedule, due.clone())?);
        }
        let plan = Plan { schedule, measured_from, records, until };
        writing.spawn(producer.run(plan, due, signals.stop.clone(), signals.abandon.clone()));
    }
    let mut all = Produced::default();
    while let Some(ended) = writing.join_next().await {
        all.merge(ended??);
    }
    Ok(all)
}

/// What all readers have read. They know where to end; those that do not get there in time are stopped.
async fn gather(
    readers: &mut JoinSet<Consumed>,
    patience: Duration,
    stop: &CancellationToken,
    signals: &Signals,
) -> Result<Consumed> {
    let mut all = Consumed::default();
    while !readers.is_empty() {
        let ended = tokio::select! {
            ended = timeout(patience, readers.join_next()) => ended,
            () = signals.abandon.cancelled(), if !stop.is_cancelled() => {
                stop.cancel();
                continue;
            }
        };
        match ended {
            Ok(Some(consumed)) => all.merge(consumed?),
            Ok(None) => break,
            Err(_) if stop.is_cancelled() => break,
            Err(_) => {
                all.failure =
                    Some(format!("not everything could be read within {} s (--patience)", patience.as_secs()));
                stop.cancel();
            }
        }
    }
    Ok(all)
}

/// The earliest or the latest offset of every partition.
async fn offsets(client: &mut KafkaClient, topic: &str, partitions: usize, at: i64) -> Result<BTreeMap<i32, i64>> {
    let all = client.patiently(async |client| {
        let mut offsets = BTreeMap::new();
        let leaders = client.leaders(topic).await?;
        if leaders.len() < partitions {
            bail!("topic {topic}: {} of {partitions} partitions have a leader", leaders.len());
        }
        for (partition, leader) in leaders {
            offsets.insert(partition, list_offset(client, topic, leader, partition, at).await?);
        }
        Ok(offsets)
    });
    all.await
}

fn consumer_settings(common: &CommonArguments, fetch: &FetchArguments, depth: Depth) -> ConsumerSettings {
    let field = |bytes: u64| i32::try_from(bytes).unwrap_or(i32::MAX);
    ConsumerSettings {
        topic: SmolStr::new(&common.topic),
        connections: usize::from(common.connections),
        fetch_bytes: field(fetch.fetch_bytes),
        partition_bytes: field(fetch.partition_bytes),
        min_bytes: field(fetch.min_bytes),
        max_wait: fetch.max_wait,
        depth,
        record_bytes: None,
        records_max: None,
        request_timeout: common.request_timeout,
        patience: common.patience,
    }
}
