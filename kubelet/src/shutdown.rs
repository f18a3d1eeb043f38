//! Stopping every pod of a node, for whoever takes the whole node down.
use std::time::Duration;

use futures::future::join_all;
use runtime::{Error, Runtime};

use crate::seen;

/// Stops all containers within `grace` and takes down all sandboxes. Their records and the API's objects stay: a kubelet
/// started later brings the pods back. Call it when no kubelet runs.
pub async fn stop_pods(runtime: &dyn Runtime, grace: Duration) -> Result<(), Error> {
    let containers = runtime.containers(None).await?;
    let running = containers.iter().filter(|container| seen::is_running(container));
    for stopped in join_all(running.map(|container| runtime.stop_container(&container.id, grace))).await {
        stopped?;
    }
    let sandboxes = runtime.sandboxes().await?;
    let live = sandboxes.iter().filter(|sandbox| sandbox.ready);
    for stopped in join_all(live.map(|sandbox| runtime.stop_sandbox(&sandbox.id))).await {
        stopped?;
    }
    Ok(())
}
