//! The worker's part in a resize: keeps what is allocated, and brings the pod's limits to it.
use std::sync::Arc;
use std::time::Duration;

use super::pass::Pass;
use super::{Desired, Done, Worker};
use crate::files::blocking;
use crate::pod;
use crate::pods::resize::{Allocation, Sizes, act, message, plan};

/// Key of `retry_at` for changes of limits, and for keeping what is allocated.
const RESIZE: &str = "/resize";
/// How long after a failure a resize is tried again: memory may have been freed.
const RETRY: Duration = Duration::from_secs(5);

/// How far a resize has come.
#[derive(Default)]
pub(super) struct Resize {
    /// Limits may differ from what is allocated.
    pass: Pass,
    /// What is allocated is not done yet; with the generation that asked for it.
    pub(super) in_progress: Option<Option<i64>>,
    /// Why that failed last.
    pub(super) error: Option<String>,
    /// What the pod's directory holds.
    kept: Option<Sizes>,
}

impl Worker {
    /// Takes over what is allocated to the pod.
    pub(super) fn take_allocation(&mut self, new: &Arc<Allocation>) {
        if self.allocation == *new {
            return;
        }
        if self.allocation.sizes != new.sizes {
            self.pod = new.sizes.apply(&self.pod);
            self.resize.pass.ask();
            self.resize.in_progress = Some(new.generation);
            self.resize.error = None;
            self.mounting.ask();
            self.retry_at.remove(RESIZE);
        }
        self.allocation = Arc::clone(new);
    }

    /// Finds what an earlier kubelet kept.
    pub(super) async fn recover_sizes(&mut self) {
        if self.seen.containers.is_empty() {
            return;
        }
        self.resize.pass.ask();
        let directory = self.context.pod_dir(pod::uid(&self.pod));
        self.resize.kept = blocking(move || Sizes::read(&directory)).await.ok().flatten();
    }

    /// Keeps what is allocated, where the spec does not tell it; nothing is done about it before that.
    pub(super) async fn keep_allocation(&mut self, desired: &Desired) {
        let sizes = &self.allocation.sizes;
        let is_told = self.resize.kept.is_none() && *sizes == Sizes::of(&desired.pod);
        if is_told || self.resize.kept.as_ref() == Some(sizes) || self.must_wait(RESIZE) {
            return;
        }
        let (sizes, directory) = (self.allocation.sizes.clone(), self.context.pod_dir(pod::uid(&self.pod)));
        let written = sizes.clone();
        match blocking(move || written.write(&directory)).await {
            Ok(()) => self.resize.kept = Some(sizes),
            Err(err) => {
                let why = format!("failed to keep what is allocated to the pod: {err}");
                self.resize_failed(why);
            }
        }
    }

    /// Changes limits that are not what is allocated.
    pub(super) fn sync_sizes(&mut self) {
        if !self.resize.pass.is_due() || self.must_wait(RESIZE) {
            return;
        }
        let plan = plan::plan(&self.pod, &self.seen, self.context.memory, self.context.pids_limit);
        if plan.is_done() {
            return self.resize_complete();
        }
        self.resize.in_progress.get_or_insert(self.allocation.generation);
        if plan.is_waiting() {
            return;
        }
        self.resize.pass.begin();
        let (runtime, seen) = (Arc::clone(&self.context.runtime), self.seen.clone());
        self.tasks.spawn(async move { Done::Resized(act::act(&*runtime, &seen, &plan).await) });
    }

    fn resize_complete(&mut self) {
        self.resize.pass.settle();
        self.resize.error = None;
        if let Some(generation) = self.resize.in_progress.take() {
            let message = message::completed(&self.pod, generation);
            self.context.event(&self.pod, "Normal", "ResizeCompleted", message);
        }
    }

    pub(super) fn resize_done(&mut self, result: Result<(), String>) {
        self.resize.pass.end_early();
        match result {
            Ok(()) => self.resize.error = None,
            Err(why) => self.resize_failed(why),
        }
    }

    fn resize_failed(&mut self, why: String) {
        self.retry_later(RESIZE, RETRY);
        let generation = *self.resize.in_progress.get_or_insert(self.allocation.generation);
        if self.resize.error.as_ref() != Some(&why) {
            let message = message::error(&self.pod, generation, &why);
            self.context.event(&self.pod, "Warning", "ResizeError", message);
            self.resize.error = Some(why);
        }
    }
}
