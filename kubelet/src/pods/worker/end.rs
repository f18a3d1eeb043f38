//! The end of a pod: why it stops, how, and what is left to clean up.
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio::time::Instant;

use super::{CLEANUP, Desired, Done, Stage, Worker};
use crate::failure::chain;
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
        if pod::deadline(&self.pod).is_some_and(|deadline| client::clock::now() >= deadline) {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.context.event(&self.pod, "Normal", "DeadlineExceeded", message.clone());
            self.verdict = Some(Verdict { reason: "DeadlineExceeded".to_owned(), message });
            return true;
        }
        false
    }

    pub(super) fn begin_stop(&mut self) {
        self.stage = Stage::Stopping;
        self.stopping_since = Some(Instant::now());
        self.cancel.cancel();
        self.probes.stop_all_but_readiness();
    }

    /// Stops what runs, in order; once nothing does, the pod is over.
    pub(super) fn stop_step(&mut self, desired: &Desired) {
        let seen = &self.seen;
        self.probes.retain(|id| seen.by_id(id).is_some_and(observed::is_running));
        let grace = self.grace(desired);
        let next: Vec<_> = stop_next(&self.pod, &self.seen)
            .into_iter()
            .map(|container| (container.name.clone(), container.id.clone()))
            .collect();
        for (name, id) in &next {
            // A start in flight notices its cancellation and then the container is stopped.
            if self.starting.contains(name) || self.must_wait(name) {
                continue;
            }
            let mut left = grace;
            match self.stopping.get(name) {
                Some(running) if *running <= grace => continue,
                Some(_) => {}
                None => {
                    let message = format!("Stopping container {name}");
                    self.context.container_event(&self.pod, name, "Normal", "Killing", message);
                    left = self.left_of(grace);
                }
            }
            self.stopping.insert(name.clone(), grace);
            self.stop_container(name, id, left);
        }
        let idle = self.stopping.is_empty() && self.starting.is_empty() && !self.sandbox_busy && !self.volumes_busy;
        if next.is_empty() && idle {
            self.probes.stop();
            self.stage = Stage::Stopped;
            self.ended = true;
            self.clean_up(desired);
        }
    }

    /// What is left of the pod's grace: sidecars are stopped after the others, and get the rest.
    fn left_of(&self, grace: Duration) -> Duration {
        const LEAST: Duration = Duration::from_secs(2);
        let elapsed = self.stopping_since.map_or(Duration::ZERO, |since| since.elapsed());
        grace.saturating_sub(elapsed).max(LEAST.min(grace))
    }

    fn grace(&self, desired: &Desired) -> Duration {
        if desired.gone && !pod::is_deleting(&self.pod) && !pod::is_static(&self.pod) {
            // Force-deleted: nobody waits for it.
            return Duration::from_secs(1);
        }
        if self.verdict.as_ref().is_some_and(Verdict::is_eviction) {
            return Duration::from_secs(1);
        }
        pod::grace(&self.pod).max(Duration::from_secs(1))
    }

    /// Takes down the sandbox; once the pod is to be deleted, removes everything of it but the object.
    pub(super) fn clean_up(&mut self, desired: &Desired) {
        let remove = desired.gone || pod::is_deleting(&self.pod);
        let done = match (desired.gone, remove) {
            (true, _) => self.cleaned,
            (false, true) => self.torn_down,
            (false, false) => self.sandbox_stopped || self.seen.live_sandbox().is_none(),
        };
        if self.cleaning || done || self.must_wait(CLEANUP) {
            return;
        }
        self.cleaning = true;
        let runtime = Arc::clone(&self.context.runtime);
        let volumes = Arc::clone(&self.volumes);
        let sandboxes: Vec<String> = self.seen.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
        let uid = pod::uid(&self.pod).to_owned();
        let logs = self.context.pod_log_dir(&self.pod);
        let gone = desired.gone;
        self.tasks.spawn(async move {
            let result = async {
                for id in &sandboxes {
                    runtime.stop_sandbox(id).await.map_err(|err| chain(&err))?;
                }
                if !remove {
                    return Ok(());
                }
                volumes.tear_down(&uid).await.map_err(|err| err.to_string())?;
                if gone {
                    for id in &sandboxes {
                        runtime.remove_sandbox(id).await.map_err(|err| chain(&err))?;
                    }
                    remove_logs(logs).await.map_err(|err| err.to_string())?;
                }
                Ok(())
            };
            Done::Cleaned { removed: remove, gone, result: result.await }
        });
    }

    pub(super) fn clean_done(&mut self, removed: bool, gone: bool, result: Result<(), String>) {
        self.cleaning = false;
        match result {
            Ok(()) => {
                self.sandbox_stopped = true;
                self.torn_down |= removed;
                self.cleaned |= gone;
            }
            Err(reason) => {
                let message = format!("error killing pod: {reason}");
                self.context.event(&self.pod, "Warning", "FailedKillPod", message);
                self.retry_later(CLEANUP, Duration::from_secs(2));
            }
        }
    }

    /// Deletes the object itself, once its last status is written and nothing of it is left.
    pub(super) fn delete_when_done(&mut self, desired: &Desired) {
        let wanted = pod::is_deleting(&self.pod) && !desired.gone && !pod::is_static(&self.pod);
        if !wanted || !self.torn_down || self.deleting || !self.publisher.is_idle() || self.must_wait(DELETE) {
            return;
        }
        self.deleting = true;
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
        match result {
            Ok(()) => {}
            Err(err) if client::write::is_not_found(&err) || client::write::is_conflict(&err) => {}
            Err(err) => {
                tracing::warn!(
                    pod = pod::describe(&self.pod),
                    error = &err as &dyn std::error::Error,
                    "cannot delete a pod"
                );
                self.deleting = false;
                self.retry_later(DELETE, Duration::from_secs(1));
            }
        }
    }
}

/// Key of `retry_at` for the final deletion.
const DELETE: &str = "/delete";

async fn remove_logs(directory: std::path::PathBuf) -> std::io::Result<()> {
    crate::files::blocking(move || runtime::tree::remove(&directory)).await
}
