//! Answers on their way: a seat is kept until the body has been sent, and whoever does not read is cut.
//!
//! HTTP asks a body for its next piece when the client has room for it. A client that stalls is not asked, so nothing
//! in the body can end it: all bodies that are being sent are looked through from time to time, and those that do not
//! move are let go of, with all that they hold (a snapshot, a seat), and their connection is closed. Nothing runs while
//! nothing is being sent.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Seat;
use crate::http::Cut;
use crate::response::Answer;

/// Who takes nothing for so long is cut; watches give as much.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// After that time, whoever has taken fewer bytes a second than this is cut, too.
pub(crate) const PACE: u64 = 32 * 1024;
/// How often the bodies are looked through while there are some.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// The client did not read.
#[derive(Debug, thiserror::Error)]
#[error("the client did not read the answer in time")]
struct Stalled;

/// All that is being sent.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    open: Mutex<HashMap<u64, Arc<Held>>>,
    next: AtomicU64,
    is_looking: AtomicBool,
    begun: Notify,
    stalled: Counter,
}

/// What is kept while something is sent.
#[derive(Debug)]
struct Held(Mutex<State>);

#[derive(Debug)]
struct State {
    /// None of a watch, whose end nobody can tell: only its seat is kept.
    body: Option<Body>,
    seat: Option<Seat>,
    connection: Option<Cut>,
    began: Instant,
    /// When the client last took something.
    moved: Instant,
    sent: u64,
    /// Where what was sent is counted in the end.
    sizes: Option<Histogram>,
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_stalled(&self, now: Instant) -> bool {
        let late = now.duration_since(self.began).saturating_sub(PATIENCE).as_secs();
        now.duration_since(self.moved) > PATIENCE || self.sent < late.saturating_mul(PACE)
    }
}

impl Sending {
    /// How many were cut.
    pub(crate) fn stalled(&self) -> Counter {
        self.stalled.clone()
    }

    /// How many are being sent.
    pub(crate) fn count(&self) -> usize {
        self.open().len()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Held>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(self: &Arc<Self>, body: Option<Body>, seat: Option<Seat>, connection: Option<Cut>) -> Holding {
        let now = Instant::now();
        let held =
            Arc::new(Held(Mutex::new(State { body, seat, connection, began: now, moved: now, sent: 0, sizes: None })));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open().insert(id, held.clone());
        if !self.is_looking.swap(true, Ordering::AcqRel) {
            self.begun.notify_one();
        }
        Holding { sending: self.clone(), id, held }
    }

    /// An answer that keeps a seat until it has been sent. How large it is, is counted when that is known.
    pub(crate) fn send(
        self: &Arc<Self>,
        answer: Answer,
        seat: Option<Seat>,
        connection: Option<Cut>,
        mut sizes: Option<Histogram>,
    ) -> Answer {
        use http_body::Body as _;
        if let Some(size) = answer.body().size_hint().exact()
            && let Some(sizes) = sizes.take()
        {
            sizes.observe(size as f64);
        }
        if answer.body().is_end_stream() {
            return answer;
        }
        answer.map(|body| {
            let holding = self.hold(Some(body), seat, connection);
            holding.held.state().sizes = sizes;
            Body::new(holding)
        })
    }

    /// Keeps the seat of a watch until what it begins with was read, or the client has had its time.
    pub(crate) fn keep(self: &Arc<Self>, seat: Seat) -> Kept {
        Kept(self.hold(None, Some(seat), None))
    }

    /// Cuts those who do not read, until shutdown.
    pub(crate) async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.begun.notified() => {}
            }
            while self.is_looking.load(Ordering::Acquire) {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(LOOK) => {}
                }
                self.cut_stalled(Instant::now());
                if self.open().is_empty() {
                    self.is_looking.store(false, Ordering::Release);
                    // One that came just now has counted on being looked at.
                    if !self.open().is_empty() {
                        self.is_looking.store(true, Ordering::Release);
                    }
                }
            }
        }
    }

    /// Lets go of what does not move.
    fn cut_stalled(&self, now: Instant) {
        let stalled: Vec<Arc<Held>> =
            self.open().values().filter(|held| held.state().is_stalled(now)).cloned().collect();
        for held in stalled {
            let (body, seat, connection, sent) = {
                let mut state = held.state();
                (state.body.take(), state.seat.take(), state.connection.take(), state.sent)
            };
            drop(seat);
            if body.is_some() {
                self.stalled.inc();
                tracing::warn!(sent, "a client that does not read its answer is cut");
            }
            if let Some(Cut(connection)) = connection {
                connection.cancel();
            }
        }
    }
}

/// Something that is being sent.
#[derive(Debug)]
struct Holding {
    sending: Arc<Sending>,
    id: u64,
    held: Arc<Held>,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.sending.open().remove(&self.id);
        let state = self.held.state();
        if let Some(sizes) = &state.sizes {
            sizes.observe(state.sent as f64);
        }
    }
}

/// A seat that is kept; dropping this gives it back.
#[derive(Debug)]
pub(crate) struct Kept(#[expect(dead_code, reason = "keeps by being alive")] Holding);

impl http_body::Body for Holding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut state = self.held.state();
        let Some(body) = &mut state.body else { return Poll::Ready(Some(Err(axum::Error::new(Stalled)))) };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                state.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                state.moved = Instant::now();
            }
            Poll::Ready(None | Some(Err(_))) => {
                let seat = state.seat.take();
                drop(state);
                drop(seat);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.held.state().body.as_ref().is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.held.state().body.as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn endless() -> Answer {
        let chunks = futures::stream::repeat_with(|| Ok::<_, std::convert::Infallible>(Bytes::from(vec![0; 1024])));
        Answer::new(Body::from_stream(chunks))
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_cut_and_its_connection_closed() {
        let sending = Arc::new(Sending::default());
        let cut = CancellationToken::new();
        let mut body = sending.send(endless(), None, Some(Cut(cut.clone())), None).into_body();
        assert!(body.frame().await.unwrap().is_ok());
        sending.cut_stalled(Instant::now() + PATIENCE);
        assert!(!cut.is_cancelled() && body.frame().await.unwrap().is_ok());
        sending.cut_stalled(Instant::now() + PATIENCE + LOOK);
        assert!(cut.is_cancelled());
        let err = body.frame().await.unwrap().unwrap_err();
        assert_eq!(err.to_string(), Stalled.to_string());
        assert_eq!(sending.stalled().get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_little_now_and_then_is_cut_as_well() {
        let sending = Arc::new(Sending::default());
        tokio::spawn(sending.clone().watch(CancellationToken::new()));
        let mut body = sending.send(endless(), None, None, None).into_body();
        let began = Instant::now();
        while body.frame().await.unwrap().is_ok() {
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(began.elapsed() < 2 * PATIENCE, "1 KiB in 10 s is not enough");
        }
        drop(body);
        assert!(sending.open().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_looked_at_when_nothing_is_sent() {
        let sending = Arc::new(Sending::default());
        tokio::spawn(sending.clone().watch(CancellationToken::new()));
        drop(sending.send(endless(), None, None, None));
        while sending.is_looking.load(Ordering::Acquire) {
            tokio::time::sleep(LOOK).await;
        }
        drop(sending.send(endless(), None, None, None));
        assert!(sending.is_looking.load(Ordering::Acquire));
    }
}
