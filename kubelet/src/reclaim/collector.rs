//! Removes what nobody needs: unused images when the disk fills up, and directories and logs of pods that are gone
//! (upstream: ImageGCManager of pkg/kubelet/images and cleanupOrphanedPodDirs of pkg/kubelet).
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::context::Context;
use crate::node::machine;
use crate::pod;
use crate::pods::Pods;

const PERIOD: Duration = Duration::from_secs(300);

/// The collector.
pub(crate) struct Collector {
    context: Arc<Context>,
    pods: Pods,
}

impl Collector {
    pub(crate) fn new(context: Arc<Context>, pods: Pods) -> Self {
        Self { context, pods }
    }

    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let start = tokio::time::Instant::now() + PERIOD;
        let mut images = tokio::time::interval_at(start, PERIOD);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = images.tick() => {
                    self.collect_images().await;
                    self.collect_directories().await;
                }
            }
        }
    }

    async fn collect_images(&self) {
        let root = self.context.root_dir.as_path();
        let (high, low) = self.context.tuning.image_gc;
        let is_above = |used: u64| {
            machine::disk(root).is_some_and(|(size, free)| machine::is_short(size, free, 100_u64.saturating_sub(used)))
        };
        if !is_above(high) {
            return;
        }
        remove_unused_images(&self.context, &self.pods, || !is_above(low)).await;
    }

    /// Removes what a kubelet that was killed could not.
    async fn collect_directories(&self) {
        let uids: BTreeSet<String> = self.pods.list().iter().map(|known| pod::uid(&known.pod).to_owned()).collect();
        for name in names_in(&self.context.root_dir.join("pods")).await {
            if !uids.contains(&name) {
                let volumes = crate::volumes::Volumes::new(Arc::clone(&self.context));
                report(&name, volumes.tear_down(&name).await);
            }
        }
        for name in names_in(&self.context.log_dir).await {
            if !uids.iter().any(|uid| name.ends_with(&format!("_{uid}"))) {
                let directory = self.context.log_dir.join(&name);
                report(&name, crate::files::blocking(move || runtime::tree::remove(&directory)).await);
            }
        }
    }
}

/// Removes images that no pod names, until it is enough.
pub(super) async fn remove_unused_images(context: &Context, pods: &Pods, is_enough: impl Fn() -> bool) {
    let names: BTreeSet<String> = pods.list().iter().flat_map(|known| pod::images(&known.pod)).collect();
    let mut in_use = BTreeSet::new();
    for name in names {
        if let Ok(Some(image)) = context.runtime.image_status(&name).await {
            in_use.insert(image.id);
        }
    }
    for image in context.runtime.images().await.unwrap_or_default() {
        if is_enough() {
            break;
        }
        if in_use.contains(&image.id) {
            continue;
        }
        match context.runtime.remove_image(&image.id).await {
            Ok(()) => info!(image = image.id, "removed an unused image to free disk space"),
            Err(err) => warn!(image = image.id, error = &err as &dyn std::error::Error, "cannot remove an image"),
        }
    }
}

async fn names_in(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(directory).await else { return names };
    while let Ok(Some(entry)) = entries.next_entry().await {
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names
}

fn report(name: &str, result: Result<(), impl std::error::Error + 'static>) {
    match result {
        Ok(()) => info!(directory = name, "removed what a pod that is gone left behind"),
        Err(err) => warn!(directory = name, error = &err as &dyn std::error::Error, "cannot remove a pod's directory"),
    }
}
