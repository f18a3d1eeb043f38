//! Stopping what runs on this node, when the cluster goes down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use runtime::local::{Config, LocalRuntime, NetworkConfig};
use runtime::{ContainerState, Runtime};
use tokio::task::JoinSet;
use tracing::warn;

/// How long containers get to end by themselves.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// The pods of a node whose kubelet has ended.
#[derive(Clone, Debug, clap::Args)]
pub struct NodePods {
    /// Where the kubelet kept images and containers.
    #[arg(long, default_value = "/var/lib/coracle/runtime")]
    pub runtime_root: PathBuf,
    /// Name of the network bridge of this node's pods.
    #[arg(long, default_value = "coracle0")]
    pub bridge: String,
    /// Seconds that containers get to end by themselves.
    #[arg(long, default_value_t = GRACE.as_secs())]
    pub grace_period: u64,
    /// Remove their containers and cgroups too, instead of leaving them to the next kubelet on this node.
    #[arg(long)]
    pub remove: bool,
}

impl NodePods {
    /// Stops them, and says how many there were.
    pub async fn stop(self) -> anyhow::Result<usize> {
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
        let stopped =
            stop_pods(Arc::clone(&runtime), Duration::from_secs(self.grace_period)).await.context("stop pods")?;
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

/// Stops every container and sandbox of the runtime, all at once, and takes down their network. Their pods stay in the
/// API: the next kubelet starts them again.
pub(crate) async fn stop_pods(runtime: Arc<LocalRuntime>, grace: Duration) -> Result<usize, runtime::Error> {
    let mut stopping = JoinSet::new();
    for sandbox in runtime.sandboxes().await?.into_iter().filter(|sandbox| sandbox.ready) {
        let runtime = Arc::clone(&runtime);
        stopping.spawn(async move {
            let result = stop(&*runtime, &sandbox.id, grace).await;
            if let Err(err) = result {
                warn!(pod = sandbox.config.name, error = &err as &dyn std::error::Error, "not stopped");
            }
        });
    }
    let mut stopped = 0;
    while stopping.join_next().await.is_some() {
        stopped += 1;
    }
    runtime.take_down_network().await?;
    Ok(stopped)
}

async fn stop(runtime: &dyn Runtime, sandbox: &str, grace: Duration) -> Result<(), runtime::Error> {
    let containers = runtime.containers(Some(sandbox)).await?;
    let running = containers.iter().filter(|container| matches!(container.state, ContainerState::Running { .. }));
    let stops = running.map(|container| runtime.stop_container(&container.id, grace));
    futures::future::try_join_all(stops).await?;
    runtime.stop_sandbox(sandbox).await
}
