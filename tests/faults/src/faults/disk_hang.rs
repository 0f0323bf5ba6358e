//! A disk that hangs: no error, no progress. The node's file system is frozen. Seen by: threads of the node wait in the
//! kernel and cannot be interrupted. Nobody restarts the node.

use super::{Active, Kind, Need, Target, World};
use anyhow::Result;
use std::fs;

struct Hung {
    node: i32,
    detail: String,
}

/// The leader's, the controller's.
pub fn kinds() -> Vec<Kind> {
    let of = |name, about, target| Kind {
        name,
        group: "disk-hang",
        about,
        need: Need::Disks,
        inject: Box::new(move |world: &mut World, _: &str| {
            let node = world.target(target)?;
            let detail = world.role(node);
            world.nodes.mark(node, name);
            world.disks.of(node)?.freeze()?;
            world.held.insert(node);
            Ok(Box::new(Hung { node, detail }) as Box<dyn Active>)
        }),
    };
    vec![
        of("disk-hang-leader", "every write and sync of a leader hangs (frozen file system)", Target::Leader),
        of("disk-hang-controller", "every write and sync of the active controller hangs", Target::Controller),
    ]
}

impl Active for Hung {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn effect(&mut self, world: &mut World) -> Result<Option<String>> {
        let pid = world.nodes.pid(self.node)?.as_raw_nonzero();
        let mut waiting = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // One that ends meanwhile does not wait.
            let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
            waiting += usize::from(crate::nodes::state(&stat) == Some('D'));
        }
        Ok((waiting > 0).then(|| format!("{waiting} threads wait for the disk")))
    }

    fn heal(self: Box<Self>, world: &mut World) -> Result<()> {
        world.nodes.mark(self.node, "thawed");
        world.held.remove(&self.node);
        world.disks.of(self.node)?.thaw()
    }
}
