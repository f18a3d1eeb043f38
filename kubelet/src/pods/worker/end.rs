//! The end of a pod: why it stops, how, and what is left to clean up (upstream: SyncTerminatingPod and
//! SyncTerminatedPod of pkg/kubelet).
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio::time::Instant;

use super::stage::{Cause, Cleanup, Extent, Stage, Stopping};
use super::{CLEANUP, Desired, Done, Worker};
use crate::failure::Failure;
use crate::files::blocking;
use crate::pod;
use crate::pods::actions::stop_next;
use crate::pods::observed;
use crate::pods::status::Verdict;

impl Worker {
    /// Whether the pod must not go on.
    pub(super) fn should_stop(&mut self, desired: &Desired) -> bool {
        if desired.gone || pod::is_deleting(&self.pod) || self.verdict.is_some() || pod::is_terminal(&self.pod) {
            return true;
        }
        if desired.ending.is_some() {
            self.leaving = true;
            return true;
        }
        if pod::deadline(&self.pod).is_some_and(|deadline| client::clock::now() >= deadline) {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.context.event(&self.pod, "Normal", "DeadlineExceeded", message.clone());
            self.verdict = Some(Verdict::new("DeadlineExceeded", message));
            return true;
        }
        false
    }

    pub(super) fn begin_stop(&mut self, cause: Cause) {
        let Stage::Syncing(syncing) = &self.stage else { return };
        self.stage = Stage::Stopping(syncing.stop(cause));
        self.probes.stop_all_but_readiness();
    }

    /// Stops what runs, in order; once nothing does, the pod is over.
    pub(super) fn stop_step(&mut self, desired: &Desired, stopping: Stopping) {
        let seen = &self.seen;
        self.probes.retain(|id| seen.by_id(id).is_some_and(observed::is_running));
        let grace = self.grace(desired);
        let next: Vec<_> = stop_next(&self.pod, &self.seen)
            .into_iter()
            .map(|container| (container.name.clone(), container.id.clone()))
            .collect();
        for (name, id) in &next {
            // A start in flight notices its cancellation and then the container is stopped.
            if self.flight.starting.contains(name) || self.must_wait(name) {
                continue;
            }
            let mut left = grace;
            match self.flight.stopping.get(name) {
                Some(running) if *running <= grace => continue,
                Some(_) => {}
                None => {
                    let message = format!("Stopping container {name}");
                    self.context.container_event(&self.pod, name, "Normal", "Killing", message);
                    left = left_of(grace, stopping.since);
                }
            }
            self.flight.stopping.insert(name.clone(), grace);
            self.stop_container(name, id, left);
        }
        if next.is_empty() && self.flight.is_empty() && !self.mounting.is_running() {
            self.probes.stop();
            self.clean_up(desired, stopping.stopped());
        }
    }

    fn grace(&self, desired: &Desired) -> Duration {
        let most = desired.ending.unwrap_or(Duration::MAX).max(LEAST_GRACE);
        self.own_grace(desired).min(most)
    }

    fn own_grace(&self, desired: &Desired) -> Duration {
        if desired.gone && !pod::is_deleting(&self.pod) && !pod::is_static(&self.pod) {
            // Force-deleted: nobody waits for it.
            return LEAST_GRACE;
        }
        if let Some(grace) = self.verdict.as_ref().and_then(|verdict| verdict.grace) {
            return grace;
        }
        pod::grace(&self.pod).max(LEAST_GRACE)
    }

