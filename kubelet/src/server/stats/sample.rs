//! What pods and their containers use, read once for all who want to know.
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use runtime::{ContainerState, ContainerStatus, SandboxStatus, Stats};

use super::super::Shared;
use crate::pod;
use crate::pods::{Known, observed};

/// All pods with something that runs.
#[derive(Debug, Default)]
pub(super) struct Sample {
    pub(super) pods: Vec<PodUse>,
    /// Whether the runtime could not tell of something that still runs.
    pub(super) failed: bool,
}

/// A pod.
#[derive(Debug)]
pub(super) struct PodUse {
    pub(super) pod: Pod,
    pub(super) sandbox: SandboxStatus,
    pub(super) at: Timestamp,
    pub(super) stats: Option<Stats>,
    pub(super) containers: Vec<ContainerUse>,
}

/// A container that runs.
#[derive(Debug)]
pub(super) struct ContainerUse {
    pub(super) status: ContainerStatus,
    pub(super) started: Timestamp,
    /// When it was measured.
    pub(super) at: Timestamp,
    pub(super) stats: Stats,
}

impl PodUse {
    pub(super) fn namespace(&self) -> &str {
        pod::namespace(&self.pod)
    }

    pub(super) fn name(&self) -> &str {
        pod::name(&self.pod)
    }

    pub(super) fn started(&self) -> Timestamp {
        observed::timestamp(self.sandbox.created_at)
    }
}

/// Measures everything that runs.
pub(super) async fn take(shared: &Shared) -> Sample {
    let mut sample = Sample::default();
    for known in shared.pods.list() {
        if let Some(sandbox) = known.report.seen.live_sandbox().cloned() {
            let pod = sample.pod(shared, known, sandbox).await;
            sample.pods.push(pod);
        }
    }
    sample
}

impl Sample {
    async fn pod(&mut self, shared: &Shared, known: Known, sandbox: SandboxStatus) -> PodUse {
        let mut containers = Vec::new();
        for container in known.report.seen.running() {
            let ContainerState::Running { started_at, .. } = container.state else { continue };
            let stats = shared.context.runtime.container_stats(&container.id).await;
            let (status, started) = (container.clone(), observed::timestamp(started_at));
            if let Some(stats) = self.note(stats) {
                containers.push(ContainerUse { status, started, at: client::clock::now(), stats });
            }
        }
        let stats = shared.context.runtime.sandbox_stats(&sandbox.id).await;
        let (stats, at) = (self.note(stats), client::clock::now());
        PodUse { pod: known.pod, sandbox, at, stats, containers }
    }

    /// What ended a moment ago has no usage; that is no failure.
    fn note(&mut self, stats: Result<Stats, runtime::Error>) -> Option<Stats> {
        if let Err(err) = &stats {
            tracing::debug!(error = err as &dyn std::error::Error, "something was not measured");
            self.failed |= !matches!(err, runtime::Error::NotFound { .. } | runtime::Error::WrongState { .. });
        }
        stats.ok()
    }
}
