//! Removes what nobody needs: unused images when the disk fills up, and directories and logs of pods that are gone.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::context::Context;
use crate::node::machine;
use crate::pod;
use crate::pods::{Known, Pods};
use crate::storage;

const PERIOD: Duration = Duration::from_secs(300);
const LOG_PERIOD: Duration = Duration::from_secs(10);

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
        let mut logs = tokio::time::interval(LOG_PERIOD);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = images.tick() => {
                    self.collect_images().await;
                    self.collect_directories().await;
                }
                _ = logs.tick() => {
                    self.rotate_logs().await;
                    self.evict().await;
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
        let names: BTreeSet<String> = self
            .pods
            .list()
            .iter()
            .flat_map(|known| pod::containers(&known.pod))
            .filter_map(|(_, container)| container.image)
            .collect();
        let mut in_use = BTreeSet::new();
        for name in names {
            if let Ok(Some(image)) = self.context.runtime.image_status(&name).await {
                in_use.insert(image.id);
            }
        }
        for image in self.context.runtime.images().await.unwrap_or_default() {
            if !is_above(low) {
                break;
            }
            if in_use.contains(&image.id) {
                continue;
            }
            match self.context.runtime.remove_image(&image.id).await {
                Ok(()) => info!(image = image.id, "removed an unused image to free disk space"),
                Err(err) => warn!(image = image.id, error = &err as &dyn std::error::Error, "cannot remove an image"),
            }
        }
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
                report(&name, crate::volumes::blocking(move || runtime::tree::remove(&directory)).await);
            }
        }
    }

    /// Evicts pods that use more of the disk than they may.
    async fn evict(&self) {
        let limited = |known: &Known| !known.report.ended && storage::is_limited(&known.pod);
        for known in self.pods.list().into_iter().filter(limited) {
            let usage = storage::measure(&self.context, &known).await;
            if let Some(verdict) = storage::exceeded(&known.pod, &usage) {
                let (reason, message) = (verdict.reason.clone(), verdict.message.clone());
                if self.pods.evict(pod::uid(&known.pod), verdict) {
                    self.context.event(&known.pod, "Warning", &reason, message);
                }
            }
        }
    }

    async fn rotate_logs(&self) {
        for known in self.pods.list() {
            for container in known.report.seen.running() {
                let length = tokio::fs::metadata(&container.log_path).await.map_or(0, |file| file.len());
                if length < self.context.tuning.max_log {
                    continue;
                }
                if let Err(err) = rotate(&container.log_path, self.context.tuning.log_files).await {
                    warn!(log = %container.log_path.display(), error = &err as &dyn std::error::Error, "cannot rotate a log");
                } else if let Err(err) = self.context.runtime.reopen_log(&container.id).await {
                    warn!(container = container.id, error = &err as &dyn std::error::Error, "cannot reopen a log");
                }
            }
        }
    }
}

/// Moves `0.log` to `0.log.1`, that to `0.log.2`, and so on; of `kept` the oldest is dropped.
async fn rotate(log: &Path, kept: u32) -> std::io::Result<()> {
    let numbered = |number: u32| {
        let mut name = log.as_os_str().to_owned();
        name.push(format!(".{number}"));
        std::path::PathBuf::from(name)
    };
    for number in (1..kept.saturating_sub(1)).rev() {
        match tokio::fs::rename(numbered(number), numbered(number + 1)).await {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    tokio::fs::rename(log, numbered(1)).await
}

async fn names_in(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(directory).await else { return names };
    while let Ok(Some(entry)) = entries.next_entry().await {
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names
}

fn report(name: &str, result: std::io::Result<()>) {
    match result {
        Ok(()) => info!(directory = name, "removed what a pod that is gone left behind"),
        Err(err) => warn!(directory = name, error = &err as &dyn std::error::Error, "cannot remove a pod's directory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rotation_keeps_the_newest_logs() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        for round in 0..7 {
            std::fs::write(&log, round.to_string()).unwrap();
            rotate(&log, 5).await.unwrap();
        }
        assert_eq!(std::fs::read_to_string(directory.path().join("0.log.1")).unwrap(), "6");
        assert_eq!(names_in(directory.path()).await.len(), 4);
    }
}
