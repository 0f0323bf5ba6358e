//! Network namespaces: one per node, two for clients, one for this process, each with one cable to a bridge in a
//! namespace of its own.
//!
//! In: who is to be cut off from whom. Out: programs started in a namespace, and how many packets a cut has dropped. The
//! machine's own network is not touched: namespaces bring their own addresses, ports and rules. Names begin with
//! `rkf-PID-`; a lab whose process is gone is swept away by the next one.

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Somebody at the end of a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// A node by its id.
    Node(i32),
    /// One of the two rooms of clients, 1 and 2.
    Clients(u8),
    /// This process: it starts, watches and probes.
    Observer,
}

impl Port {
    /// Everyone in a lab of this many nodes.
    pub fn all(nodes: i32) -> Vec<Port> {
        (1..=nodes).map(Port::Node).chain([Port::Clients(1), Port::Clients(2), Port::Observer]).collect()
    }

    /// The address at the end of the cable.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.host())
    }

    fn host(self) -> u8 {
        match self {
            Port::Node(id) => u8::try_from(id).unwrap_or(u8::MAX),
            Port::Clients(room) => 100 + room,
            Port::Observer => 200,
        }
    }

    /// The pieces by which a pump lengthens the cable: the end at the pump, the end at the bridge.
    pub fn extension(self) -> (String, String) {
        (format!("{}i", self.interface()), format!("{}o", self.interface()))
    }

    /// The name of the cable's end at the bridge.
    pub fn interface(self) -> String {
        match self {
            Port::Node(id) => format!("n{id}"),
            Port::Clients(room) => format!("c{room}"),
            Port::Observer => "o".to_owned(),
        }
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Port::Node(id) => write!(f, "node {id}"),
            Port::Clients(room) => write!(f, "clients {room}"),
            Port::Observer => write!(f, "observer"),
        }
    }
}

/// Packets that do not arrive.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Who sends.
    pub from: Vec<Port>,
    /// To whom.
    pub to: Vec<Port>,
    /// Of a hundred; 100 is a cut.
    pub percent: u8,
}

/// The namespaces of one test; gone when dropped.
pub struct Lab {
    prefix: String,
    ports: Vec<Port>,
}

impl Lab {
    /// Make the namespaces and the cables, and move this thread into the observer's: threads that it starts follow.
    pub fn create(nodes: i32) -> Result<Lab> {
        if !rustix::process::geteuid().is_root() {
            bail!("needs root, for network namespaces: run it as root, or with sudo");
        }
        for (tool, package) in [("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux")] {
            if Command::new(tool).arg("-V").output().is_err() {
                bail!("needs the command {tool}: install the package {package} (scripts/setup clients faults)");
            }
        }
        sweep()?;
        let lab = Lab { prefix: format!("rkf-{}", std::process::id()), ports: Port::all(nodes) };
        let bridge = lab.bridge();
        ip(&["netns", "add", &bridge])?;
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &bridge, "link", "set", "br0", "up"])?;
        for port in &lab.ports {
            let (namespace, cable) = (lab.namespace(*port), port.interface());
            ip(&["netns", "add", &namespace])?;
            ip(&["-n", &bridge, "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
            ip(&["-n", &bridge, "link", "set", &cable, "master", "br0", "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", &namespace, "address", "add", &format!("{}/24", port.address()), "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        }
        let own = format!("/run/netns/{}", lab.namespace(Port::Observer));
        let own = File::open(&own).with_context(|| format!("cannot open {own}"))?;
        move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network)).context("cannot enter a namespace")?;
        Ok(lab)
    }

    /// The namespace of the bridge, where every packet passes.
    pub fn bridge(&self) -> String {
        format!("{}-bridge", self.prefix)
    }

    fn namespace(&self, port: Port) -> String {
        format!("{}-{}", self.prefix, port.interface())
    }

    /// A command that will run at the end of that cable.
    pub fn command(&self, port: Port, program: impl AsRef<std::ffi::OsStr>) -> Command {
        within(&self.namespace(port), program)
    }

    /// A command that will run where the bridge is.
    pub fn command_at_bridge(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        within(&self.bridge(), program)
    }

    /// Drop these packets until [`Lab::restore`].
    pub fn cut(&self, name: &str, drops: &[Loss]) -> Result<()> {
        let mut rules = String::new();
        for drop in drops {
            let set = |ports: &[Port]| {
                // Also where a pump has lengthened the cable.
                let ends = ports.iter().flat_map(|p| [p.interface(), p.extension().1]);
                let names: Vec<String> = ends.map(|name| format!("\"{name}\"")).collect();
                format!("{{ {} }}", names.join(", "))
            };
            let chance =
                if drop.percent < 100 { format!("numgen random mod 100 < {} ", drop.percent) } else { String::new() };
            rules.push_str(&format!("  iifname {} oifname {} {chance}counter drop\n", set(&drop.from), set(&drop.to)));
        }
        let script = format!(
            "table bridge {name} {{\n chain forward {{\n  type filter hook forward priority 0; policy accept;\n{rules} }}\n}}\n"
        );
        let mut nft = self.command_at_bridge("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        if let Some(mut input) = nft.stdin.take() {
            input.write_all(script.as_bytes())?;
        }
        if !nft.wait()?.success() {
            bail!("nft refused the rules of {name}:\n{script}");
        }
        Ok(())
    }

    /// How many packets the rules of that name have dropped so far.
    pub fn dropped(&self, name: &str) -> Result<u64> {
        let out = self.command_at_bridge("nft").args(["-j", "list", "table", "bridge", name]).output()?;
        let listed: serde_json::Value = serde_json::from_slice(&out.stdout).context("nft -j list")?;
        let rules = listed["nftables"].as_array().into_iter().flatten();
        let expressions = rules.flat_map(|r| r["rule"]["expr"].as_array().into_iter().flatten());
        Ok(expressions.filter_map(|e| e["counter"]["packets"].as_u64()).sum())
    }

    /// Let the packets through again.
    pub fn restore(&self, name: &str) -> Result<()> {
        let done = self.command_at_bridge("nft").args(["delete", "table", "bridge", name]).status()?;
        if !done.success() {
            bail!("nft did not delete the rules of {name}");
        }
        Ok(())
    }
}

/// Only the network is another: `ip netns exec` would give the program mounts of its own, too, and they would outlive ours.
fn within(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program);
    command
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.prefix) {
            eprintln!("faults: cannot remove the namespaces {}-*: {error:#}", self.prefix);
        }
    }
}

