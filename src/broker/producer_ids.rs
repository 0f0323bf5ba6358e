//! Producer ids come from the controller in blocks (KIP-730): most producers start without asking it.

use super::{ChannelError, ControllerChannel, Registration};
use rookery_raft::controller::{ControllerRequest, ControllerResponse};
use std::ops::Range;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// Gives out producer ids, each once.
pub struct ProducerIds {
    channel: ControllerChannel,
    registration: watch::Receiver<Option<Registration>>,
    // Held while a block is fetched, so that waiting producers share it. An async lock: that is what it is for.
    block: Mutex<Range<i64>>,
}

const TIMEOUT: Duration = Duration::from_secs(10);

impl ProducerIds {
    /// Asks as the broker that `registration` says this is.
    pub fn new(channel: ControllerChannel, registration: watch::Receiver<Option<Registration>>) -> Self {
        Self { channel, registration, block: Mutex::new(0..0) }
    }

    /// The next id.
    pub async fn next(&self) -> Result<i64, ChannelError> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = self.fetch().await?;
        }
        block.next().ok_or_else(|| ChannelError::TimedOut("the controller gave an empty block of producer ids".to_owned()))
    }

    async fn fetch(&self) -> Result<Range<i64>, ChannelError> {
        let registration = *self.registration.borrow();
        let Some(Registration { id, epoch }) = registration else {
            return Err(ChannelError::TimedOut("this broker is not registered yet".to_owned()));
        };
        let request = ControllerRequest::AllocateProducerIds { broker: id, epoch };
        match self.channel.ask(request, TIMEOUT).await? {
            ControllerResponse::ProducerIds { first, count } => Ok(first..first.saturating_add(i64::from(count))),
            other => Err(ChannelError::TimedOut(format!("the controller answered {other:?} to a request for producer ids"))),
        }
    }
}
