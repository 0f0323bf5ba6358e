//! One budget for the bytes of all requests that a node works on.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that requests may occupy, all connections together. Cloning shares it.
#[derive(Clone, Debug)]
pub struct RequestBudget {
    free: Arc<Semaphore>,
    total: usize,
}

/// Bytes taken; given back when dropped.
#[derive(Debug)]
pub struct RequestBytes {
    _permit: OwnedSemaphorePermit,
}

impl RequestBudget {
    /// A budget of so many bytes.
    pub fn new(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(total)), total }
    }

    /// Wait until so many bytes are free, and take them. First come, first served.
    pub async fn take(&self, bytes: usize) -> RequestBytes {
        let count = u32::try_from(bytes.min(self.total)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.free).acquire_many_owned(count).await.expect("the semaphore is never closed");
        RequestBytes { _permit: permit }
    }

    /// Bytes in use now.
    pub fn in_use(&self) -> usize {
        self.total - self.free.available_permits()
    }
}
