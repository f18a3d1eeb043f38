//! Stopping what runs on this node, when the cluster goes down.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::Context as _;
use kubelet::{Ending, Limits};
use runtime::local::{Config, LocalRuntime, NetworkConfig};
use runtime::{ContainerState, ContainerStatus, Runtime, SandboxStatus};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

/// What a pod asks for where nobody has written down how much: as upstream, what it gets when it says nothing.
const GRACE: Duration = Duration::from_secs(30);
/// What pods get at most where nobody says so.
const MOST: Duration = Duration::from_secs(300);
/// How often one hears of the progress.
const TELL: Duration = Duration::from_secs(2);
/// Pods that a message names.
const NAMED: usize = 5;

/// How long containers get to end by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grace {
    /// So long.
    Each(Duration),
    /// As long as their pods ask for, and no longer than that.
    OwnUpTo(Duration),
}

impl Grace {
    fn of(self, container: &ContainerStatus) -> Duration {
        match self {
            Self::Each(grace) => grace,
            Self::OwnUpTo(most) => kubelet::recorded_grace(container).unwrap_or(GRACE).min(most),
        }
    }
}

/// The pods of a node whose kubelet has ended.
#[derive(Clone, Debug, clap::Args)]
pub struct NodePods {
    /// Where the kubelet kept images and containers.
    #[arg(long, default_value = "/var/lib/coracle/runtime")]
    pub runtime_root: PathBuf,
    /// Where the kubelet kept volumes and files of pods.
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub kubelet_root: PathBuf,
    /// Name of the network bridge of this node's pods.
    #[arg(long, default_value = "coracle0")]
    pub bridge: String,
    /// Seconds that containers get to end by themselves [default: what their pods ask for, at most 300].
    #[arg(long)]
    pub grace_period: Option<u64>,
    /// Remove their containers and cgroups too, instead of leaving them to the next kubelet on this node.
    #[arg(long)]
    pub remove: bool,
}

impl NodePods {
    /// Stops them, and says how many there were; `say` gets lines about the progress.
    pub async fn stop(self, say: impl Fn(String)) -> anyhow::Result<usize> {
        // Nothing begins to run, so nothing needs a network or the images of some registry.
        let config = Config {
            root: self.runtime_root,
            run: Path::new("/run/coracle").join(&self.bridge),
            network: NetworkConfig {
                table: format!("{}-pods", self.bridge),
                bridge: self.bridge,
                ..NetworkConfig::default()
            },
            ..Config::new()?
        };
        let runtime = Arc::new(LocalRuntime::open(config).await.context("container runtime")?);
        let grace = self.grace_period.map_or(Grace::OwnUpTo(MOST), |seconds| Grace::Each(Duration::from_secs(seconds)));
        let stopped = stop_pods(Arc::clone(&runtime), grace, &say).await.context("stop pods")?;
        unmount_volumes(&self.kubelet_root).await?;
        if self.remove {
            for sandbox in runtime.sandboxes().await? {
                runtime
                    .remove_sandbox(&sandbox.id)
                    .await
                    .with_context(|| format!("remove pod {}", sandbox.config.name))?;
            }
        }
        Ok(stopped)
    }
}

/// Stops every container and sandbox of the runtime, all at once, and takes down their network; says how many were
/// stopped. Their pods stay in the API: the next kubelet starts them again.
pub(crate) async fn stop_pods(
    runtime: Arc<LocalRuntime>,
    grace: Grace,
    say: &impl Fn(String),
) -> anyhow::Result<usize> {
    let mut stopping = JoinSet::new();
    let mut waiting = BTreeSet::new();
    for sandbox in runtime.sandboxes().await?.into_iter().filter(|sandbox| sandbox.ready) {
        let (runtime, name) = (Arc::clone(&runtime), pod_name(&sandbox));
        waiting.insert(name.clone());
        stopping.spawn(async move { (name, stop(&*runtime, &sandbox.id, grace).await) });
    }
    let total = waiting.len();
    let mut failed = BTreeSet::new();
    let mut ticks = tokio::time::interval_at(Instant::now() + TELL, TELL);
    while !stopping.is_empty() {
        tokio::select! {
            _ = ticks.tick() => say(progress(total, &waiting)),
            ended = stopping.join_next() => {
                let Some(Ok((name, result))) = ended else { continue };
                waiting.remove(&name);
                if let Err(err) = result {
                    warn!(pod = name, error = &err as &dyn std::error::Error, "not stopped");
                    failed.insert(name);
                }
            }
        }
    }
    // A task that panicked has left its pod where it was.
    failed.extend(waiting);
    anyhow::ensure!(failed.is_empty(), "{} of {total} pods are not stopped: {}", failed.len(), listed(&failed));
    runtime.take_down_network().await?;
    Ok(total)
}

/// Has a kubelet end its pods within the limits; says how many there were, or `None` where it does not answer.
pub(crate) async fn end_pods(ending: &Ending, limits: Limits, say: &impl Fn(String)) -> Option<usize> {
    let (seen, mut progress) = (ending.progress(), ending.progress());
    ending.begin(limits);
    let late = tokio::time::sleep(limits.bound());
    let over = progress.wait_for(|progress| progress.is_over);
    tokio::pin!(late, over);
    let mut ticks = tokio::time::interval_at(Instant::now() + TELL, TELL);
    loop {
        tokio::select! {
            biased;
            ended = &mut over => return ended.ok().map(|progress| progress.total),
            () = &mut late => return None,
            _ = ticks.tick() => {
                let now = seen.borrow().clone();
                if !now.waiting.is_empty() {
                    say(self::progress(now.total, &now.waiting));
                }
            }
        }
    }
}

