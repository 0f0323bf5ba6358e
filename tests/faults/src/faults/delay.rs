//! Packets come late, also in another order. The node's cable is taken from the bridge and a pump (`clients/pump.py`)
//! carries its frames, each some time later: kernels without netem have this, too. Seen by: the pump has carried frames, none
//! of them quicker than it should.

use super::{Active, Kind, Need, Target, World};
use crate::lab::Port;
use anyhow::{Context, Result, bail};
use rand::RngExt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

struct Late {
    node: i32,
    pump: Child,
    least: u64,
    file: PathBuf,
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
            let late = Late::begin(world, node, least, most, reorder, format!("{least} to {most} ms at {role}"))?;
            Ok(Box::new(late) as Box<dyn Active>)
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

impl Late {
    fn begin(world: &World, node: i32, least: u64, most: u64, reorder: bool, detail: String) -> Result<Late> {
        let (cable, inner, outer) = names(node);
        at_bridge(world, &["link", "add", &inner, "type", "veth", "peer", "name", &outer])?;
        at_bridge(world, &["link", "set", &inner, "up"])?;
        let file = world.scratch.join(format!("pump-{cable}"));
        // What an earlier pump said is not this one's.
        if file.exists() {
            fs::remove_file(&file)?;
        }
        let mut command = world.lab.command_at_bridge("python3");
        command.arg(world.programs.join("pump.py")).args([&cable, &inner]);
        command.args([least.to_string(), most.to_string()]).arg(&file);
        if reorder {
            command.arg("reorder");
        }
        let mut pump = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start the pump")?;
        let mut said = String::new();
        BufReader::new(pump.stdout.take().context("the pump has an output")?).read_line(&mut said)?;
        if said.trim() != "ready" {
            bail!("the pump did not start");
        }
        at_bridge(world, &["link", "set", &cable, "nomaster"])?;
        at_bridge(world, &["link", "set", &outer, "master", "br0", "up"])?;
        Ok(Late { node, pump, least, file, detail })
    }
}

/// The node's cable, and the two ends of the piece behind the pump.
fn names(node: i32) -> (String, String, String) {
    let (inner, outer) = Port::Node(node).extension();
    (Port::Node(node).interface(), inner, outer)
}

fn at_bridge(world: &World, arguments: &[&str]) -> Result<()> {
    let done = world.lab.command_at_bridge("ip").args(arguments).output()?;
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
        if self.pump.try_wait()?.is_some() {
            return Ok(None);
        }
        // A node that somebody else has cut off or killed may have had no frame yet.
        let Ok(said) = fs::read_to_string(&self.file) else { return Ok(None) };
        let (carried, quickest) = said.split_once(' ').context("the pump's file")?;
        let quickest: f64 = quickest.trim().parse().context("the pump's file")?;
        Ok((quickest >= self.least as f64)
            .then(|| format!("{carried} frames carried, the quickest took {quickest} ms")))
    }

    fn heal(mut self: Box<Self>, world: &mut World) -> Result<()> {
        let (cable, inner, _) = names(self.node);
        at_bridge(world, &["link", "set", &cable, "master", "br0"])?;
        self.pump.kill()?;
        self.pump.wait()?;
        at_bridge(world, &["link", "delete", &inner])
    }
}
