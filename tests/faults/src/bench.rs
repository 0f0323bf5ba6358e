//! What every measurement needs: the lab, topics whose leaders are placed by hand, clients, and a look for what was lost.

use crate::cluster::Cluster;
use crate::facts::Facts;
use crate::figures::{Figure, Figures, Goal, Unit};
use crate::history::{Clock, Header, History, Journal, Op, Time, load_lines, path};
use crate::lab::{Lab, Stop};
use crate::reader::Whole;
use crate::run::{Place, create_topic};
use crate::workload::{Client, Goal as Target, Library, Plan, Role};
use crate::{reader, report};
use anyhow::{Result, bail};
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A measurement under way.
pub struct Bench {
    /// Namespaces and cables.
    pub lab: Lab,
    /// Whether to go on.
    pub stop: Stop,
    /// What this process did.
    pub journal: Journal,
    /// What came out.
    pub figures: Figures,
    /// Where all is kept.
    pub dir: PathBuf,
    /// Where programs are.
    pub place: Place,
    /// Topics so far.
    topics: usize,
}

impl Bench {
    /// A lab with so many nodes, and a directory for a measurement of this name.
    pub fn create(nodes: i32, place: &Place, stop: Stop, name: &str, versions: &[String]) -> Result<Bench> {
        let lab = Lab::create(nodes)?;
        let dir = place.directory_for(name)?;
        let clients = vec![Library::Librdkafka.name().to_owned()];
        let kernel = crate::run::kernel();
        History::write_header(&dir, &Header { version: versions.join(", "), clients, kernel, ..Default::default() })?;
        let (journal, figures) = (Journal::create(&dir, name)?, Figures::open(&dir)?);
        report::say(&format!("{} in {}", versions.join(", "), dir.display()));
        Ok(Bench { lab, stop, journal, figures, dir, place: place.clone(), topics: 0 })
    }

    /// A new topic, on three brokers; each partition is led by the one named for it.
    pub fn topic(&mut self, cluster: &dyn Cluster, name: &str, leaders: &[i32]) -> Result<Target> {
        self.topics += 1;
        let topic = format!("{name}-{}", self.topics);
        let brokers = cluster.brokers();
        let replicas = |first: &i32| {
            let at = brokers.iter().position(|id| id == first).unwrap_or_default();
            (0..brokers.len().min(3)).map(|n| brokers[(at + n) % brokers.len()]).collect()
        };
        let replicas: Vec<Vec<i32>> = leaders.iter().map(replicas).collect();
        create_topic(&brokers, &topic, &replicas, cluster.patience(), &self.stop)?;
        Ok(Target { bootstrap: cluster.bootstrap(), topic, partitions: i32::try_from(leaders.len())? })
    }

    /// Start a client.
    pub fn client(&self, library: Library, role: Role, rate: f64, writer: i64, target: &Target) -> Result<Client> {
        let name = format!("{}-{}-{}", target.topic, library.name(), role.name());
        let group = format!("{}-{}", target.topic, library.name());
        Plan { name, library, role, writer, rate, group }.start(&self.lab, &self.place.runtimes, &self.dir, target)
    }

    /// Wait until a producer has had an acknowledgement of every partition, and for so much longer: a first one may take a
    /// cold broker seconds, and before it there is nothing that a fault could interrupt.
    pub fn await_acks(&self, producer: &mut Client, target: &Target, longer: Duration) -> Result<()> {
        let end = Instant::now() + CLIENT_PATIENCE;
        loop {
            let lines = load_lines(&path(&self.dir, &producer.plan.name)).unwrap_or_default();
            let acked: HashSet<i32> = lines.iter().filter_map(|l| ack_of(&l.op)).collect();
            if (0..target.partitions).all(|p| acked.contains(&p)) {
                return self.stop.sleep(longer);
            }
            if let Some(gone) = producer.deserted() {
                bail!("{gone}");
            }
            if Instant::now() > end {
                let (name, patience) = (&producer.plan.name, CLIENT_PATIENCE.as_secs());
                bail!("{name} had acknowledgements of {} partitions after {patience} s", acked.len());
            }
            self.stop.sleep(Duration::from_millis(100))?;
        }
    }

