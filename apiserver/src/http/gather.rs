//! Gathers what HTTP/2 writes.
//!
//! HTTP/2 writes frame by frame and flushes after each one that carries data. Below TLS that would be a record and a
//! system call for every event of every watch. So writes gather here until the connection has nothing more to write:
//!
//! ```text
//! write, flush, write, flush, flush ──▶ one write and one flush of the socket
//!          └──────────┴── put off: more may follow
//! ```

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much is gathered before it is written: a few TLS records.
const FULL: usize = 64 * 1024;
/// Larger writes that find nothing gathered are not copied.
const LARGE: usize = 16 * 1024;

/// A connection whose flush is put off once after each write. The task is woken then, so that what was gathered is
/// written when it comes round again, at the latest: only for users that flush whenever they are woken, as HTTP/2 does.
pub(super) struct Gather<S> {
    inner: S,
    gathered: BytesMut,
    /// Whether something was written since the last flush.
    is_fresh: bool,
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, gathered: BytesMut::new(), is_fresh: false }
    }

    /// Writes what was gathered.
    fn poll_pass_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.gathered))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.gathered.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let size = slices.iter().map(|slice| slice.len()).sum();
        if this.gathered.len() + size > FULL {
            ready!(this.poll_pass_on(cx))?;
        }
        this.is_fresh = true;
        if this.gathered.is_empty() && size > LARGE {
            return Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        }
        slices.iter().for_each(|slice| this.gathered.extend_from_slice(slice));
        Poll::Ready(Ok(size))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.is_fresh) {
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_pass_on(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pass_on(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    /// Notes each write that reaches it.
    #[derive(Default)]
    struct Socket(Vec<usize>);

    impl AsyncWrite for Socket {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn frames_that_are_flushed_one_by_one_become_one_write() {
        let mut gather = Gather::new(Socket::default());
        for _ in 0..3 {
            gather.write_all(&[0; 100]).await.unwrap();
            gather.flush().await.unwrap();
        }
        assert!(gather.inner.0.is_empty());
        gather.flush().await.unwrap();
        assert_eq!(gather.inner.0, [300]);
    }

    #[tokio::test]
    async fn no_more_is_gathered_than_a_few_records() {
        let mut gather = Gather::new(Socket::default());
        for _ in 0..10 {
            gather.write_all(&[0; 10_000]).await.unwrap();
        }
        assert_eq!(gather.inner.0, [60_000]);
        gather.shutdown().await.unwrap();
        assert_eq!(gather.inner.0, [60_000, 40_000]);
    }

    #[tokio::test]
    async fn a_large_write_is_passed_on_without_a_copy() {
        let mut gather = Gather::new(Socket::default());
        gather.write_all(&[0; 20_000]).await.unwrap();
        assert_eq!(gather.inner.0, [20_000]);
    }
}