/// Remove labs whose process is gone.
fn sweep() -> Result<()> {
    let mut dead: Vec<String> = Vec::new();
    for name in namespaces()? {
        let mut parts = name.splitn(3, '-');
        if let (Some("rkf"), Some(pid), Some(_)) = (parts.next(), parts.next(), parts.next())
            && is_gone(pid)
        {
            dead.push(format!("rkf-{pid}"));
        }
    }
    dead.sort();
    dead.dedup();
    dead.iter().try_for_each(|prefix| remove(prefix))?;
    // What used them is ended.
    crate::disks::sweep()?;
    crate::faults::sweep_throttles()
}

/// Whether a process that things are named after is gone.
pub fn is_gone(pid: &str) -> bool {
    pid.bytes().all(|b| b.is_ascii_digit()) && !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn namespaces() -> Result<Vec<String>> {
    let out = Command::new("ip").args(["netns", "list"]).output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    Ok(text.lines().filter_map(|l| l.split_whitespace().next()).map(str::to_owned).collect())
}

/// End what runs in the namespaces, then delete them.
fn remove(prefix: &str) -> Result<()> {
    for name in namespaces()?.iter().filter(|n| n.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'))) {
        let pids = Command::new("ip").args(["netns", "pids", name]).output()?;
        for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
            if let Some(pid) = pid.parse().ok().filter(|p| *p != std::process::id().cast_signed())
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                // It may have ended by itself just now.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        ip(&["netns", "delete", name])?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let out = Command::new("ip").args(arguments).output().context("cannot run ip")?;
    if !out.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

/// Set once somebody asks the test to end.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// An error once the test has been asked to end.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Sleep, but not through an interruption.
    pub fn sleep(&self, time: std::time::Duration) -> Result<()> {
        let end = std::time::Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(std::time::Duration::from_millis(20)));
        }
    }
}

/// Do `work` on a thread of its own; SIGINT and SIGTERM ask it to end, and it still cleans up.
pub fn attended(work: impl FnOnce(Stop) -> Result<ExitCode> + Send + 'static) -> Result<ExitCode> {
    let stop = Stop::default();
    let asked = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let mut work = tokio::task::spawn_blocking(move || work(stop));
        loop {
            tokio::select! {
                done = &mut work => return done?,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            eprintln!("faults: interrupted, cleaning up");
            asked.0.store(true, Ordering::Relaxed);
        }
    })
}
