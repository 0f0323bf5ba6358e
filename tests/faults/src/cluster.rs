//! A cluster of nodes in the lab, whichever broker they run: what a measurement needs of it to break it and to know when
//! it is well again. Rookery's is [`nodes`](crate::nodes), Apache Kafka's [`kafka`](crate::kafka).

use crate::history::Clock;
use crate::lab::{Lab, Port, Stop};
use crate::processes::Processes;
use anyhow::{Result, bail};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::ops::DerefMut;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where clients connect.
pub const KAFKA_PORT: u16 = 9092;

/// Where a node's clients connect.
pub fn address(id: i32) -> SocketAddr {
    (Port::Node(id).address(), KAFKA_PORT).into()
}

/// A cluster: its processes, and what it says of itself. Node ids count from 1.
pub trait Cluster: DerefMut<Target = Processes> {
    /// The broker's name in tables.
    fn name(&self) -> &'static str;
    /// What the program says of itself.
    fn version(&self) -> String;
    /// The longest time that anything may take.
    fn patience(&self) -> Duration;
    /// Start a node.
    fn start(&mut self, lab: &Lab, id: i32) -> Result<()>;
    /// An error, and why, while a node does not serve clients.
    fn ready(&self, id: i32) -> Result<()>;
    /// The active controller.
    fn controller(&self) -> Result<i32>;
    /// Why the cluster is not as it should be; nothing if it is.
    fn trouble(&self) -> Vec<String>;
    /// Where the nodes keep their data.
    fn data(&self) -> Vec<PathBuf>;

    /// The nodes that clients speak to.
    fn brokers(&self) -> Vec<i32> {
        self.ids()
    }

    /// `HOST:PORT,…` for clients.
    fn bootstrap(&self) -> String {
        self.brokers().into_iter().map(|id| address(id).to_string()).collect::<Vec<_>>().join(",")
    }

    /// Wait until a node says that it is ready.
    fn wait_ready(&mut self, id: i32, patience: Duration, stop: &Stop) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            stop.check()?;
            let why = match self.ready(id) {
                Ok(()) => return Ok(()),
                Err(error) => format!("{error:#}"),
            };
            if let Some(status) = self.ended(id)? {
                bail!("node {id} ended ({status}): {}", self.last_line(id));
            }
            if Instant::now() > end {
                bail!("node {id} is not ready after {} s: {why}", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Wait until all is well; since when it is.
    fn await_well(&mut self, stop: &Stop) -> Result<crate::history::Time> {
        let (patience, end) = (self.patience(), Instant::now() + self.patience());
        loop {
            let trouble = self.trouble();
            if trouble.is_empty() {
                return Ok(Clock::now());
            }
            let gone = self.deserters();
            if Instant::now() > end || !gone.is_empty() {
                bail!("not well after {} s: {}", patience.as_secs(), [gone, trouble].concat().join("; "));
            }
            stop.sleep(Duration::from_millis(50))?;
        }
    }

    /// Start all nodes and wait until all is well.
    fn start_all(&mut self, lab: &Lab, stop: &Stop) -> Result<()> {
        for id in self.ids() {
            self.start(lab, id)?;
        }
        for id in self.ids() {
            self.wait_ready(id, self.patience(), stop)?;
        }
        self.await_well(stop).map(drop)
    }

    /// Ask all nodes to leave, and wait until they have.
    fn stop_all(&mut self) -> Result<()> {
        let running: Vec<i32> = self.ids().into_iter().filter(|id| self.runs(*id)).collect();
        for id in &running {
            self.signal(*id, Signal::TERM)?;
        }
        running.iter().try_for_each(|id| self.wait(*id).map(drop))
    }
}
