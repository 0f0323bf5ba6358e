//! Who leads which partition: asked at the start, and whenever a request says that something has changed.

use super::super::client::{Bootstrap, KafkaClient};
use anyhow::{Result, anyhow};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// A node that hangs still accepts connections: another one may know.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What the cluster said last.
#[derive(Clone, Debug, Default)]
pub struct Leaders {
    /// Partition and leader, of those that have one.
    pub of: Vec<(i32, i32)>,
    /// Where brokers are.
    pub addresses: BTreeMap<i32, String>,
}

/// Asks one node after the other.
#[derive(Clone)]
pub struct Lookup {
    topic: String,
    addresses: Vec<String>,
    next: usize,
}

impl Lookup {
    /// Of a topic.
    pub fn new(topic: &str, bootstrap: &Bootstrap) -> Self {
        Self { topic: topic.to_owned(), addresses: bootstrap.addresses().to_vec(), next: 0 }
    }

    /// Ask until one answers, each node once.
    pub async fn ask(&mut self) -> Result<Leaders> {
        let mut last = anyhow!("there is nobody to ask");
        for _ in 0..self.addresses.len() {
            let address = self.addresses[self.next % self.addresses.len()].clone();
            let mut client = KafkaClient::new(Bootstrap::one(address.clone()));
            match timeout(ANSWER_MAX, client.leaders(&self.topic)).await {
                Ok(Ok(of)) => {
                    let addresses = client.brokers().clone();
                    let more = addresses.values().filter(|a| !self.addresses.contains(a));
                    let more: Vec<String> = more.cloned().collect();
                    self.addresses.extend(more);
                    return Ok(Leaders { of, addresses });
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = anyhow!("{address} gave no answer within {} s", ANSWER_MAX.as_secs()),
            }
            self.next = (self.next + 1) % self.addresses.len();
        }
        Err(last)
    }
}
