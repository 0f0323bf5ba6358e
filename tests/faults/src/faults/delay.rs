//! Packets come late, also in another order. The node's cable is taken from the bridge and a pump (`clients/pump.py`)
//! carries its frames, each some time later: kernels without netem have this, too. Seen by: the pump has carried frames, none
//! of them quicker than it should.

use super::{Active, Kind, Need, Target, World};
use crate::lab::{Lab, Port};
use anyhow::{Context, Result, bail};
use rand::RngExt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// How late packets come.
#[derive(Debug, Clone, Copy)]
pub struct Delay {
    /// Milliseconds, at least.
    pub least: u64,
    /// At most.
    pub most: u64,
    /// In which order.
    pub order: Order,
    /// Only packets that the node sends: what goes from node to node is late once then.
    pub one_way: bool,
}

/// In which order late packets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they were sent.
    Kept,
    /// As they were sent within each flow (addresses, protocol, ports), as on networks that keep a connection to one path.
    OfFlows,
    /// Any.
    Any,
}

/// A node's cable, lengthened by a pump.
pub struct Pump {
    node: i32,
    process: Child,
    least: u64,
    file: PathBuf,
}

struct Late {
    pump: Pump,
    detail: String,
}

/// Fixed, with jitter, out of order.
pub fn kinds() -> Vec<Kind> {
    let of = |name, about, target, most: std::ops::Range<u64>, even: bool, reorder: bool| Kind {
        name,
        group: "delay",
        about,
        need: Need::Pump,
        inject: Box::new(move |world: &mut World, _: &str| {
            let node = world.target(target)?;
            let role = world.role(node);
            let most = world.random.random_range(most.clone());
            // At least some milliseconds, so that it can be seen.
            let least = if even { most } else { 4 };
            world.nodes.mark(node, name);
            let order = if reorder { Order::Any } else { Order::Kept };
            let delay = Delay { least, most, order, one_way: false };
            let pump = Pump::begin(&world.lab, &world.programs, &world.scratch, node, delay)?;
            Ok(Box::new(Late { pump, detail: format!("{least} to {most} ms at {role}") }) as Box<dyn Active>)
        }),
    };
    vec![
        of("delay-leader", "packets from and to a leader come 20 to 200 ms late", Target::Leader, 20..200, true, false),
        of(
            "delay-controller",
            "packets from and to the active controller come 20 to 200 ms late",
            Target::Controller,
            20..200,
            true,
            false,
        ),
        of(
            "jitter-controller",
            "packets of the active controller come up to 100 ms late, in order",
            Target::Controller,
            50..101,
            false,
            false,
        ),
        of(
            "reorder-leader",
            "packets of a leader come up to 50 ms late, in any order",
            Target::Leader,
            10..51,
            false,
            true,
        ),
    ]
}

impl Pump {
    /// Take the node's cable from the bridge and put a pump between.
    pub fn begin(lab: &Lab, programs: &Path, scratch: &Path, node: i32, delay: Delay) -> Result<Pump> {
        let (cable, inner, outer) = names(node);
        at_bridge(lab, &["link", "add", &inner, "type", "veth", "peer", "name", &outer])?;
        at_bridge(lab, &["link", "set", &inner, "up"])?;
        let file = scratch.join(format!("pump-{cable}"));
        // What an earlier pump said is not this one's.
        if file.exists() {
            fs::remove_file(&file)?;
        }
        let mut command = lab.command_at_bridge("python3");
        command.arg(programs.join("pump.py")).args([&cable, &inner]);
        command.args([delay.least.to_string(), delay.most.to_string()]).arg(&file);
        command.args(match delay.order {
            Order::Kept => None,
            Order::OfFlows => Some("flows"),
            Order::Any => Some("reorder"),
        });
        if delay.one_way {
            command.arg("one-way");
        }
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = spawned.context("cannot start the pump")?;
        let mut said = String::new();
        BufReader::new(process.stdout.take().context("the pump has an output")?).read_line(&mut said)?;
        if said.trim() != "ready" {
            bail!("the pump did not start");
        }
        at_bridge(lab, &["link", "set", &cable, "nomaster"])?;
        at_bridge(lab, &["link", "set", &outer, "master", "br0", "up"])?;
        Ok(Pump { node, process, least: delay.least, file })
    }

    /// How it was seen to work; nothing if it was not.
    pub fn effect(&mut self) -> Result<Option<String>> {
        if self.process.try_wait()?.is_some() {
            return Ok(None);
        }
        // A node that somebody else has cut off or killed may have had no frame yet.
        let Ok(said) = fs::read_to_string(&self.file) else { return Ok(None) };
        let [carried, quickest, slowest] = said.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("the pump's file says {said:?}")
        };
        let at_least: f64 = quickest.parse().context("the pump's file")?;
        Ok((at_least >= self.least as f64)
            .then(|| format!("{carried} frames carried, the quickest took {quickest} ms, the slowest {slowest} ms")))
    }

    /// The cable is as it was.
    pub fn end(mut self, lab: &Lab) -> Result<()> {
        let (cable, inner, _) = names(self.node);
        at_bridge(lab, &["link", "set", &cable, "master", "br0"])?;
        self.process.kill()?;
        self.process.wait()?;
        at_bridge(lab, &["link", "delete", &inner])
    }
}

/// The node's cable, and the two ends of the piece behind the pump.
fn names(node: i32) -> (String, String, String) {
    let (inner, outer) = Port::Node(node).extension();
    (Port::Node(node).interface(), inner, outer)
}

fn at_bridge(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let done = lab.command_at_bridge("ip").args(arguments).output()?;
    if !done.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

impl Active for Late {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn effect(&mut self, _: &mut World) -> Result<Option<String>> {
        self.pump.effect()
    }

    fn heal(self: Box<Self>, world: &mut World) -> Result<()> {
        self.pump.end(&world.lab)
    }
}
