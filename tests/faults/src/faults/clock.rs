//! The wall clock of one node is wrong: it jumps once, or to and fro. A library that is loaded into every node adds to the
//! time of day what stands in a file (`clients/clock.c`); the monotonic clock is right. Seen by: the library counts how
//! often it has given a wrong answer.

use super::{Active, Kind, Target, World};
use anyhow::{Context, Result, bail};
use rand::RngExt;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The family, which has to be known before nodes start.
pub const GROUP: &str = "clock";
const SECOND: i64 = 1_000_000_000;
/// From one jump to the next of a clock that jumps to and fro.
const STROBE: Duration = Duration::from_millis(150);

/// The file of each node's clock.
#[derive(Debug, Default)]
pub struct Clocks {
    files: Vec<(i32, PathBuf)>,
    /// Why there are none.
    missing: Option<String>,
}

impl Clocks {
    /// Not set up: nobody has chosen these faults.
    pub fn none() -> Clocks {
        Clocks { files: Vec::new(), missing: Some("clocks were not set up".to_owned()) }
    }

    /// Compile the library, and let every node that starts from now on load it.
    pub fn set_up(world: &mut World) {
        world.clocks = Clocks::make(world).unwrap_or_else(|error| Clocks {
            files: Vec::new(),
            missing: Some(format!("not available here: {error:#}")),
        });
    }

    fn make(world: &mut World) -> Result<Clocks> {
        let (source, library) = (world.programs.join("clock.c"), world.scratch.join("clock.so"));
        let compiled = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .output()
            .context("needs a C compiler, cc")?;
        if !compiled.status.success() {
            bail!("cc: {}", String::from_utf8_lossy(&compiled.stderr));
        }
        let mut files = Vec::new();
        for id in world.nodes.ids() {
            let file = world.scratch.join(format!("clock-{id}"));
            fs::write(&file, [0; 16])?;
            world.nodes.environment.push((id, "LD_PRELOAD".to_owned(), library.display().to_string()));
            world.nodes.environment.push((id, "FAULTS_CLOCK".to_owned(), file.display().to_string()));
            files.push((id, file));
        }
        Ok(Clocks { files, missing: None })
    }

    fn file(&self, id: i32) -> Result<PathBuf> {
        let found = self.files.iter().find(|(node, _)| *node == id);
        found.map(|(_, file)| file.clone()).context("this node's clock cannot be set")
    }
}

fn set(file: &Path, nanoseconds: i64) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).open(file)?;
    file.write_all_at(&nanoseconds.to_ne_bytes(), 0)?;
    Ok(())
}

fn wrong_answers(file: &Path) -> Result<u64> {
    let bytes = fs::read(file)?;
    let count = bytes.get(8..16).and_then(|b| b.try_into().ok()).context("a clock's file is too short")?;
    Ok(u64::from_ne_bytes(count))
}

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
        group: GROUP,
        about,
        missing: |world| world.clocks.missing.clone(),
        inject: Box::new(move |world: &mut World, _: &str| {
            let node = world.target(target)?;
            let size = SECOND * world.random.random_range(1..=if strobe { 60 } else { 100_000 });
            let by = if world.random.random() { size } else { -size };
            let (file, role) = (world.clocks.file(node)?, world.role(node));
            let before = wrong_answers(&file)?;
            world.nodes.mark(node, name);
            set(&file, by)?;
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
            let _ = set(&file, if wrong { by } else { 0 });
        }
    });
    (end, thread)
}

impl Active for Wrong {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn effect(&mut self, _: &mut World) -> Result<Option<String>> {
        let count = wrong_answers(&self.file)? - self.before;
        Ok((count > 0).then(|| format!("the wall clock was read {count} times while it was wrong")))
    }

    fn heal(self: Box<Self>, _: &mut World) -> Result<()> {
        if let Some((end, thread)) = self.strobe {
            end.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
        set(&self.file, 0)
    }
}
