//! A disk that cannot sync: every fsync of a node fails with EIO and syncs nothing, then all is well again. A library that is
//! loaded into every node does it (`clients/sync.c`); with device-mapper a device could, but not every kernel has that. Seen
//! by: the library counts how often it has. Nobody restarts the node.

use super::{Active, Kind, Need, Target, World, shim};
use anyhow::Result;
use std::path::PathBuf;

struct Failing {
    file: PathBuf,
    before: u64,
    detail: String,
}

/// The leader's, the controller's.
pub fn kinds() -> Vec<Kind> {
    let of = |name, about, target| Kind {
        name,
        group: "fsync-error",
        about,
        need: Need::Syncs,
        inject: Box::new(move |world: &mut World, _: &str| {
            let node = world.target(target)?;
            let (file, detail) = (world.syncs.file(node)?, world.role(node));
            let before = shim::count(&file)?;
            world.nodes.mark(node, name);
            shim::command(&file, 1)?;
            Ok(Box::new(Failing { file, before, detail }) as Box<dyn Active>)
        }),
    };
    vec![
        of("fsync-error-leader", "every fsync of a leader fails", Target::Leader),
        of("fsync-error-controller", "every fsync of the active controller fails", Target::Controller),
    ]
}

impl Active for Failing {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn effect(&mut self, _: &mut World) -> Result<Option<String>> {
        let count = shim::count(&self.file)? - self.before;
        Ok((count > 0).then(|| format!("{count} syncs failed")))
    }

    fn heal(self: Box<Self>, _: &mut World) -> Result<()> {
        shim::command(&self.file, 0)
    }
}