/// `1 pod`, `2 pods`.
pub(crate) fn pods(count: usize) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("{count} pods") }
}

fn progress(total: usize, waiting: &BTreeSet<String>) -> String {
    format!("{} of {} stopped; waiting for {}", total - waiting.len(), pods(total), listed(waiting))
}

/// The first few names, and how many more there are.
fn listed(names: &BTreeSet<String>) -> String {
    let mut text = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}

fn pod_name(sandbox: &SandboxStatus) -> String {
    format!("{}/{}", sandbox.config.namespace, sandbox.config.name)
}

/// What would be left running if this process ended at once.
#[derive(Default)]
pub struct Left {
    cluster: OnceLock<(String, Weak<LocalRuntime>)>,
}

impl Left {
    /// Begins to look at the pods of a node, which `coracle <command>` runs.
    pub(crate) fn watch(&self, command: &str, data_dir: &Path, bridge: &str, runtime: Arc<LocalRuntime>) {
        let data = data_dir.display();
        let ways = format!(
            "  `coracle {command} --data-dir {data} --bridge {bridge}`, with the other options of this one, takes them up again\n  \
             `coracle stop-pods --runtime-root {data}/runtime --bridge {bridge}` stops them"
        );
        // A process runs one cluster.
        let _first = self.cluster.set((ways, Arc::downgrade(&runtime)));
    }

    /// The pods that run now.
    pub(crate) fn pods(&self) -> BTreeSet<String> {
        let runtime = self.cluster.get().and_then(|(_, runtime)| runtime.upgrade());
        let ready = runtime.map(|runtime| runtime.ready_sandboxes()).unwrap_or_default();
        ready.iter().map(pod_name).collect()
    }

    /// The last words of a process that ends without stopping its pods.
    pub fn last_words(&self) -> String {
        let pods = self.pods();
        match self.cluster.get() {
            Some((ways, _)) if !pods.is_empty() => {
                let keep = if pods.len() == 1 { "keeps" } else { "keep" };
                format!("ended at once; {} {keep} running: {}\n{ways}", self::pods(pods.len()), listed(&pods))
            }
            _ => "ended at once; no pod is left running".to_owned(),
        }
    }
}

/// Lets go of the volumes that pods have in memory, so that what is secret in them is gone with the pods.
pub(crate) async fn unmount_volumes(kubelet_root: &Path) -> anyhow::Result<()> {
    let root = kubelet_root.to_owned();
    let unmounted = tokio::task::spawn_blocking(move || kubelet::volumes::unmount_all(&root)).await?;
    unmounted.with_context(|| format!("unmount volumes below {}", kubelet_root.display()))
}

async fn stop(runtime: &dyn Runtime, sandbox: &str, grace: Grace) -> Result<(), runtime::Error> {
    let containers = runtime.containers(Some(sandbox)).await?;
    let running = containers.iter().filter(|container| matches!(container.state, ContainerState::Running { .. }));
    let stops = running.map(|container| runtime.stop_container(&container.id, grace.of(container)));
    futures::future::try_join_all(stops).await?;
    runtime.stop_sandbox(sandbox).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_how_many_are_stopped_and_names_some_that_are_not() {
        let names = |count: usize| (0..count).map(|number| format!("d/p{number}")).collect::<BTreeSet<_>>();
        assert_eq!(progress(9, &names(2)), "7 of 9 pods stopped; waiting for d/p0, d/p1");
        assert!(progress(9, &names(8)).ends_with("d/p4 and 3 more"));
        assert!(progress(1, &names(1)).starts_with("0 of 1 pod stopped"));
    }

    #[test]
    fn a_container_has_the_grace_that_its_pod_asks_for_up_to_a_limit() {
        let container = |grace: Option<&str>| ContainerStatus {
            id: "c".into(),
            sandbox: "s".into(),
            name: "c".into(),
            attempt: 0,
            state: ContainerState::Created,
            created_at: std::time::SystemTime::UNIX_EPOCH,
            image: String::new(),
            image_ref: String::new(),
            labels: Default::default(),
            annotations: grace
                .map(|grace| ("io.kubernetes.pod.terminationGracePeriod".to_owned(), grace.to_owned()))
                .into_iter()
                .collect(),
            log_path: PathBuf::new(),
        };
        let up_to = |most, grace| Grace::OwnUpTo(Duration::from_secs(most)).of(&container(grace)).as_secs();
        assert_eq!([up_to(300, Some("120")), up_to(60, Some("120")), up_to(300, None)], [120, 60, 30]);
        assert_eq!([up_to(300, Some("0")), up_to(300, Some("-1")), up_to(300, Some("x"))], [0, 30, 30]);
        assert_eq!(Grace::Each(Duration::from_secs(1)).of(&container(Some("120"))).as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kubelet_that_does_not_answer_is_waited_for_no_longer_than_its_pods_have() {
        let limits = Limits { all: Duration::from_secs(5), critical: Duration::from_secs(1) };
        let begun = Instant::now();
        assert_eq!(end_pods(&Ending::default(), limits, &|_line: String| {}).await, None);
        assert_eq!(begun.elapsed(), limits.bound());
    }

    #[test]
    fn nothing_is_left_where_nothing_was_started() {
        assert_eq!(Left::default().last_words(), "ended at once; no pod is left running");
    }
}
