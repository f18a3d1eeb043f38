//! Writes the pod's status: one write at a time, only what changed, never to a namesake (upstream: pkg/kubelet/status).
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{Patch, PatchParams};
use tracing::warn;

use super::pass::Pass;
use super::{Desired, Done, Report, Worker};
use crate::pod;
use crate::pods::status::{self, Facts, patch};

/// Key of `retry_at` for a status write.
const WRITE: &str = "/status";

/// The state of status writes.
#[derive(Default)]
pub(super) struct Publisher {
    pass: Pass,
    /// The pod is gone, or another has its name.
    refused: bool,
    /// The status sent last, and the version of the object it made.
    last: Option<(PodStatus, Option<String>)>,
}

impl Publisher {
    /// Whether the API has the newest status.
    pub(super) fn is_idle(&self) -> bool {
        self.pass == Pass::Settled
    }
}

/// Whether `left` is an older version of the same object than `right`.
pub(super) fn is_older(left: &Pod, right: &Pod) -> bool {
    let version = |pod: &Pod| pod.metadata.resource_version.as_ref().and_then(|version| version.parse::<u64>().ok());
    match (version(left), version(right)) {
        (Some(left_version), Some(right_version)) => pod::uid(left) == pod::uid(right) && left_version < right_version,
        _ => false,
    }
}

impl Worker {
    /// Makes the status, shows it to readers in this process and writes it if it changed.
    pub(super) fn tell(&mut self, desired: &Desired) {
        let (health, ended) = (self.probes.health(), self.stage.has_ended());
        let facts = Facts {
            pod: &self.pod,
            seen: &self.seen,
            health: &health,
            starting: &self.flight.starting,
            waiting: &self.waiting,
            messages: &self.messages,
            verdict: self.verdict.as_ref(),
            ended,
            condemned: &self.condemned,
            resize: status::Resize {
                pending: self.allocation.pending.as_ref(),
                in_progress: self.resize.in_progress,
                error: self.resize.error.as_deref(),
            },
            node_ips: &self.context.node_ips,
            now: client::clock::now(),
        };
        let status = status::build(&facts);
        let at_rest = self.is_at_rest(desired);
        self.report.send_replace(Report { seen: self.seen.clone(), status: status.clone(), ended, at_rest });
        if desired.gone || self.publisher.refused {
            return;
        }
        // What is interrupted is not over: the next kubelet says how it goes on.
        let interrupted = self.leaving && !pod::is_deleting(&self.pod);
        self.write(if interrupted { status::leaving(&self.pod, client::clock::now()) } else { status });
        self.delete_when_done(desired);
    }

    fn write(&mut self, status: PodStatus) {
        // A static pod's status goes to its mirror, and only while there is one.
        let target = if pod::is_static(&self.pod) { self.mirror.clone() } else { Some(Arc::clone(&self.pod)) };
        let Some(target) = target else { return };
        let old = pod::status(&target);
        // What the server stores may differ from what it was sent; that is no reason to send it again.
        let sent = self.publisher.last.as_ref();
        if sent.is_some_and(|(sent, version)| *sent == status && *version == target.metadata.resource_version) {
            self.publisher.pass.settle();
            return;
        }
        let Some(body) = patch::status_patch(pod::uid(&target), old, &status) else {
            self.publisher.pass.settle();
            return;
        };
        self.publisher.pass.ask();
        if !self.publisher.pass.is_due() || self.must_wait(WRITE) {
            return;
        }
        self.publisher.pass.begin();
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), pod::namespace(&target));
        let name = pod::name(&target).to_owned();
        self.tasks.spawn(async move {
            let result = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(body)).await;
            Done::Published { status, result }
        });
    }

    pub(super) fn publish_done(&mut self, status: PodStatus, result: kube::Result<Pod>) {
        self.publisher.pass.end_early();
        if let Ok(written) = &result {
            self.publisher.last = Some((status.clone(), written.metadata.resource_version.clone()));
        }
        match result {
            Ok(written) if pod::is_static(&self.pod) => {
                let mut pod = Pod::clone(&self.pod);
                pod.status = Some(status);
                self.pod = Arc::new(pod);
                self.mirror = Some(Arc::new(written));
            }
            Ok(written) => {
                if !is_older(&written, &self.pod) {
                    self.pod = self.allocation.sizes.apply(&Arc::new(written));
                }
            }
            // There is nobody to tell.
            Err(err) if client::write::is_not_found(&err) => self.publisher.refused = true,
            Err(err) => {
                warn!(
                    pod = pod::describe(&self.pod),
                    error = &err as &dyn std::error::Error,
                    "cannot write a pod's status"
                );
                self.retry_later(WRITE, Duration::from_secs(1));
            }
        }
    }
}
