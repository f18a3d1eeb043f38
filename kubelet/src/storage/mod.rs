//! Local storage limits: a pod that writes more than its emptyDir volumes or `ephemeral-storage` limits allow is evicted.
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::context::Context;
use crate::pod;
use crate::pods::Known;
use crate::resources;
use crate::status::Verdict;
use crate::volumes::{self, blocking};

const RESOURCE: &str = "ephemeral-storage";

/// Bytes that a pod uses, as far as something limits them.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Of emptyDir volumes on disk.
    volumes: BTreeMap<String, i128>,
    /// Of containers: the writable layer and the logs.
    containers: BTreeMap<String, i128>,
}

/// Whether anything limits what the pod writes to the node's disk.
pub(crate) fn is_limited(pod: &Pod) -> bool {
    on_disk(pod).any(|(_, limit)| limit.is_some())
        || pod::containers(pod).iter().any(|(_, container)| limit(container).is_some())
}

/// Measures a pod.
pub(crate) async fn measure(context: &Context, known: &Known) -> Usage {
    let mut usage = Usage::default();
    for (name, _) in on_disk(&known.pod) {
        let path = volumes::empty_dir_path(context, &known.pod, name);
        let bytes = blocking(move || disk_usage(&path)).await.unwrap_or(0);
        usage.volumes.insert(name.to_owned(), bytes);
    }
    for container in known.report.seen.running() {
        let layer =
            context.runtime.container_stats(&container.id).await.map_or(0, |stats| i128::from(stats.rootfs_bytes));
        let logs = container.log_path.parent().map(Path::to_owned);
        let logs = blocking(move || logs.map_or(Ok(0), |logs| disk_usage(&logs))).await.unwrap_or(0);
        usage.containers.insert(container.name.clone(), layer + logs);
    }
    usage
}

/// The limit that the pod exceeds, if it does, in upstream's words.
pub(crate) fn exceeded(pod: &Pod, usage: &Usage) -> Option<Verdict> {
    let evicted = |message: String| Some(Verdict { reason: Verdict::EVICTED.to_owned(), message });
    for (name, limit) in on_disk(pod) {
        let used = usage.volumes.get(name).copied().unwrap_or(0);
        if let Some(limit) = limit.filter(|limit| is_over(used, limit)) {
            return evicted(format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\". ", limit.0));
        }
    }
    let containers = pod::containers(pod);
    let total: Option<i128> =
        pod::spec(pod).containers.iter().map(|container| limit(container).and_then(resources::value)).sum();
    let used: i128 = usage.volumes.values().chain(usage.containers.values()).sum();
    if let Some(total) = total.filter(|total| used > *total) {
        return evicted(format!("Pod ephemeral local storage usage exceeds the total limit of containers {total}. "));
    }
    containers.iter().find_map(|(_, container)| {
        let used = usage.containers.get(&container.name).copied().unwrap_or(0);
        let limit = limit(container).filter(|limit| is_over(used, limit))?;
        evicted(format!("Container {} exceeded its local ephemeral storage limit \"{}\". ", container.name, limit.0))
    })
}

fn is_over(used: i128, limit: &Quantity) -> bool {
    resources::value(limit).is_some_and(|limit| limit > 0 && used > limit)
}

fn limit(container: &Container) -> Option<&Quantity> {
    resources::limits(container).get(RESOURCE)
}

/// The pod's emptyDir volumes on disk, with their limits; those in memory are limited by their file system.
fn on_disk(pod: &Pod) -> impl Iterator<Item = (&str, Option<&Quantity>)> {
    pod::spec(pod).volumes.iter().flatten().filter_map(|volume| {
        let source = volume.empty_dir.as_ref().filter(|source| source.medium.as_deref() != Some("Memory"))?;
        Some((volume.name.as_str(), source.size_limit.as_ref()))
    })
}

/// Bytes of the blocks that a directory's files occupy. What vanishes meanwhile counts nothing.
fn disk_usage(directory: &Path) -> io::Result<i128> {
    let mut total = 0;
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        total += i128::from(metadata.blocks()) * 512;
        if metadata.is_dir() {
            let Ok(entries) = fs::read_dir(&path) else { continue };
            left.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(volume: i128, container: i128, expected: Option<&str>) {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p"},
            "spec": {
                "containers": [{"name": "c", "resources": {"limits": {"ephemeral-storage": "2Mi"}}}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1"}}]
            }
        }))
        .unwrap();
        assert!(is_limited(&pod));
        let usage =
            Usage { volumes: [("v".to_owned(), volume)].into(), containers: [("c".to_owned(), container)].into() };
        assert_eq!(exceeded(&pod, &usage).map(|verdict| verdict.message).as_deref(), expected);
    }

    #[test]
    fn every_limit_evicts_with_upstreams_words() {
        check(1 << 20, 1 << 20, None);
        check((1 << 20) + 1, 0, Some("Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "));
        check(
            1 << 20,
            (1 << 20) + 1,
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 2097152. "),
        );
    }

    #[test]
    fn a_directory_occupies_what_its_files_do() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("d")).unwrap();
        let before = disk_usage(directory.path()).unwrap();
        fs::write(directory.path().join("d/f"), vec![1; 100_000]).unwrap();
        assert!(disk_usage(directory.path()).unwrap() >= before + 90_000);
        assert_eq!(disk_usage(&directory.path().join("none")).unwrap(), 0);
    }
}
