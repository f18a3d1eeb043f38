//! Pods leave a node that runs short, before the kernel or a full disk takes what it likes (upstream:
//! pkg/kubelet/eviction/eviction_manager.go).
//!
//! ```text
//! config::evictions  how much must be left, for how long less is borne, how much is won back
//! observations       what is left of memory, disk, files and processes
//! state              which rules are broken since when -> conditions of the node, and what is due
//! ranking            which pod goes first
//! ```
//!
//! What is due is first looked for among things that nobody needs (images), then one pod is ended, and everything is
//! looked at again.

mod observations;
mod ranking;
mod state;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::observations::Observations;
use self::ranking::{Use, first_to_go};
use self::state::{Due, State};
use super::collector::remove_unused_images;
use super::storage::Meter;
use crate::context::Context;
use crate::pod;
use crate::pods::status::Verdict;
use crate::pods::{Known, Pods};
use crate::signals::Resource;

/// As upstream looks, when nothing is near.
const CALM: Duration = Duration::from_secs(10);
/// When a signal is near its threshold, or below.
const NEAR: Duration = Duration::from_secs(1);
/// An evicted pod has so long to be gone before the next is chosen.
const GONE: Duration = Duration::from_secs(30);
/// So many pods are measured at a time.
const AT_A_TIME: usize = 8;

/// Watches over the node.
pub(crate) struct Pressure {
    context: Arc<Context>,
    pods: Pods,
    state: State,
}

impl Pressure {
    pub(crate) fn new(context: Arc<Context>, pods: Pods) -> Self {
        Self { context, pods, state: State::default() }
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

    /// One look, what follows from it, and the wait for the next.
    async fn round(&mut self) {
        let rules = &self.context.tuning.evictions;
        let seen = Observations::take(&self.context).await;
        let due = self.state.look(rules, &seen, Instant::now());
        self.context.set_pressure(self.state.conditions());
        let Some(due) = due else {
            let pause = if rules.are_near(|signal| seen.get(signal)) { NEAR } else { CALM };
            return tokio::time::sleep(pause).await;
        };
        // Where nothing can be done, telling so every second helps nobody.
        let pause = if self.relieve(&due).await { NEAR } else { CALM };
        tokio::time::sleep(pause).await;
    }

    /// Makes room; answers whether it did.
    async fn relieve(&self, due: &Due) -> bool {
        let resource = due.signal.resource();
        warn!(signal = due.signal.name(), available = due.seen.available, "the node runs short");
        self.event(&format!("Attempting to reclaim {}", resource.name()));
        if resource.is_disk() && self.remove_images(due).await {
            return true;
        }
        let pods: Vec<Known> = self.pods.list().into_iter().filter(may_be_evicted).collect();
        let context = &self.context;
        let uses = stream::iter(pods).map(|known| measure(context, known, resource));
        let uses: Vec<Use> = uses.buffer_unordered(AT_A_TIME).collect().await;
        for one in first_to_go(uses, resource) {
            let verdict = one.verdict(due);
            let (uid, message) = (pod::uid(&one.pod).to_owned(), verdict.message.clone());
            if self.pods.evict(&uid, verdict) {
                self.context.event(&one.pod, "Warning", Verdict::EVICTED, message);
                self.wait_until_gone(&uid).await;
                return true;
            }
        }
        info!(resource = resource.name(), "no pod can be evicted");
        false
    }

    /// Removes images that no pod needs, until enough is won; answers whether it is.
    async fn remove_images(&self, due: &Due) -> bool {
        let is_enough = || due.is_relieved_by(&Observations::of_disk(&self.context));
        remove_unused_images(&self.context, &self.pods, is_enough).await;
        is_enough()
    }

    async fn wait_until_gone(&self, uid: &str) {
        let until = Instant::now() + GONE;
        while Instant::now() < until {
            let known = self.pods.list().into_iter().find(|known| pod::uid(&known.pod) == uid);
            if known.is_none_or(|known| known.report.ended) {
                return;
            }
            tokio::time::sleep(NEAR).await;
        }
    }

    fn event(&self, message: &str) {
        let name = self.context.node_name.clone();
        // As upstream: events about a node go by its name.
        let node = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(name.clone()),
            uid: Some(name),
            ..ObjectReference::default()
        };
        self.context.recorder.warning(node, "EvictionThresholdMet", message);
    }
}

fn may_be_evicted(known: &Known) -> bool {
    !known.report.ended && !pod::is_critical(&known.pod)
}

/// Measures what a pod uses of what is short.
async fn measure(context: &Context, known: Known, resource: Resource) -> Use {
    let mut containers = Vec::new();
    if resource.is_disk() {
        let usage = Meter::default().measure(context, &known).await;
        return Use { used: usage.total(), containers: usage.by_container(), pod: known.pod };
    }
    for container in known.report.seen.running() {
        let Ok(stats) = context.runtime.container_stats(&container.id).await else { continue };
        let used = if resource == Resource::Memory { Some(stats.memory_working_set) } else { stats.processes };
        containers.push((container.name.clone(), used.unwrap_or(0).into()));
    }
    Use { used: containers.iter().map(|(_, used)| used).sum(), containers, pod: known.pod }
}
