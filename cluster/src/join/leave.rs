//! A node leaves its cluster: no more pods come, those that are there go elsewhere, and nothing is left on the machine
//! (upstream: `kubectl drain`, then `kubeadm reset`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{Server, write};
use daemon::LiveIdentity;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use super::admission;
use super::kept::Files;
use crate::control;
use crate::drain::NodePods;
use crate::node::NodeOptions;

/// Wait before one looks again whether pods have gone.
const PAUSE: Duration = Duration::from_millis(500);
/// The API server may be gone for good: leaving must not wait for it for longer.
const LATE: Duration = Duration::from_secs(10);
/// Marks a copy of a pod that this node runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// How a node leaves.
#[derive(Clone, Debug, clap::Args)]
pub struct LeaveOptions {
    #[command(flatten)]
    pub node: NodeOptions,
    /// Seconds that pods get to go elsewhere.
    #[arg(long, default_value_t = 60)]
    pub timeout: u64,
    /// Leave even if pods have not gone, or nobody answers.
    #[arg(long)]
    pub force: bool,
    /// Kubeconfig of an administrator, by whom the Node is deleted: nodes may not delete themselves.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// Leaves; `say` gets each line for the user.
pub async fn leave(mut options: LeaveOptions, say: impl Fn(String)) -> anyhow::Result<()> {
    options.node.check()?;
    let data_dir = options.node.data_dir.clone();
    let files = Files::in_data_dir(&data_dir);
    let kept = files.read()?.with_context(|| format!("no node that has joined is in {}", data_dir.display()))?;
    ensure!(rustix::process::geteuid().is_root(), "a node is root's: run this with sudo");
    let node = kept.node.clone();
    let drained = async {
        let identity = Arc::new(LiveIdentity::default());
        identity.set(&std::fs::read_to_string(files.client())?)?;
        let server = Server { url: admission::server(&kept.server)?, authorities: Some(kept.authorities()?) };
        drain(&server.connect_as(identity, "coracle-leave")?, &node, options.timeout, &say).await
    };
    if let Err(err) = drained.await {
        let err = err.context(format!("pods of node {node} have not gone (--force leaves all the same)"));
        if !options.force {
            return Err(err);
        }
        say(format!("{err:#}"));
    }
    control::end(&data_dir).await.context("end the node's process")?;
    let pods = NodePods {
        runtime_root: data_dir.join("runtime"),
        kubelet_root: data_dir.join("kubelet"),
        bridge: options.node.bridge.clone(),
        grace_period: None,
        remove: true,
    };
    pods.stop(&say).await?;
    let tunnel = options.node.tunnel_name();
    let routes = kept.network()?.routes(&options.node, &node);
    network::cleanup(&routes).await.with_context(|| format!("remove routes and {tunnel}"))?;
    policy::cleanup(&options.node.policy_table()).await?;
    proxy::cleanup(&options.node.table()).await?;
    match &options.kubeconfig {
        Some(path) => {
            let nodes: Api<Node> = Api::all(client::connect(Some(path), "coracle-leave").await?);
            write::ignore_not_found(nodes.delete(&node, &DeleteParams::default()).await).context("delete the Node")?;
            say(format!("node {node} has left"));
        }
        None => say(format!("node {node} has left; on the control plane: kubectl delete node {node}")),
    }
    files.remove()
}

/// Has no more pods come, and those that are there go.
async fn drain(client: &kube::Client, node: &str, timeout: u64, say: &impl Fn(String)) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let cordon = Patch::Strategic(json!({"spec": {"unschedulable": true}}));
    in_time(nodes.patch(node, &PatchParams::default(), &cordon)).await.context("mark the node unschedulable")?;
    let all: Api<Pod> = Api::all(client.clone());
    let here = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let deadline = Instant::now() + Duration::from_secs(timeout);
    let mut told = usize::MAX;
    loop {
        let pods = in_time(all.list(&here)).await.context("list the node's pods")?;
        let going: Vec<&Pod> = pods.items.iter().filter(|pod| must_go(pod)).collect();
        if going.is_empty() {
            return Ok(());
        }
        if going.len() != told {
            told = going.len();
            say(format!("waiting for {} to go", crate::drain::pods(told)));
        }
        let names: Vec<&str> = going.iter().filter_map(|pod| pod.metadata.name.as_deref()).take(5).collect();
        ensure!(Instant::now() < deadline, "after {timeout} s there are still {told}: {}", names.join(", "));
        for pod in going.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            evict(client, pod).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks one pod to go; a budget may say that it is too early.
async fn evict(client: &kube::Client, pod: &Pod) -> anyhow::Result<()> {
    let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
    let name = name.unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.unwrap_or_default());
    match in_time(pods.evict(name, &EvictParams::default())).await {
        Err(kube::Error::Api(status)) if [404, 429].contains(&status.code) => Ok(()),
        asked => asked.map(drop).with_context(|| format!("evict {name}")),
    }
}

/// Pods of DaemonSets would come back, and copies of static pods are not the API's to move; both end with the node.
fn must_go(pod: &Pod) -> bool {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let is_daemon = owners.iter().any(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true));
    let is_mirror = pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !is_daemon && !is_mirror && !matches!(phase, Some("Succeeded" | "Failed"))
}

async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = |_| kube::Error::Service("the API server does not answer".into());
    tokio::time::timeout(LATE, request).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_go_that_can_run_elsewhere() {
        let daemon =
            json!([{"kind": "DaemonSet", "controller": true, "apiVersion": "apps/v1", "name": "d", "uid": "1"}]);
        let set = json!([{"kind": "ReplicaSet", "controller": true, "apiVersion": "apps/v1", "name": "d", "uid": "1"}]);
        for (pod, expected) in [
            (json!({"metadata": {"ownerReferences": set}}), true),
            (json!({"metadata": {}}), true),
            (json!({"metadata": {"ownerReferences": daemon}}), false),
            (json!({"metadata": {"annotations": {MIRROR: "x"}}}), false),
            (json!({"metadata": {}, "status": {"phase": "Succeeded"}}), false),
        ] {
            assert_eq!(must_go(&serde_json::from_value(pod.clone()).unwrap()), expected, "{pod}");
        }
    }
}
