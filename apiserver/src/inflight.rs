//! How many requests are worked on at a time. Those that last by their nature (watches, logs, exec) and those of
//! `system:masters` are not limited.

use std::sync::atomic::{AtomicUsize, Ordering};

use api::ApiError;
use api::strategy::User;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::authz::MASTERS;
use crate::request_info::RequestInfo;

/// So many requests wait for each one that is worked on; more are turned away.
const WAITING_EACH: usize = 10;
/// Those who are turned away are asked to come back after so many seconds.
const RETRY_AFTER: u32 = 1;

/// How much the server takes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that read; 0 for no limit.
    pub max_requests_inflight: usize,
    /// Requests that write; 0 for no limit.
    pub max_mutating_requests_inflight: usize,
    /// Whether there is one limit, the sum of both, and requests beyond it wait in order; else they are turned away.
    pub fair: bool,
}

impl Default for Limits {
    /// Upstream's defaults.
    fn default() -> Self {
        Self { max_requests_inflight: 400, max_mutating_requests_inflight: 200, fair: true }
    }
}

/// The seats for requests.
#[derive(Debug)]
pub(crate) struct Inflight {
    seats: Seats,
}

#[derive(Debug)]
enum Seats {
    /// Requests beyond the number of seats wait in order.
    Shared { seats: Semaphore, number: usize, waiting: AtomicUsize },
    /// Requests beyond it are turned away. `None` is no limit.
    Apart { reads: Option<Semaphore>, writes: Option<Semaphore> },
}

impl Inflight {
    pub(crate) fn new(limits: &Limits) -> Self {
        let seats = |number: usize| (number > 0).then(|| Semaphore::new(number.min(Semaphore::MAX_PERMITS)));
        let number = limits.max_requests_inflight.saturating_add(limits.max_mutating_requests_inflight);
        let seats = match seats(number).filter(|_| limits.fair) {
            Some(seats) => Seats::Shared { seats, number, waiting: AtomicUsize::new(0) },
            None => Seats::Apart {
                reads: seats(limits.max_requests_inflight),
                writes: seats(limits.max_mutating_requests_inflight),
            },
        };
        Self { seats }
    }

    /// Takes a seat for as long as the answer is kept.
    pub(crate) async fn seat(&self, user: &User, info: &RequestInfo) -> Result<Option<SemaphorePermit<'_>>, ApiError> {
        if info.is_long_running() || user.groups.iter().any(|group| group == MASTERS) {
            return Ok(None);
        }
        match &self.seats {
            Seats::Shared { seats, number, waiting } => wait(seats, *number, waiting).await.map(Some),
            Seats::Apart { reads, writes } => {
                let seats = if matches!(info.verb(), "get" | "list" | "head") { reads } else { writes };
                seats.as_ref().map(|seats| seats.try_acquire().map_err(|_| turned_away())).transpose()
            }
        }
    }
}

async fn wait<'a>(seats: &'a Semaphore, number: usize, waiting: &AtomicUsize) -> Result<SemaphorePermit<'a>, ApiError> {
    if let Ok(seat) = seats.try_acquire() {
        return Ok(seat);
    }
    let place = Place::take(waiting);
    if place.before >= number.saturating_mul(WAITING_EACH) {
        return Err(turned_away());
    }
    seats.acquire().await.map_err(|_| turned_away())
}

/// A place among those who wait; dropping it gives it back, also when the client has gone.
struct Place<'a> {
    waiting: &'a AtomicUsize,
    before: usize,
}

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Self {
        Self { waiting, before: waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn turned_away() -> ApiError {
    ApiError::too_many_requests("Too many requests, please try again later.", RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use http::Method;

    use super::*;
    use crate::query::Query;

    fn inflight(reads: usize, writes: usize, fair: bool) -> Inflight {
        let limits =
            Limits { max_requests_inflight: reads, max_mutating_requests_inflight: writes, fair, ..Limits::default() };
        Inflight::new(&limits)
    }

    fn info(method: &Method, line: &str) -> RequestInfo {
        let (path, query) = line.split_once('?').unwrap_or((line, ""));
        RequestInfo::parse(method, path, &Query::parse(query))
    }

    fn user(group: &str) -> User {
        User { name: "jane".into(), groups: vec![group.into()], ..User::default() }
    }

    #[tokio::test]
    async fn reads_and_writes_have_seats_of_their_own_and_do_not_wait() {
        let get = info(&Method::GET, "/api/v1/pods");
        let post = info(&Method::POST, "/api/v1/namespaces");
        let watch = info(&Method::GET, "/api/v1/pods?watch=1");
        let inflight = inflight(1, 1, false);
        let seat = inflight.seat(&user("dev"), &get).await.unwrap();
        assert_eq!(inflight.seat(&user("dev"), &get).await.unwrap_err().code(), 429);
        assert!(inflight.seat(&user("dev"), &post).await.is_ok(), "writes are counted apart");
        assert!(inflight.seat(&user("dev"), &watch).await.unwrap().is_none(), "watches last");
        assert!(inflight.seat(&user(MASTERS), &get).await.unwrap().is_none());
        drop(seat);
        assert!(inflight.seat(&user("dev"), &get).await.is_ok());
    }

    #[tokio::test]
    async fn fair_seats_are_waited_for_by_a_bounded_number() {
        let get = info(&Method::GET, "/api/v1/pods");
        let inflight = inflight(1, 0, true);
        let dev = user("dev");
        let seat = inflight.seat(&dev, &get).await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_EACH).map(|_| Box::pin(inflight.seat(&dev, &get))).collect();
        assert!(waiting.iter_mut().all(|one| one.as_mut().now_or_never().is_none()));
        assert_eq!(inflight.seat(&dev, &get).await.unwrap_err().code(), 429);
        drop(waiting.pop());
        drop(seat);
        assert!(waiting.remove(0).await.is_ok(), "the first who came is the first who gets it");
    }
}
