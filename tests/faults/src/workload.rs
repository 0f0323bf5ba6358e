//! Real clients as processes. Each writes its own file of the run's history and ends when its standard input does.
//!
//! Producers are idempotent with acks=all and send unique values to every partition at a steady rate; consumers follow all
//! partitions by themselves and note every record; members of a group handle, then commit; one client creates topics. All
//! else is the library's default.

use crate::history;
use crate::lab::{Lab, Port, Stop};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Which client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Library {
    /// librdkafka, through confluent-kafka.
    Librdkafka,
    /// Kafka's own Java client.
    Java,
}

impl Library {
    /// Its name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Library::Librdkafka => "librdkafka",
            Library::Java => "java",
        }
    }

    /// Which clients' room it lives in.
    fn room(self) -> Port {
        match self {
            Library::Librdkafka => Port::Clients(1),
            Library::Java => Port::Clients(2),
        }
    }
}

/// Where the libraries are, made by `tests/clients/setup`.
#[derive(Debug, Clone, clap::Args)]
pub struct Runtimes {
    /// Folder of `tests/clients/setup confluent`
    #[arg(long, env = "FAULTS_LIBRDKAFKA")]
    librdkafka: Option<PathBuf>,
    /// Folder of `tests/clients/setup java`
    #[arg(long, env = "FAULTS_JAVA")]
    java: Option<PathBuf>,
    /// Folder of the clients' programs
    #[arg(long, default_value = "tests/faults/clients")]
    pub programs: PathBuf,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends.
    Producer,
    /// Reads everything by itself.
    Consumer,
    /// The same, and notes each record as it comes: for its latency. librdkafka only.
    Tail,
    /// Reads as a member of a group.
    Member,
    /// Creates topics.
    Topics,
}

impl Role {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Role::Producer => "producer",
            Role::Consumer => "consumer",
            Role::Tail => "tail",
            Role::Member => "member",
            Role::Topics => "topics",
        }
    }
}

/// A client to be started.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name: that of its files.
    pub name: String,
    /// On which library.
    pub library: Library,
    /// What it does.
    pub role: Role,
    /// Whose values it sends.
    pub writer: i64,
    /// How many a second.
    pub rate: f64,
    /// Its group.
    pub group: String,
}

/// The topic and where it is.
#[derive(Debug, Clone)]
pub struct Goal {
    /// `HOST:PORT,…`
    pub bootstrap: String,
    /// Its name.
    pub topic: String,
    /// How many.
    pub partitions: i32,
}

/// A client that runs.
pub struct Client {
    /// As it was planned.
    pub plan: Plan,
    process: Child,
    /// Where its files are.
    run: PathBuf,
}

impl Plan {
    /// Start it.
    pub fn start(&self, lab: &Lab, runtimes: &Runtimes, run: &Path, goal: &Goal) -> Result<Client> {
        let mut command = match self.library {
            Library::Librdkafka => {
                let folder = runtimes.librdkafka.as_ref().context("no librdkafka: tests/faults/run sets it up")?;
                let mut command = lab.command(self.library.room(), folder.join("venv/bin/python"));
                command.arg(runtimes.programs.join("librdkafka.py"));
                command
            }
            Library::Java => {
                let folder = runtimes.java.as_ref().context("no Java client: tests/faults/run sets it up")?;
                let libraries = folder.join("libs");
                let classes = java_classes(runtimes, &libraries, run)?;
                let mut command = lab.command(self.library.room(), "java");
                command.args(["-Xmx256M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
                command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp"]);
                command.arg(format!("{}:{}/*", classes.display(), libraries.display())).arg("Workload");
                command
            }
        };
        let out = history::path(run, &self.name);
        std::fs::create_dir_all(out.parent().context("a run has a directory")?)?;
        let errors = File::create(run.join(format!("{}.err", self.name)))?;
        command.arg(self.role.name());
        command.args(["--name", &self.name, "--bootstrap", &goal.bootstrap, "--topic", &goal.topic]);
        command.args(["--partitions", &goal.partitions.to_string(), "--writer", &self.writer.to_string()]);
        command.args(["--rate", &self.rate.to_string(), "--group", &self.group, "--out"]).arg(&out);
        command.stdin(Stdio::piped()).stdout(errors.try_clone()?).stderr(errors).process_group(0);
        let process = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        Ok(Client { plan: self.clone(), process, run: run.to_owned() })
    }
}

/// The Java program, compiled once per run.
fn java_classes(runtimes: &Runtimes, libraries: &Path, run: &Path) -> Result<PathBuf> {
    let classes = run.join("classes");
    if !classes.exists() {
        let source = runtimes.programs.join("Workload.java");
        let compiled = Command::new("javac")
            .args(["-encoding", "UTF-8", "-d"])
            .arg(&classes)
            .args(["-cp", &format!("{}/*", libraries.display())])
            .arg(source)
            .output()
            .context("cannot run javac")?;
        if !compiled.status.success() {
            bail!("javac: {}", String::from_utf8_lossy(&compiled.stderr));
        }
    }
    Ok(classes)
}

impl Client {
    /// Ask it to end: what it has begun it still finishes.
    pub fn ask_to_end(&mut self) {
        drop(self.process.stdin.take());
    }

    /// How it ended by itself, if it did: no client should.
    pub fn deserted(&mut self) -> Option<String> {
        let status = self.process.try_wait().ok().flatten()?;
        Some(format!("{0} ended by itself: {status}: see {0}.err", self.plan.name))
    }

    /// Wait until it has ended.
    pub fn wait(mut self, patience: Duration, stop: &Stop) -> Result<()> {
        self.ask_to_end();
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.process.try_wait()? {
                if !status.success() {
                    bail!("{} ended with {status}: see {}.err", self.plan.name, self.plan.name);
                }
                return Ok(());
            }
            if Instant::now() > end {
                let stacks = self.keep_stacks();
                bail!("{} has not ended after {} s: {stacks}", self.plan.name, patience.as_secs());
            }
            stop.sleep(Duration::from_millis(20))?;
        }
    }

    /// Writes down where its threads are: a library that is deadlocked tells nothing else of itself. Says where that is.
    fn keep_stacks(&self) -> String {
        let path = self.run.join(format!("{}.stacks", self.plan.name));
        let pid = self.process.id().to_string();
        let written = File::create(&path).and_then(|file| {
            let mut gdb = Command::new("gdb");
            gdb.args(["-batch", "-ex", "thread apply all backtrace", "-p", &pid]);
            gdb.stdin(Stdio::null()).stdout(file).stderr(Stdio::null()).status()
        });
        match written {
            Ok(status) if status.success() => format!("its threads are in {}", path.display()),
            Ok(status) => format!("gdb ended with {status}"),
            Err(error) => format!("no gdb to look at its threads: {error}"),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Only one that was not waited for still runs.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