    /// Takes down the sandbox; once the pod is to be deleted, removes everything of it but the object.
    pub(super) fn clean_up(&mut self, desired: &Desired, cleanup: Cleanup) {
        self.stage = Stage::Stopped(cleanup);
        let to = self.extent(desired);
        let Some(begun) = cleanup.begin(to) else { return };
        if self.must_wait(CLEANUP) {
            return;
        }
        self.stage = Stage::Stopped(begun);
        let (runtime, volumes) = (Arc::clone(&self.context.runtime), Arc::clone(&self.volumes));
        let sandboxes: Vec<String> = self.seen.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
        let (uid, logs) = (pod::uid(&self.pod).to_owned(), self.context.pod_log_dir(&self.pod));
        let take_down = async move {
            for id in &sandboxes {
                runtime.stop_sandbox(id).await.map_err(failed)?;
            }
            volumes.release(&uid).await.map_err(failed)?;
            if to >= Extent::Directories {
                volumes.tear_down(&uid).await.map_err(failed)?;
            }
            if to >= Extent::Records {
                for id in &sandboxes {
                    runtime.remove_sandbox(id).await.map_err(failed)?;
                }
                blocking(move || runtime::tree::remove(&logs)).await.map_err(failed)?;
            }
            Ok(())
        };
        self.tasks.spawn(async move { Done::Cleaned(take_down.await) });
    }

    /// How much of the pod is to be taken down now.
    fn extent(&self, desired: &Desired) -> Extent {
        if desired.gone {
            Extent::Records
        } else if pod::is_deleting(&self.pod) {
            Extent::Directories
        } else if self.seen.live_sandbox().is_some() || self.context.csi.mounts.holds(pod::uid(&self.pod)) {
            Extent::Sandbox
        } else {
            Extent::Nothing
        }
    }

    /// Whether nothing of the pod runs, and as much is taken down as is to be, or can be now.
    pub(super) fn is_at_rest(&self, desired: &Desired) -> bool {
        let Stage::Stopped(Cleanup::Reached(reached)) = self.stage else { return false };
        reached >= self.extent(desired) || self.retry_at.contains_key(CLEANUP)
    }

    pub(super) fn clean_done(&mut self, result: Result<(), Failure>) {
        self.end_clean_up(result.is_ok());
        if let Err(failure) = result {
            let message = format!("error killing pod: {}", failure.message);
            self.context.event(&self.pod, "Warning", failure.reason, message);
            self.retry_later(CLEANUP, Duration::from_secs(2));
        }
    }

    fn end_clean_up(&mut self, succeeded: bool) {
        if let Stage::Stopped(cleanup) = self.stage {
            self.stage = Stage::Stopped(cleanup.end(succeeded));
        }
    }

    /// Deletes the object itself, once its last status is written and nothing of it is left.
    pub(super) fn delete_when_done(&mut self, desired: &Desired) {
        let Stage::Stopped(cleanup @ Cleanup::Reached(Extent::Directories)) = self.stage else { return };
        let wanted = pod::is_deleting(&self.pod) && !desired.gone && !pod::is_static(&self.pod);
        let Some(begun) = cleanup.begin(Extent::Object).filter(|_| wanted && self.publisher.is_idle()) else { return };
        if self.must_wait(DELETE) {
            return;
        }
        self.stage = Stage::Stopped(begun);
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), pod::namespace(&self.pod));
        let name = pod::name(&self.pod).to_owned();
        let uid = Some(pod::uid(&self.pod).to_owned());
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::default()
        };
        self.tasks.spawn(async move { Done::Deleted(api.delete(&name, &params).await.map(drop)) });
    }

    pub(super) fn delete_done(&mut self, result: kube::Result<()>) {
        let failed = result.err().filter(|err| !(client::write::is_not_found(err) || client::write::is_conflict(err)));
        self.end_clean_up(failed.is_none());
        if let Some(err) = failed {
            let (pod, error) = (pod::describe(&self.pod), &err as &dyn std::error::Error);
            tracing::warn!(pod, error, "cannot delete a pod");
            self.retry_later(DELETE, Duration::from_secs(1));
        }
    }
}

/// No pod has less.
const LEAST_GRACE: Duration = Duration::from_secs(1);
/// Key of `retry_at` for the final deletion.
const DELETE: &str = "/delete";

/// What is left of the pod's grace: sidecars are stopped after the others, and get the rest.
fn left_of(grace: Duration, since: Instant) -> Duration {
    const LEAST: Duration = Duration::from_secs(2);
    grace.saturating_sub(since.elapsed()).max(LEAST.min(grace))
}

fn failed(err: impl std::error::Error) -> Failure {
    Failure::by("FailedKillPod", &err)
}
