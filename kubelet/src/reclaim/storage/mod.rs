//! Local storage limits: a pod that writes more than its emptyDir volumes or `ephemeral-storage` limits allow is
//! evicted (upstream: localStorageEviction of pkg/kubelet/eviction).
//!
//! What counts is what is in its directories, however deep, and what has no name there any more but is still open.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use runtime::Unlinked;
use runtime::walk::Walk;
use tokio::time::Instant;

use crate::context::Context;
use crate::files::blocking;
use crate::pods::Known;
use crate::pods::status::Verdict;
use crate::volumes::empty_dir;
use crate::{pod, resources};

mod monitor;

pub(crate) use monitor::Monitor;

/// What is over a limit has this long to end, as upstream's.
const AT_ONCE: Duration = Duration::from_secs(1);
const RESOURCE: &str = "ephemeral-storage";
/// Entries of one directory tree that a look goes through; of a larger one the next look sees more.
const ENTRIES: usize = 100_000;

/// Bytes that a pod uses, as far as something limits them.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Of emptyDir volumes on disk.
    volumes: BTreeMap<String, i128>,
    /// Of containers: the writable layer and the logs.
    containers: BTreeMap<String, i128>,
}

/// The measurements of one pod, over several looks.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// By directory.
    trees: BTreeMap<PathBuf, Tree>,
    /// When it was looked at last, and the share of its limit that it used.
    last: Option<(Instant, f64)>,
}

/// A directory that is measured, perhaps in several looks.
#[derive(Debug, Default)]
struct Tree {
    walk: Walk,
    /// What the last walk found that saw all of it.
    whole: u64,
}

impl Meter {
    /// Measures a pod.
    pub(crate) async fn measure(&mut self, context: &Context, known: &Known) -> Usage {
        let (mut usage, mut counted) = (Usage::default(), BTreeSet::new());
        for (name, _) in on_disk(&known.pod) {
            let path = empty_dir::path(context, &known.pod, name);
            usage.volumes.insert(name.to_owned(), self.tree(path).await);
        }
        for container in known.report.seen.running() {
            let layer = context.runtime.layer_usage(&container.id).await.map_or(0, i128::from);
            let logs = match container.log_path.parent() {
                Some(logs) => self.tree(logs.to_owned()).await,
                None => 0,
            };
            *usage.containers.entry(container.name.clone()).or_default() += layer + logs;
            for file in context.runtime.unlinked_files(&container.id).await.unwrap_or_default() {
                if counted.insert(file.identity) {
                    usage.add_unlinked(&file, &container.name, &context.pod_dir(pod::uid(&known.pod)));
                }
            }
        }
        usage
    }

    /// What a directory's files take: the last walk through all of it, or what the one under way has found if that is
    /// more already.
    async fn tree(&mut self, path: PathBuf) -> i128 {
        let mut tree = self.trees.remove(&path).unwrap_or_default();
        let root = path.clone();
        let walked = blocking(move || {
            // What cannot be measured keeps its last measure.
            let step = tree.walk.step(&root, ENTRIES);
            if let Ok(Some(whole)) = step {
                tree.whole = whole;
            }
            Ok(tree)
        });
        let Ok(tree) = walked.await else { return 0 };
        let bytes = tree.whole.max(tree.walk.so_far());
        self.trees.insert(path, tree);
        i128::from(bytes)
    }
}

impl Usage {
    /// Of the pod as a whole.
    pub(super) fn total(&self) -> i128 {
        self.volumes.values().chain(self.containers.values()).sum()
    }

    /// Of each container, without the volumes.
    pub(super) fn by_container(self) -> Vec<(String, i128)> {
        self.containers.into_iter().collect()
    }

    /// Counts a file where it was: in a volume that is on disk, or in the container.
    fn add_unlinked(&mut self, file: &Unlinked, container: &str, pod_dir: &Path) {
        let bytes = i128::from(file.bytes);
        let Some(directory) = &file.volume else {
            *self.containers.entry(container.to_owned()).or_default() += bytes;
            return;
        };
        if let Some(volume) = empty_dir_of(directory, pod_dir)
            && let Some(used) = self.volumes.get_mut(volume)
        {
            *used += bytes;
        }
    }
}

/// The emptyDir volume that a mounted directory is (in). The kernel names the directory from the root of its file system,
/// which may be mounted anywhere: the pod's own directory is what both names have.
fn empty_dir_of<'a>(directory: &'a Path, pod_dir: &Path) -> Option<&'a str> {
    let names: Vec<&str> = directory.iter().filter_map(|name| name.to_str()).collect();
    let uid = pod_dir.file_name()?.to_str()?;
    let at = names.windows(3).position(|three| three == [uid, "volumes", empty_dir::DIRECTORY])?;
    names.get(at + 3).copied()
}

