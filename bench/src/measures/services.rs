//! What a Service costs those who use it: pages that are asked for by way of it, and the same pages from its pods.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Error;
use crate::budget;
use crate::measures::Context;
use crate::measures::web::{Page, Web, fetch};
use crate::statistics::{Latencies, per_second};

const REPLICAS: usize = 4;
/// Turns of one way and the other, so that what else the machine does is shared by both.
const TURNS: u32 = 4;
/// Large pages in flight.
const LARGE_IN_FLIGHT: usize = 2;
/// Rolling updates under load.
const ROLLS: usize = 3;
/// Clients of a rolling update, and the pause of each after a page.
const CLIENTS: usize = 16;
const PAUSE: Duration = Duration::from_millis(10);

/// The two ways to the same pods.
const WAYS: [&str; 2] = ["direct", "by Service"];

/// Throughput and latency by way of a Service, and direct.
pub(super) async fn cost(context: &Context<'_>) -> Result<(), Error> {
    let Some(image) = image(context, "Services") else { return Ok(()) };
    let web = Web::start(context.cluster, "service", &image, REPLICAS).await?;
    let targets = [web.addresses().await?, vec![web.service]].map(Arc::<[SocketAddr]>::from);
    let time = context.options.time() / TURNS;
    for (what, page, workers) in [
        ("one at a time", Page::Small, 1),
        ("in flight", Page::Small, context.options.in_flight),
        ("large pages", Page::Large, LARGE_IN_FLIGHT),
    ] {
        let mut outcomes = [Outcome::default(), Outcome::default()];
        for _ in 0..TURNS {
            for (outcome, targets) in outcomes.iter_mut().zip(&targets) {
                outcome.add(load(targets, page, workers, time).await?);
            }
        }
        for (way, outcome) in WAYS.into_iter().zip(outcomes) {
            tell(context, &format!("{way}, {what}"), page, outcome);
        }
    }
    web.remove().await
}

fn image(context: &Context<'_>, what: &str) -> Option<String> {
    if context.options.pods_image.is_none() {
        context.skip(format!("{what} skipped: give --pods-image IMAGE, one of busybox"));
    }
    context.options.pods_image.clone()
}

fn tell(context: &Context<'_>, what: &str, page: Page, outcome: Outcome) {
    let (count, lost, time, bytes) = (outcome.took.len(), outcome.lost, outcome.time, outcome.bytes);
    let took: Latencies = outcome.took.into_iter().collect();
    let mut table = context.table();
    if page == Page::Large {
        table.add(format!("{what}, throughput"), per_second(bytes as f64 / 1e6, time), "MB/s", None);
    } else {
        table.add(format!("{what}, pages"), per_second(count as f64, time), "/s", None);
        for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
            if let Some(value) = took.milliseconds(part) {
                table.add(format!("{what}, {name}"), value, "ms", None);
            }
        }
    }
    if lost > 0 {
        table.notes.push(format!("{what}: {lost} pages were lost"));
    }
}

/// What became of many requests.
#[derive(Debug, Default)]
struct Outcome {
    took: Vec<Duration>,
    lost: u64,
    bytes: u64,
    time: Duration,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.lost += other.lost;
        self.bytes += other.bytes;
        self.time += other.time;
    }
}

/// Fetches pages from the targets in turn for some time.
async fn load(targets: &Arc<[SocketAddr]>, page: Page, workers: usize, time: Duration) -> Result<Outcome, Error> {
    let (start, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut all = JoinSet::new();
    for _ in 0..workers {
        let (targets, next) = (Arc::clone(targets), Arc::clone(&next));
        all.spawn(async move {
            let mut outcome = Outcome::default();
            while start.elapsed() < time {
                let target = targets[next.fetch_add(1, Ordering::Relaxed) % targets.len()];
                let sent = Instant::now();
                match fetch(target, page).await {
                    Ok(bytes) => {
                        outcome.bytes += bytes;
                        outcome.took.push(sent.elapsed());
                    }
                    Err(_) => outcome.lost += 1,
                }
            }
            outcome
        });
    }
    let mut outcome = Outcome::default();
    while let Some(one) = all.join_next().await {
        outcome.add(one?);
    }
    outcome.time = start.elapsed();
    Ok(outcome)
}

/// Rolling updates while pages are asked for: none may be lost.
pub(super) async fn rollout(context: &Context<'_>) -> Result<(), Error> {
    let Some(image) = image(context, "rolling updates") else { return Ok(()) };
    let web = Web::start(context.cluster, "rollout", &image, REPLICAS).await?;
    let (end, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (service, end, lost) = (web.service, Arc::clone(&end), Arc::clone(&lost));
        clients.spawn(async move {
            let mut took = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let sent = Instant::now();
                match fetch(service, Page::Small).await {
                    Ok(_) => took.push(sent.elapsed()),
                    Err(_) => {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
            took
        });
    }
    let start = Instant::now();
    for number in 0..ROLLS {
        web.roll(number).await?;
    }
    let time = start.elapsed() / ROLLS as u32;
    end.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    while let Some(one) = clients.join_next().await {
        took.extend(one?);
    }
    let took: Latencies = took.into_iter().collect();
    let mut table = context.table();
    table.add(format!("rolling update of {REPLICAS} pods"), time.as_secs_f64(), "s", None);
    table.add(format!("pages during {ROLLS} of them"), took.len() as f64, "", None);
    table.add("pages lost", lost.load(Ordering::Relaxed) as f64, "", budget::LOST);
    if let Some(value) = took.milliseconds(1.0) {
        table.add("slowest page", value, "ms", None);
    }
    drop(table);
    web.remove().await
}
