//! What a command prints: results on standard output, word of what it waits for on standard error.
//!
//! A reader that has seen enough (`| head`) is no failure. [`Results`] marks that error, so that it is not taken for a
//! connection that broke, and [`is_reader_gone`] finds it where the process ends.

use std::fmt::Display;
use std::future::pending;
use std::io::{self, ErrorKind, StdoutLock, Write};
use std::os::unix::fs::FileTypeExt;
use tokio::io::Interest;
use tokio::net::unix::pipe;

const STDOUT: &str = "/dev/stdout";
/// What opening a pipe without reader fails with.
const ENXIO: i32 = 6;

#[derive(Debug, thiserror::Error)]
#[error("nobody reads the results any more")]
struct ReaderGone;

/// Standard output.
pub struct Results(StdoutLock<'static>);

impl Results {
    /// Of this process.
    pub fn new() -> Self {
        Self(io::stdout().lock())
    }
}

impl Write for Results {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(mark)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(mark)
    }
}

fn mark(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::BrokenPipe { io::Error::new(ErrorKind::BrokenPipe, ReaderGone) } else { error }
}

/// Whether a command ended because nobody reads its results any more.
pub fn is_reader_gone(error: &anyhow::Error) -> bool {
    let marked = |e: &io::Error| e.get_ref().is_some_and(|inner| inner.is::<ReaderGone>());
    error.chain().any(|cause| cause.downcast_ref().is_some_and(marked))
}

/// Resolves when nobody reads standard output any more, also while there is nothing to write; never where it is no pipe.
pub async fn reader_gone() {
    let is_pipe = std::fs::metadata(STDOUT).is_ok_and(|file| file.file_type().is_fifo());
    // Opened once more, because it is made non-blocking.
    match pipe::OpenOptions::new().open_sender(STDOUT) {
        Ok(watched) => {
            if watched.ready(Interest::ERROR).await.is_err() {
                pending().await
            }
        }
        Err(error) if is_pipe && error.raw_os_error() == Some(ENXIO) => {}
        Err(_) => pending().await,
    }
}

/// One line on standard error. Nobody need read that either.
pub fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "rookery: {text}");
}