/// Whether anything limits what the pod writes to the node's disk.
pub(crate) fn is_limited(pod: &Pod) -> bool {
    on_disk(pod).any(|(_, limit)| limit.is_some())
        || pod::containers(pod).iter().any(|(_, container)| limit(container).is_some())
}

/// The limit that the pod exceeds, if it does, in upstream's words.
pub(crate) fn exceeded(pod: &Pod, usage: &Usage) -> Option<Verdict> {
    let evicted = |message: String| Some(Verdict::evicted(message, AT_ONCE));
    for (name, limit) in on_disk(pod) {
        let used = usage.volumes.get(name).copied().unwrap_or(0);
        if let Some(limit) = limit.filter(|limit| is_over(used, limit)) {
            return evicted(format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\". ", limit.0));
        }
    }
    let containers = pod::containers(pod);
    let total: Option<i128> =
        pod::spec(pod).containers.iter().map(|container| limit(container).and_then(resources::value)).sum();
    let used = usage.total();
    if let Some(total) = total.filter(|total| used > *total) {
        return evicted(format!("Pod ephemeral local storage usage exceeds the total limit of containers {total}. "));
    }
    containers.iter().find_map(|(_, container)| {
        let used = usage.containers.get(&container.name).copied().unwrap_or(0);
        let limit = limit(container).filter(|limit| is_over(used, limit))?;
        evicted(format!("Container {} exceeded its local ephemeral storage limit \"{}\". ", container.name, limit.0))
    })
}

/// How much of its tightest limit the pod uses: 1 is all of it.
pub(crate) fn share(pod: &Pod, usage: &Usage) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share of bytes needs no more precision")]
    let of = |used: i128, limit: i128| if limit > 0 { used as f64 / limit as f64 } else { 0.0 };
    let value = |limit: Option<&Quantity>| limit.and_then(resources::value).unwrap_or(0);
    let volumes = on_disk(pod).map(|(name, limit)| of(usage.volumes.get(name).copied().unwrap_or(0), value(limit)));
    let containers = pod::containers(pod).into_iter().map(|(_, container)| {
        of(usage.containers.get(&container.name).copied().unwrap_or(0), value(limit(&container)))
    });
    let total: i128 = pod::spec(pod).containers.iter().map(|container| value(limit(container))).sum();
    let used = usage.total();
    volumes.chain(containers).chain([of(used, total)]).fold(0.0, f64::max)
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
    fn a_file_without_a_name_counts_where_it_was() {
        let pod_dir = Path::new("/data/kubelet/pods/uid-1");
        let mut usage = Usage { volumes: [("v".to_owned(), 1)].into(), ..Usage::default() };
        for (volume, bytes) in [
            (None, 10),
            (Some("/kubelet/pods/uid-1/volumes/kubernetes.io~empty-dir/v"), 100),
            (Some("/pods/uid-1/volumes/kubernetes.io~empty-dir/v/sub/path"), 1000),
            (Some("/pods/uid-2/volumes/kubernetes.io~empty-dir/v"), 10_000),
            (Some("/pods/uid-1/volumes/kubernetes.io~secret/v"), 100_000),
            (Some("/home"), 1_000_000),
        ] {
            let file = Unlinked { identity: (0, 0), bytes, volume: volume.map(PathBuf::from) };
            usage.add_unlinked(&file, "c", pod_dir);
        }
        assert_eq!((usage.volumes["v"], usage.containers["c"]), (1101, 10));
    }

    #[tokio::test]
    async fn a_directory_takes_what_its_files_do_and_is_measured_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut meter = Meter::default();
        let path = directory.path().join("volume");
        assert_eq!(meter.tree(path.clone()).await, 0);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("f"), vec![1; 100_000]).unwrap();
        assert!(meter.tree(path.clone()).await >= 100_000);
        std::fs::remove_file(path.join("f")).unwrap();
        assert!(meter.tree(path).await < 90_000);
    }

    #[test]
    fn the_tightest_limit_counts() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p"},
            "spec": {
                "containers": [{"name": "c", "resources": {"limits": {"ephemeral-storage": "1000"}}}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "100"}}, {"name": "w", "emptyDir": {}}]
            }
        }))
        .unwrap();
        let used = |volume, container| Usage {
            volumes: [("v".to_owned(), volume)].into(),
            containers: [("c".to_owned(), container)].into(),
        };
        assert!((share(&pod, &used(50, 100)) - 0.5).abs() < 0.001);
        assert!((share(&pod, &used(10, 800)) - 0.81).abs() < 0.001);
    }
}
