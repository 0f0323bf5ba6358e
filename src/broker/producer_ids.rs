//! Producer ids come from the controller in blocks (KIP-730): producers start without asking it.
//!
//! There is always a block in reserve, taken as soon as this broker is registered: losing the controller quorum keeps no producer
//! from starting before a whole block is used up.

use super::{ChannelError, ControllerChannel, Registration};
use rookery_raft::controller::{ControllerRequest, ControllerResponse};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Gives out producer ids, each once.
pub struct ProducerIds {
    channel: ControllerChannel,
    registration: watch::Receiver<Option<Registration>>,
    // Held while somebody waits for a block, so that waiting producers share it. An async lock: that is what it is for.
    stock: Mutex<Stock>,
    taken: Notify,
}

/// The block in use, and the one after it.
#[derive(Default)]
struct Stock {
    block: Range<i64>,
    reserve: Range<i64>,
}

const TIMEOUT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);

impl ProducerIds {
    /// Asks as the broker that `registration` says this is.
    pub fn new(channel: ControllerChannel, registration: watch::Receiver<Option<Registration>>) -> Arc<Self> {
        Arc::new(Self { channel, registration, stock: Mutex::default(), taken: Notify::new() })
    }

    /// The next id.
    pub async fn next(&self) -> Result<i64, ChannelError> {
        let mut stock = self.stock.lock().await;
        if stock.block.is_empty() {
            stock.block = std::mem::take(&mut stock.reserve);
            self.taken.notify_one();
        }
        if stock.block.is_empty() {
            stock.block = self.fetch().await?;
        }
        let id = stock.block.next();
        id.ok_or_else(|| ChannelError::TimedOut("the controller gave an empty block of producer ids".to_owned()))
    }

    /// Keep a block in reserve until told to stop.
    pub async fn keep_reserve(self: Arc<Self>, stop: CancellationToken) {
        let mut registration = self.registration.clone();
        let keeping = async {
            // A sender that is gone registers nobody any more.
            if registration.wait_for(Option::is_some).await.is_err() {
                return;
            }
            loop {
                if self.stock.lock().await.reserve.is_empty() {
                    match self.fetch().await {
                        // Producers go on with what there is while the controller is asked.
                        Ok(block) => self.stock.lock().await.reserve = block,
                        Err(error) => {
                            tracing::debug!(%error, "no producer ids in reserve");
                            sleep(RETRY).await;
                            continue;
                        }
                    }
                }
                self.taken.notified().await;
            }
        };
        stop.run_until_cancelled(keeping).await;
    }

    async fn fetch(&self) -> Result<Range<i64>, ChannelError> {
        let registration = *self.registration.borrow();
        let Some(Registration { id, epoch }) = registration else {
            return Err(ChannelError::TimedOut("this broker is not registered yet".to_owned()));
        };
        let request = ControllerRequest::AllocateProducerIds { broker: id, epoch };
        match self.channel.ask(request, TIMEOUT).await? {
            ControllerResponse::ProducerIds { first, count } => Ok(first..first.saturating_add(i64::from(count))),
            other => {
                Err(ChannelError::TimedOut(format!("the controller answered {other:?} to a request for producer ids")))
            }
        }
    }
}
