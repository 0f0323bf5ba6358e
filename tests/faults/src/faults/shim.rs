//! Libraries that every node loads before its own, and by which its system calls are made to lie: one C file each in
//! `clients/`, and for each node a file of two numbers by which it is told what to do and tells how often it did.

use super::World;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One library, in every node.
#[derive(Debug, Default)]
pub struct Shim {
    files: Vec<(i32, PathBuf)>,
    missing: Option<String>,
}

impl Shim {
    /// Not set up: nobody has chosen its faults.
    pub fn none() -> Shim {
        Shim { files: Vec::new(), missing: Some("its library was not loaded".to_owned()) }
    }

    /// Compile `NAME.c`, and let every node that starts from now on load it; it finds its file in the variable `FAULTS_NAME`.
    pub fn set_up(world: &mut World, name: &str) -> Shim {
        Shim::make(world, name)
            .unwrap_or_else(|error| Shim { files: Vec::new(), missing: Some(format!("not available here: {error:#}")) })
    }

    fn make(world: &mut World, name: &str) -> Result<Shim> {
        let (source, library) = (world.programs.join(format!("{name}.c")), world.scratch.join(format!("{name}.so")));
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
            let file = world.scratch.join(format!("{name}-{id}"));
            fs::write(&file, [0; 16])?;
            let variable = format!("FAULTS_{}", name.to_uppercase());
            world.nodes.environment.push((id, variable, file.display().to_string()));
            files.push((id, file));
        }
        world.nodes.preload.push(library);
        Ok(Shim { files, missing: None })
    }

    /// Why there is none.
    pub fn missing(&self) -> Option<String> {
        self.missing.clone()
    }

    /// The file of a node.
    pub fn file(&self, id: i32) -> Result<PathBuf> {
        let found = self.files.iter().find(|(node, _)| *node == id);
        found.map(|(_, file)| file.clone()).context("this node has not loaded the library")
    }
}

/// Tell the library of a node what to do; 0 is nothing.
pub fn command(file: &Path, what: i64) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).open(file)?;
    file.write_all_at(&what.to_ne_bytes(), 0)?;
    Ok(())
}

/// How often it did.
pub fn count(file: &Path) -> Result<u64> {
    let bytes = fs::read(file)?;
    let count = bytes.get(8..16).and_then(|b| b.try_into().ok()).context("the file of a library is too short")?;
    Ok(u64::from_ne_bytes(count))
}
