//! A priority level at work: requests take seats, wait for them, and give them back. Upstream: `fairqueuing/queueset`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::config::{LevelSpec, Response};
use super::demand::Observed;
use super::metrics::FlowMetrics;
use super::queues::{Begun, Called, Place, Queues, Refused, Ticket, Work};
use super::retry::Retry;

/// One level.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) name: String,
    queues: Mutex<Queues<Waiter>>,
    retry: Mutex<Retry>,
    /// Timers of levels whose requests wait for seats that linger.
    timers: TaskTracker,
    is_timed: AtomicBool,
}

/// The requests of one schema, on their way to its level.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) schema: String,
    pub(super) level: Arc<Level>,
    pub(super) metrics: FlowMetrics,
}

/// Who waits.
#[derive(Debug)]
struct Waiter {
    flow: Arc<Flow>,
    seat: oneshot::Sender<Seat>,
}

/// The seats of one request; dropping this gives them back.
#[derive(Debug)]
pub(super) struct Seat {
    flow: Arc<Flow>,
    ticket: Ticket,
}

impl Seat {
    fn new(flow: Arc<Flow>, ticket: Ticket) -> Self {
        flow.metrics.executing.inc();
        flow.metrics.executing_seats.inc_by(ticket.work().most().into());
        flow.metrics.dispatched.inc();
        Self { flow, ticket }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let now = Instant::now();
        let metrics = &self.flow.metrics;
        metrics.executing.dec();
        metrics.executing_seats.dec_by(self.ticket.work().most().into());
        metrics.executed.observe(now.saturating_duration_since(self.ticket.began()).as_secs_f64());
        self.flow.level.turn(|queues| ((), queues.finish(now, &self.ticket)));
    }
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TurnedAway {
    /// Seconds after which to come back.
    pub(super) retry_after: u32,
}

/// A place in a queue, which is left when nobody waits any more.
struct Queued<'a> {
    flow: &'a Arc<Flow>,
    place: Place,
    work: Work,
    reason: &'static str,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let left = self.flow.level.turn(|queues| queues.leave(Instant::now(), self.place));
        if left {
            self.flow.metrics.waiting.dec();
            self.flow.metrics.waiting_seats.dec_by(self.work.most().into());
            self.flow.metrics.rejected(self.reason);
        }
    }
}

impl Level {
    pub(super) fn new(spec: &LevelSpec, limit: u32, timers: TaskTracker) -> Self {
        Self {
            name: spec.name.clone(),
            queues: Mutex::new(Queues::new(spec.response, limit, Instant::now())),
            retry: Mutex::default(),
            timers,
            is_timed: false.into(),
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues<Waiter>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is doing.
    pub(super) fn now(&self) -> Now {
        let queues = self.queues();
        Now {
            limit: queues.limit(),
            seats_taken: queues.seats_taken(),
            seats_waiting: queues.seats_waiting(),
            waiting: queues.waiting(),
            executing: queues.executing(),
            did_not_fit: queues.did_not_fit,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queues().is_idle()
    }

    /// Its queues that have something: number, how many wait, how many are worked on, and the start of the next.
    pub(super) fn busy(&self) -> Vec<(usize, usize, usize, f64)> {
        self.queues().busy().collect()
    }

    /// The seats that could have been used since the last call.
    pub(super) fn demand(&self, now: Instant) -> Observed {
        self.queues().demand().reset(now)
    }

    /// Does something with the queues, and goes on with what came of it.
    fn turn<T>(self: &Arc<Self>, take: impl FnOnce(&mut Queues<Waiter>) -> (T, Called<Waiter>)) -> T {
        let (result, called, wakes) = {
            let mut queues = self.queues();
            let (result, called) = take(&mut queues);
            (result, called, queues.wakes_at())
        };
        self.go_on(called);
        if let Some(until) = wakes {
            self.wake(until);
        }
        result
    }

    pub(super) fn set_limit(self: &Arc<Self>, limit: u32) {
        self.turn(|queues| ((), queues.set_limit(Instant::now(), limit)));
    }

    pub(super) fn set_response(&self, response: Response) {
        self.queues().set_response(response);
    }

    /// Gives seats to those whose turn it is.
    fn go_on(self: &Arc<Self>, called: Called<Waiter>) {
        for (Waiter { flow, seat }, ticket) in called {
            flow.metrics.waiting.dec();
            flow.metrics.waiting_seats.dec_by(ticket.work().most().into());
            // One that has just gone gives its seat back by dropping it.
            let _gone = seat.send(Seat::new(flow, ticket));
        }
    }

    /// Sees to it that those who wait for seats that linger are called.
    fn wake(self: &Arc<Self>, until: Instant) {
        // What is dropped when the runtime ends has nobody to call any more.
        let is_over = tokio::runtime::Handle::try_current().is_err();
        if is_over || self.is_timed.swap(true, Ordering::AcqRel) {
            return;
        }
        let level = self.clone();
        self.timers.spawn(async move {
            tokio::time::sleep_until(until).await;
            level.is_timed.store(false, Ordering::Release);
            level.turn(|queues| ((), queues.settle(Instant::now())));
        });
    }

    fn turned_away(&self, flow: &Flow, reason: &'static str) -> TurnedAway {
        flow.metrics.rejected(reason);
        tracing::debug!(schema = %flow.schema, level = %self.name, reason, "a request is turned away");
        let mut retry = self.retry.lock().unwrap_or_else(PoisonError::into_inner);
        TurnedAway { retry_after: retry.turned_away(Instant::now()) }
    }
}

/// How a level is doing.
#[derive(Clone, Debug)]
pub(super) struct Now {
    pub(super) limit: u32,
    pub(super) seats_taken: u32,
    pub(super) seats_waiting: u32,
    pub(super) waiting: usize,
    pub(super) executing: usize,
    pub(super) did_not_fit: u64,
}

impl Flow {
    /// Takes seats for a request, or waits for them, but no longer than `patience`.
    pub(super) async fn seat(self: &Arc<Self>, hash: u64, work: Work, patience: Duration) -> Result<Seat, TurnedAway> {
        let began = Instant::now();
        self.metrics.width.observe(work.most().into());
        let (sender, seat) = oneshot::channel();
        let waiter = Waiter { flow: self.clone(), seat: sender };
        let begun = self.level.turn(|queues| queues.begin(began, hash, work, waiter));
        let place = match begun {
            Begun::Now(ticket) => {
                self.metrics.waited.observe(0.0);
                return Ok(Seat::new(self.clone(), ticket));
            }
            Begun::Refused(Refused::QueueFull) => return Err(self.level.turned_away(self, "queue-full")),
            Begun::Refused(Refused::ConcurrencyLimit) => {
                return Err(self.level.turned_away(self, "concurrency-limit"));
            }
            Begun::Waits(place) => place,
        };
        self.metrics.waiting.inc();
        self.metrics.waiting_seats.inc_by(work.most().into());
        self.metrics.queue_length.observe(place.length as f64);
        let mut queued = Queued { flow: self, place, work, reason: "cancelled" };
        let waited = tokio::time::timeout(patience, seat).await;
        let took = began.elapsed().as_secs_f64();
        if let Ok(Ok(seat)) = waited {
            self.metrics.waited.observe(took);
            return Ok(seat);
        }
        self.metrics.waited_in_vain.observe(took);
        queued.reason = "time-out";
        drop(queued);
        let mut retry = self.level.retry.lock().unwrap_or_else(PoisonError::into_inner);
        Err(TurnedAway { retry_after: retry.turned_away(Instant::now()) })
    }
}
