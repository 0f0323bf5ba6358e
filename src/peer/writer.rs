//! Writes a connection's frames: vectored, in the order they were queued, without copying a segment.

use super::frame::Outbound;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

// As many as one writev takes without a second allocation anywhere; well below IOV_MAX (1024).
const SLICES_MAX: usize = 64;

/// Runs until the queue's senders are gone, then writes `farewell` and closes the sending half.
pub(super) async fn write_frames<W: AsyncWrite + Unpin>(
    mut half: W,
    mut queue: mpsc::Receiver<Outbound>,
    farewell: Outbound,
    bytes_sent: ::metrics::Counter,
) -> io::Result<()> {
    let mut pending = VecDeque::with_capacity(SLICES_MAX);
    let mut farewell = Some(farewell);
    loop {
        if pending.is_empty() {
            match queue.recv().await.or_else(|| farewell.take()) {
                Some(frame) => push(&mut pending, frame),
                None => return half.shutdown().await,
            }
        }
        // What has queued up meanwhile goes out with the same system call.
        while pending.len() < SLICES_MAX
            && let Ok(frame) = queue.try_recv()
        {
            push(&mut pending, frame);
        }
        let written = write_some(&mut half, &pending).await?;
        bytes_sent.increment(written as u64);
        advance(&mut pending, written);
    }
}

fn push(pending: &mut VecDeque<Bytes>, frame: Outbound) {
    pending.push_back(frame.header);
    pending.extend(frame.segments.into_iter().filter(|segment| !segment.is_empty()));
}

async fn write_some<W: AsyncWrite + Unpin>(half: &mut W, pending: &VecDeque<Bytes>) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut count = 0;
    for (slice, segment) in slices.iter_mut().zip(pending) {
        *slice = IoSlice::new(segment);
        count += 1;
    }
    match half.write_vectored(&slices[..count]).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        written => Ok(written),
    }
}

fn advance(pending: &mut VecDeque<Bytes>, mut written: usize) {
    while written > 0 {
        let front = pending.front_mut().expect("no more was written than was pending");
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        pending.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::frame::{self, Coverage, Role};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    // Takes a few bytes at a time, never at a segment's border.
    struct Trickle(Vec<u8>);

    impl AsyncWrite for Trickle {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let n = buf.len().min(7);
            self.0.extend_from_slice(&buf[..n]);
            Poll::Ready(Ok(n))
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(11).collect();
            self.0.extend_from_slice(&bytes);
            Poll::Ready(Ok(bytes.len()))
        }
        fn is_write_vectored(&self) -> bool {
            true
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn partial_writes_lose_and_repeat_nothing() {
        let frame = |n: u8| {
            let segments = (0..100).map(|i| Bytes::from(vec![n ^ i; usize::from(i % 9)])).collect();
            frame::encode(1, Role::Request, u64::from(n), segments, Coverage::All, 1 << 20).expect("fits")
        };
        let mut expected = Vec::new();
        let (tx, rx) = mpsc::channel(8);
        for n in 0..5 {
            let outbound = frame(n);
            expected.extend_from_slice(&outbound.header);
            outbound.segments.iter().for_each(|segment| expected.extend_from_slice(segment));
            assert!(tx.send(outbound).await.is_ok());
        }
        drop(tx);
        let farewell = frame(9);
        expected.extend_from_slice(&farewell.header);
        farewell.segments.iter().for_each(|segment| expected.extend_from_slice(segment));
        let mut written = Trickle(Vec::new());
        write_frames(&mut written, rx, farewell, ::metrics::Counter::noop()).await.expect("writes");
        assert!(written.0 == expected);
    }
}
