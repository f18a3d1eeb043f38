//! Looks at what limited pods use, the sooner the faster it grows, and evicts those that are over a limit. While no pod
//! has a limit it sleeps.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Meter, exceeded, is_limited, share};
use crate::context::Context;
use crate::node::machine;
use crate::pod;
use crate::pods::{Known, Pods};

/// As upstream looks, when nothing happens.
const LONGEST: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_millis(250);
/// Between two looks the disk as a whole is watched, which costs one system call.
const GLANCE: Duration = Duration::from_secs(1);
/// So much less free space at once is reason to look.
const DROP: u64 = 64 << 20;

/// The monitor.
pub(crate) struct Monitor {
    context: Arc<Context>,
    pods: Pods,
    /// What is measured, by the pod's uid.
    meters: BTreeMap<String, Meter>,
}

impl Monitor {
    pub(crate) fn new(context: Arc<Context>, pods: Pods) -> Self {
        Self { context, pods, meters: BTreeMap::new() }
    }

    /// Runs until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.round() => {}
            }
        }
    }

    /// One look at every limited pod, and the wait for the next.
    async fn round(&mut self) {
        let started = Instant::now();
        let limited = |known: &Known| !known.report.ended && is_limited(&known.pod);
        let limited: Vec<Known> = self.pods.list().into_iter().filter(limited).collect();
        self.meters.retain(|uid, _| limited.iter().any(|known| pod::uid(&known.pod) == uid));
        if limited.is_empty() {
            return self.pods.arrival().await;
        }
        let mut next = LONGEST;
        for known in &limited {
            next = next.min(self.look(known).await);
        }
        self.wait(started.elapsed(), next).await;
    }

    /// Measures a pod and evicts it if it must; returns when to look again.
    async fn look(&mut self, known: &Known) -> Duration {
        let meter = self.meters.entry(pod::uid(&known.pod).to_owned()).or_default();
        let usage = meter.measure(&self.context, known).await;
        if let Some(verdict) = exceeded(&known.pod, &usage) {
            let (reason, message) = (verdict.reason.clone(), verdict.message.clone());
            if self.pods.evict(pod::uid(&known.pod), verdict) {
                self.context.event(&known.pod, "Warning", &reason, message);
            }
        }
        let (now, share) = (Instant::now(), share(&known.pod, &usage));
        let before = meter.last.replace((now, share));
        pause(before.map(|(at, before)| (now - at, before)), share)
    }

    /// Waits until it is time, a pod comes, or the disk fills up quickly; but never so little that looking takes more
    /// than a fifth of the time.
    async fn wait(&self, took: Duration, pause: Duration) {
        let free = self.free().await;
        let until = Instant::now() + pause;
        tokio::time::sleep(SHORTEST.max(took * 4)).await;
        while Instant::now() < until {
            if free.saturating_sub(self.free().await) > DROP {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until.min(Instant::now() + GLANCE)) => {}
                () = self.pods.arrival() => return,
            }
        }
    }

    async fn free(&self) -> u64 {
        let root = self.context.root_dir.clone();
        let free = move || Ok(machine::disk(Path::new(&root)).map_or(0, |(_, free)| free));
        crate::files::blocking(free).await.unwrap_or(0)
    }
}

/// When to look again at a pod that uses this share of its tightest limit, and used another some time ago: half way to
/// where it would be over it.
fn pause(before: Option<(Duration, f64)>, share: f64) -> Duration {
    // A pod that is seen for the first time may be busy filling its volumes.
    let Some((elapsed, before)) = before else { return GLANCE };
    let rate = (share - before) / elapsed.as_secs_f64().max(0.001);
    if rate <= 0.0 {
        return LONGEST;
    }
    let left = (1.0 - share).max(0.0) / rate / 2.0;
    Duration::try_from_secs_f64(left).unwrap_or(LONGEST).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_fast_is_looked_at_soon() {
        let check = |before: Option<f64>, share, expected: u64| {
            let before = before.map(|before| (Duration::from_secs(10), before));
            assert_eq!(pause(before, share), Duration::from_millis(expected), "{before:?} {share}");
        };
        check(None, 0.5, 1000);
        check(Some(0.5), 0.5, 10_000);
        check(Some(0.9), 0.1, 10_000);
        // A quarter in ten seconds leaves twenty for the half that is left.
        check(Some(0.25), 0.5, 10_000);
        check(Some(0.0), 0.8, 1250);
        check(Some(0.0), 0.999, 250);
        check(Some(0.0), 7.0, 250);
    }
}
