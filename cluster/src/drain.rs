//! Stopping what runs on this node, when the cluster goes down.

use std::sync::Arc;
use std::time::Duration;

use runtime::{ContainerState, Runtime};
use tokio::task::JoinSet;
use tracing::warn;

/// How long containers get to end by themselves.
const GRACE: Duration = Duration::from_secs(10);

/// Stops every container and sandbox of the runtime, all at once. Their pods stay in the API: the next kubelet starts
/// them again.
pub(crate) async fn stop_pods(runtime: Arc<dyn Runtime>) -> Result<usize, runtime::Error> {
    let mut stopping = JoinSet::new();
    for sandbox in runtime.sandboxes().await?.into_iter().filter(|sandbox| sandbox.ready) {
        let runtime = Arc::clone(&runtime);
        stopping.spawn(async move {
            let result = stop(&*runtime, &sandbox.id).await;
            if let Err(err) = result {
                warn!(pod = sandbox.config.name, error = &err as &dyn std::error::Error, "not stopped");
            }
        });
    }
    let mut stopped = 0;
    while stopping.join_next().await.is_some() {
        stopped += 1;
    }
    Ok(stopped)
}

async fn stop(runtime: &dyn Runtime, sandbox: &str) -> Result<(), runtime::Error> {
    let containers = runtime.containers(Some(sandbox)).await?;
    let running = containers.iter().filter(|container| matches!(container.state, ContainerState::Running { .. }));
    let stops = running.map(|container| runtime.stop_container(&container.id, GRACE));
    futures::future::try_join_all(stops).await?;
    runtime.stop_sandbox(sandbox).await
}
