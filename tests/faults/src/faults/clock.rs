//! The wall clock of one node is wrong: it jumps once, or to and fro. A library that is loaded into every node adds to the
//! time of day what stands in a file (`clients/clock.c`); the monotonic clock is right. Seen by: the library counts how
//! often it has given a wrong answer.

use super::{Active, Kind, Need, Target, World, shim};
use anyhow::Result;
use rand::RngExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const SECOND: i64 = 1_000_000_000;
/// From one jump to the next of a clock that jumps to and fro.
const STROBE: Duration = Duration::from_millis(150);

struct Wrong {
    file: PathBuf,
    before: u64,
    detail: String,
    strobe: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// One jump, and jumps to and fro.
pub fn kinds() -> Vec<Kind> {
    let of = |name, about, target, strobe| Kind {
        name,
        group: "clock",
        about,
        need: Need::Clocks,
        inject: Box::new(move |world: &mut World, _: &str| {
            let node = world.target(target)?;
            let size = SECOND * world.random.random_range(1..=if strobe { 60 } else { 100_000 });
            let by = if world.random.random() { size } else { -size };
            let (file, role) = (world.clocks.file(node)?, world.role(node));
            let before = shim::count(&file)?;
            world.nodes.mark(node, name);
            shim::command(&file, by)?;
            let strobe = strobe.then(|| strobing(file.clone(), by));
            Ok(Box::new(Wrong { file, before, detail: format!("{} s at {role}", by / SECOND), strobe })
                as Box<dyn Active>)
        }),
    };
    vec![
        of("clock-leader", "the wall clock of a leader jumps by up to a day", Target::Leader, false),
        of(
            "clock-controller",
            "the wall clock of the active controller jumps by up to a day",
            Target::Controller,
            false,
        ),
        of("clock-strobe", "the wall clock of the active controller jumps to and fro", Target::Controller, true),
    ]
}

fn strobing(file: PathBuf, by: i64) -> (Arc<AtomicBool>, JoinHandle<()>) {
    let end = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&end);
    let thread = std::thread::spawn(move || {
        let mut wrong = true;
        while !ended.load(Ordering::Relaxed) {
            std::thread::sleep(STROBE);
            wrong = !wrong;
            // A write that fails leaves the clock as it is; the count of wrong answers tells.
            let _ = shim::command(&file, if wrong { by } else { 0 });
        }
    });
    (end, thread)
}

impl Active for Wrong {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn effect(&mut self, _: &mut World) -> Result<Option<String>> {
        let count = shim::count(&self.file)? - self.before;
        Ok((count > 0).then(|| format!("the wall clock was read {count} times while it was wrong")))
    }

    fn heal(self: Box<Self>, _: &mut World) -> Result<()> {
        if let Some((end, thread)) = self.strobe {
            end.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
        shim::command(&self.file, 0)
    }
}
