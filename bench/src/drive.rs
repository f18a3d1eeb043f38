//! Sends many requests, a fixed number in flight, and times each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Error;
use crate::client::{Call, Client, PATIENCE};
use crate::statistics::{Latencies, per_second};

/// How much to send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub in_flight: usize,
    /// At most so many requests.
    pub count: usize,
    /// No request begins later than this.
    pub time: Duration,
    /// The least time between the beginnings of two requests; `None` for as fast as the answers come.
    pub pace: Option<Duration>,
}

impl Limits {
    /// As many as the time allows.
    pub fn for_time(in_flight: usize, time: Duration) -> Self {
        Self { in_flight, count: usize::MAX, time, pace: None }
    }

    /// This many, however long it takes (within reason).
    pub fn exactly(in_flight: usize, count: usize) -> Self {
        Self { in_flight, count, time: Duration::from_secs(60), pace: None }
    }
}

/// One request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    pub number: usize,
    pub sent: Instant,
    pub done: Instant,
}

/// What came of it: the requests numbered from 0 were all answered.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub answered: Vec<Answered>,
    pub bytes: u64,
    pub elapsed: Duration,
}

impl Outcome {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        per_second(self.answered.len() as f64, self.elapsed)
    }

    /// Times from sending to the end of the answer.
    pub fn latencies(&self) -> Latencies {
        self.answered.iter().map(|answered| answered.done - answered.sent).collect()
    }
}

/// Sends `make(0)`, `make(1)`, ... within the limits. The first failure ends it.
pub async fn drive(
    client: &Client,
    limits: Limits,
    make: impl Fn(usize) -> Call + Send + Sync + 'static,
) -> Result<Outcome, Error> {
    let (make, next) = (Arc::new(make), Arc::new(AtomicUsize::new(0)));
    let mut lanes = Vec::new();
    for _ in 0..limits.in_flight.min(limits.count) {
        lanes.push(client.lane().await?);
    }
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for mut lane in lanes {
        let (make, next) = (make.clone(), next.clone());
        workers.spawn(async move {
            let (mut answered, mut bytes) = (Vec::new(), 0);
            while start.elapsed() < limits.time {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= limits.count {
                    break;
                }
                if let Some(pace) = limits.pace {
                    tokio::time::sleep_until((start + pace * number as u32).into()).await;
                }
                let call = make(number);
                let sent = Instant::now();
                bytes += lane.count(&call).await?;
                answered.push(Answered { number, sent, done: Instant::now() });
            }
            Ok::<_, Error>((answered, bytes))
        });
    }
    let whole = limits.time + PATIENCE;
    let joined = tokio::time::timeout(whole, join(workers, start)).await;
    joined.map_err(|_| Error::TimedOut { what: "a measure".to_owned(), seconds: whole.as_secs() })?
}

async fn join(mut workers: JoinSet<Result<(Vec<Answered>, u64), Error>>, start: Instant) -> Result<Outcome, Error> {
    let mut outcome = Outcome { answered: Vec::new(), bytes: 0, elapsed: Duration::ZERO };
    while let Some(worker) = workers.join_next().await {
        let (answered, bytes) = worker??;
        outcome.answered.extend(answered);
        outcome.bytes += bytes;
    }
    outcome.elapsed = start.elapsed();
    Ok(outcome)
}
