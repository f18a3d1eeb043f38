//! Carries out a [`Plan`]: cgroups of the pod and its containers, in order (upstream: doPodResizeAction of
//! pkg/kubelet/kuberuntime).
use std::collections::BTreeMap;

use runtime::{Resources, Runtime};

use super::plan::Plan;
use crate::containers::labels::RESOURCES;
use crate::failure::chain;
use crate::pods::observed::Seen;

/// Changes what can be changed now. Errors are in upstream's words.
pub(crate) async fn act(runtime: &dyn Runtime, seen: &Seen, plan: &Plan) -> Result<(), String> {
    let Some(sandbox) = seen.live_sandbox() else { return Ok(()) };
    check_memory(runtime, seen, plan).await?;
    limit_pod(runtime, &sandbox.id, plan.before.as_ref()).await?;
    for change in &plan.containers {
        let sizes = serde_json::to_string(&change.sizes).map_err(|err| err.to_string())?;
        let noted = BTreeMap::from([(RESOURCES.to_owned(), sizes)]);
        let changed = runtime.update_container(&change.id, &change.resources, &noted).await;
        changed.map_err(|err| format!("failed to resize container {:?}: {}", change.name, chain(&err)))?;
    }
    limit_pod(runtime, &sandbox.id, plan.after.as_ref()).await
}

async fn limit_pod(runtime: &dyn Runtime, sandbox: &str, limits: Option<&Resources>) -> Result<(), String> {
    let Some(limits) = limits else { return Ok(()) };
    let changed = runtime.update_sandbox(sandbox, limits).await;
    changed.map_err(|err| format!("failed to resize the pod: {}", chain(&err)))
}

/// A limit below what is in use would kill a container: nothing changes then. What can be dropped is not in use.
async fn check_memory(runtime: &dyn Runtime, seen: &Seen, plan: &Plan) -> Result<(), String> {
    if plan.shrinks.is_empty() {
        return Ok(());
    }
    let mut pod_usage = 0;
    for container in seen.running() {
        let stats = runtime.container_stats(&container.id).await.map_err(|err| chain(&err))?;
        let usage = i64::try_from(stats.memory_working_set).unwrap_or(i64::MAX);
        pod_usage += usage;
        if let Some(limit) = plan.shrinks.get(&container.name).filter(|limit| **limit < usage) {
            let name = &container.name;
            return Err(format!(
                "attempting to set container {name:?} memory limit ({limit}) below current usage ({usage})"
            ));
        }
    }
    match plan.shrinks.get("") {
        Some(limit) if *limit < pod_usage => {
            Err(format!("attempting to set pod memory limit ({limit}) below current usage ({pod_usage})"))
        }
        _ => Ok(()),
    }
}
