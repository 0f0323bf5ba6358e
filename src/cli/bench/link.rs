//! A connection with several requests under way: whoever holds it sends frames and takes answers, which come in the order of
//! the requests. Which request an answer is for is the holder's to know.

use super::super::client::{Connection, FRAME_BYTES_MAX, Offered};
use crate::net::Outgoing;
use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use rookery_protocol::codec::Segments;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Answers to producers are small: many come in one read.
const READ_BYTES: usize = 64 << 10;
const PREFIX_BYTES: usize = 4;

/// Takes answers.
pub struct Answers {
    half: OwnedReadHalf,
    buffer: BytesMut,
}

/// Sends requests.
pub struct Requests(OwnedWriteHalf);

/// Connects to a broker.
pub async fn connect(address: &str) -> Result<(Requests, Answers, Offered)> {
    let (stream, offered) = Connection::open(address).await?.into_parts();
    let (read, write) = stream.into_split();
    Ok((Requests(write), Answers { half: read, buffer: BytesMut::new() }, offered))
}

impl Requests {
    /// Write a whole frame, its large pieces from where they lie.
    pub async fn send(&mut self, frame: Segments) -> Result<()> {
        Ok(self.0.write_all_buf(&mut Outgoing::from(frame)).await?)
    }
}

impl Answers {
    /// The next frame, without its length. If this is given up half-way, nothing is lost.
    pub async fn next(&mut self) -> Result<Bytes> {
        loop {
            let missing = match self.buffer.first_chunk::<PREFIX_BYTES>() {
                None => READ_BYTES,
                Some(prefix) => {
                    let length = i32::from_be_bytes(*prefix);
                    let Some(length) = usize::try_from(length).ok().filter(|l| *l <= FRAME_BYTES_MAX) else {
                        bail!("that is no Kafka answer: a frame of {length} bytes");
                    };
                    let whole = PREFIX_BYTES + length;
                    if self.buffer.len() >= whole {
                        self.buffer.advance(PREFIX_BYTES);
                        return Ok(self.buffer.split_to(length).freeze());
                    }
                    whole - self.buffer.len()
                }
            };
            // If nobody looks at earlier frames any more, this finds room where they were.
            self.buffer.reserve(missing);
            if self.half.read_buf(&mut self.buffer).await.context("the connection broke")? == 0 {
                bail!("the broker closed the connection");
            }
        }
    }
}
