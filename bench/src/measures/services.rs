//! What a Service costs those who use it: pages that are asked for by way of it, and the same pages from its pods.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Error;
use crate::budget;
use crate::measures::Context;
use crate::measures::lost::{self, Loss, Lost};
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
    for (lost, count) in lost {
        table.notes.push(format!("{what}: {count} pages were lost: {lost}"));
    }
}

/// What became of many requests.
#[derive(Debug, Default)]
struct Outcome {
    took: Vec<Duration>,
    lost: BTreeMap<Lost, u64>,
    bytes: u64,
    time: Duration,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        for (lost, count) in other.lost {
            *self.lost.entry(lost).or_default() += count;
        }
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
                    Err(lost) => *outcome.lost.entry(lost).or_default() += 1,
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
    let timeline = web.timeline().await?;
    let end = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(ask_until(web.service, Arc::clone(&end)));
    }
    let start = Instant::now();
    for number in 0..ROLLS {
        web.roll(number).await?;
    }
    let time = start.elapsed() / ROLLS as u32;
    end.store(true, Ordering::Relaxed);
    let (mut took, mut losses) = (Vec::new(), Vec::new());
    while let Some(one) = clients.join_next().await {
        let (answered, lost) = one?;
        took.extend(answered);
        losses.extend(lost);
    }
    let took: Latencies = took.into_iter().collect();
    let mut table = context.table();
    table.add(format!("rolling update of {REPLICAS} pods"), time.as_secs_f64(), "s", None);
    table.add(format!("pages during {ROLLS} of them"), took.len() as f64, "", None);
    table.add("pages lost", losses.len() as f64, "", budget::LOST);
    for (lost, count) in lost::counts(&losses) {
        table.add(format!("pages lost, {lost}"), count as f64, "", None);
    }
    if let Some(value) = took.milliseconds(1.0) {
        table.add("slowest page", value, "ms", None);
    }
    table.notes.extend(lost::story(&losses, &timeline.events(), start));
    drop(table);
    web.remove().await
}

/// Asks for one small page after another until it is told to end.
async fn ask_until(service: SocketAddr, end: Arc<AtomicBool>) -> (Vec<Duration>, Vec<Loss>) {
    let (mut took, mut losses) = (Vec::new(), Vec::new());
    while !end.load(Ordering::Relaxed) {
        let sent = Instant::now();
        match fetch(service, Page::Small).await {
            Ok(_) => took.push(sent.elapsed()),
            Err(lost) => losses.push(Loss { lost, sent, ended: Instant::now() }),
        }
        tokio::time::sleep(PAUSE).await;
    }
    (took, losses)
}
