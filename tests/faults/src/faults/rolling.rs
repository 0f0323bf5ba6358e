//! A rolling restart: SIGTERM to each node in turn, the next one when all is well again. Seen by: each process left with
//! code 0.

use super::{Active, Kind, Need, World};
use crate::cluster::Cluster;
use anyhow::Result;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// What an operator's script would wait for at most.
const PATIENCE: Duration = Duration::from_secs(60);

struct Restarted {
    left: Vec<String>,
    clean: bool,
}

/// The restart.
pub fn kinds() -> Vec<Kind> {
    vec![Kind {
        name: "rolling-restart",
        group: "rolling",
        about: "SIGTERM to each node in turn, started again, the next one when all is well",
        need: Need::Nothing,
        inject: Box::new(|world, _| {
            let (mut left, mut clean) = (Vec::new(), true);
            for id in world.nodes.ids() {
                if world.held.contains(&id) {
                    continue;
                }
                world.nodes.mark(id, "SIGTERM");
                let began = Instant::now();
                world.nodes.signal(id, Signal::TERM)?;
                world.held.insert(id);
                let status = world.nodes.wait(id)?;
                left.push(format!("node {id} left after {} ms ({status})", began.elapsed().as_millis()));
                clean &= status.success();
                world.nodes.start(&world.lab, id)?;
                world.held.remove(&id);
                wait_until_well(world)?;
            }
            Ok(Box::new(Restarted { left, clean }))
        }),
    }]
}

/// An operator would go on at some time, too.
fn wait_until_well(world: &mut World) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && !world.nodes.trouble().is_empty() {
        world.stop.sleep(Duration::from_millis(50))?;
    }
    Ok(())
}

impl Active for Restarted {
    fn detail(&self) -> String {
        "each node in turn".to_owned()
    }

    fn effect(&mut self, _: &mut World) -> Result<Option<String>> {
        Ok((self.clean && !self.left.is_empty()).then(|| self.left.join(", ")))
    }

    fn heal(self: Box<Self>, _: &mut World) -> Result<()> {
        Ok(())
    }
}
