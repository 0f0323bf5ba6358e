//! Work that may wait for a disk, done where waiting holds up nobody.

/// Runs `work` on a thread for such work. `None`: the process is ending and it was not begun.
///
/// # Panics
/// When `work` does: a bug goes on in whoever asked, where it can be seen.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    #[cfg(test)]
    if inline::is_on() {
        return Some(work());
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Some(result),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// A simulation has one thread and a disk that waits for nobody: there the caller does the work.
#[cfg(test)]
pub(crate) mod inline {
    use std::cell::Cell;

    thread_local! {
        static INLINE: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn is_on() -> bool {
        INLINE.get()
    }

    /// From now on, on this thread.
    pub(crate) fn turn_on() {
        INLINE.set(true);
    }
}