    /// What a client wrote, which has ended.
    pub fn lines_of(&self, client: &str) -> Result<History> {
        let lines = load_lines(&path(&self.dir, client))?;
        Ok(History { by: vec![(client.to_owned(), lines)], ..Default::default() })
    }

    /// A whole partition. Its leader may change meanwhile: leaderships go back to where they were meant to be.
    pub fn whole(&self, brokers: &[i32], target: &Target, p: i32) -> Result<Whole> {
        let end = Instant::now() + READ_MAX;
        loop {
            match reader::whole(brokers, &target.topic, p) {
                Err(_) if Instant::now() < end => self.stop.sleep(Duration::from_millis(200))?,
                read => return read,
            }
        }
    }

    /// How many acknowledged records are not there.
    pub fn lost(&self, cluster: &dyn Cluster, target: &Target, facts: &Facts<'_>) -> Result<usize> {
        let mut lost = 0;
        for p in 0..target.partitions {
            let whole = self.whole(&cluster.brokers(), target, p)?;
            let there: HashSet<i64> = whole.rows.iter().map(|(_, v)| *v).collect();
            let gone = facts.acks.iter().filter(|a| a.p == p && !there.contains(&a.v)).count();
            if gone > 0 {
                report::say(&format!("{}, partition {p}: {gone} acknowledged records are not there", target.topic));
                lost += gone;
            }
        }
        Ok(lost)
    }

    /// Note something, with the time.
    pub fn note(&self, text: String) -> Result<()> {
        self.journal.write_at(Clock::now(), Op::Trouble { error: text })
    }

    /// Keep a figure.
    pub fn keep(
        &mut self,
        of: &Case<'_>,
        figure: &str,
        unit: Unit,
        goal: Option<Goal>,
        values: Vec<f64>,
    ) -> Result<()> {
        let (case, broker, figure) = (of.case.to_owned(), of.broker.to_owned(), figure.to_owned());
        self.figures.add(&Figure { case, broker, figure, unit, n: of.n, goal, values })
    }

    /// Show the table; the nodes' data goes unless it is wanted, or a goal was missed.
    pub fn end(self, data: &[PathBuf]) -> Result<ExitCode> {
        let met = self.figures.show()?;
        let (dir, keep) = (self.dir.clone(), self.place.keep);
        // Whoever still runs ends with the lab.
        drop(self);
        if met && !keep {
            data.iter().filter(|data| data.exists()).try_for_each(std::fs::remove_dir_all)?;
        }
        report::say(&format!("the table again: make faults-table RUN={}", dir.display()));
        Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What clients told their users of since then: records that failed or may have, errors of readers. What a library mends by
/// itself is a notice, and does not count.
pub fn errors_since(history: &History, since: Time) -> Vec<&str> {
    history.lines().filter(|(_, line)| line.t >= since).filter_map(|(_, line)| error_of(&line.op)).collect()
}

fn error_of(op: &Op) -> Option<&str> {
    match op {
        Op::Fail { error, .. } | Op::Unknown { error, .. } | Op::Trouble { error } => Some(error),
        _ => None,
    }
}

fn ack_of(op: &Op) -> Option<i32> {
    match op {
        Op::Ack { p, .. } => Some(*p),
        _ => None,
    }
}

/// One repetition of something.
#[derive(Clone, Copy)]
pub struct Case<'c> {
    /// What is done.
    pub case: &'c str,
    /// To whom.
    pub broker: &'c str,
    /// Which one, from 1.
    pub n: usize,
}

/// Nanoseconds as milliseconds.
pub fn milliseconds(time: Time) -> f64 {
    time as f64 / 1e6
}

/// So long a partition may have no leader, or another than it was said, after everything is well.
const READ_MAX: Duration = Duration::from_secs(10);
/// What a producer has in hand may take as long as its own limit.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(150);
