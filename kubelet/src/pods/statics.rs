//! Static pods: manifests in a directory of the node, and their copies in the API (upstream: pkg/kubelet/config/file.go
//! and pkg/kubelet/pod/mirror_client.go).
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use notify::RecursiveMode;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::changes::Changes;
use crate::context::Context;
use crate::pod::{self, CONFIG_HASH, CONFIG_MIRROR, CONFIG_SOURCE};

/// Mirrors that are missing or stale are looked for this often, beside every change of the directory.
const RESYNC: Duration = Duration::from_secs(20);

/// Watching the directory failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The directory cannot be watched.
    #[error("watch {path}")]
    Watch {
        /// The directory.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: notify::Error,
    },
}

/// Follows the directory.
pub(crate) struct Watcher {
    path: PathBuf,
    context: Arc<Context>,
    pods: watch::Sender<BTreeMap<String, Arc<Pod>>>,
}

impl Watcher {
    /// Nothing is read before [`Watcher::run`].
    pub(crate) fn new(path: PathBuf, context: Arc<Context>, pods: watch::Sender<BTreeMap<String, Arc<Pod>>>) -> Self {
        Self { path, context, pods }
    }

    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let failed = |source| Error::Watch { path: self.path.clone(), source };
        let mut changes = Changes::of(&self.path, RecursiveMode::NonRecursive).map_err(failed)?;
        let mut resync = tokio::time::interval(RESYNC);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = changes.next() => {}
                _ = resync.tick() => {}
            }
            let pods = self.read();
            self.sync_mirrors(&pods).await;
            self.pods.send_if_modified(|known| {
                let changed = *known != pods;
                *known = pods;
                changed
            });
        }
    }

    fn read(&self) -> BTreeMap<String, Arc<Pod>> {
        let mut pods = BTreeMap::new();
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
            if hidden || !path.is_file() {
                continue;
            }
            match parse(&path, &self.context.node_name) {
                Ok(pod) => {
                    pods.insert(pod::uid(&pod).to_owned(), Arc::new(pod));
                }
                Err(reason) => warn!(file = %path.display(), reason, "not a pod manifest"),
            }
        }
        pods
    }

    /// Makes the API show every static pod, and no others.
    async fn sync_mirrors(&self, pods: &BTreeMap<String, Arc<Pod>>) {
        let Some(node) = self.context.node() else { return };
        let old: Vec<_> = self.pods.borrow().values().cloned().collect();
        let gone = old.iter().filter(|pod| !pods.contains_key(pod::uid(pod)));
        for pod in gone {
            let kept = pods
                .values()
                .any(|kept| pod::name(kept) == pod::name(pod) && pod::namespace(kept) == pod::namespace(pod));
            if !kept {
                self.delete_mirror(pod).await;
            }
        }
        for pod in pods.values() {
            if let Err(err) = self.ensure_mirror(pod, node.metadata.uid.as_deref().unwrap_or_default()).await {
                warn!(
                    pod = pod::describe(pod),
                    error = &err as &dyn std::error::Error,
                    "cannot show a static pod in the API"
                );
            }
        }
    }

    async fn ensure_mirror(&self, pod: &Pod, node_uid: &str) -> kube::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), pod::namespace(pod));
        let hash = pod::annotation(pod, CONFIG_HASH).unwrap_or_default();
        if let Some(existing) = api.get_opt(pod::name(pod)).await? {
            if pod::annotation(&existing, CONFIG_MIRROR) == Some(hash) || !pod::is_mirror(&existing) {
                return Ok(());
            }
            self.delete_mirror(&existing).await;
        }
        let mut mirror = pod.clone();
        mirror.metadata.uid = None;
        mirror.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.context.node_name.clone(),
            uid: node_uid.to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        let annotations = mirror.metadata.annotations.get_or_insert_default();
        annotations.insert(CONFIG_MIRROR.to_owned(), hash.to_owned());
        api.create(&PostParams::default(), &mirror).await.map(drop)
    }

    async fn delete_mirror(&self, pod: &Pod) {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), pod::namespace(pod));
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: pod::is_mirror(pod)
                .then(|| Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        if let Err(err) = client::write::ignore_not_found(api.delete(pod::name(pod), &params).await) {
            warn!(pod = pod::describe(pod), error = &err as &dyn std::error::Error, "cannot delete a mirror pod");
        }
    }
}

/// Reads one manifest and gives the pod its name on this node, its hash and its uid.
fn parse(path: &Path, node_name: &str) -> Result<Pod, String> {
    let text = std::fs::read_to_string(path).map_err(|err| err.to_string())?;
    let mut pod: Pod = serde_yaml::from_str(&text).map_err(|err| err.to_string())?;
    let name = pod.metadata.name.clone().ok_or("metadata.name is required")?;
    let mut hash = Sha256::new();
    hash.update(node_name.as_bytes());
    hash.update(path.to_string_lossy().as_bytes());
    hash.update(text.as_bytes());
    let hash: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    pod.metadata.name = Some(format!("{name}-{node_name}"));
    pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    pod.metadata.uid = Some(hash.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_SOURCE.to_owned(), "file".to_owned());
    annotations.insert(CONFIG_HASH.to_owned(), hash);
    let spec = pod.spec.as_mut().ok_or("spec is required")?;
    if spec.containers.is_empty() {
        return Err("spec.containers is required".to_owned());
    }
    spec.node_name = Some(node_name.to_owned());
    spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).for_each(default_requests);
    // As upstream: nothing but its manifest ends a static pod.
    let everything = k8s_openapi::api::core::v1::Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Default::default()
    };
    spec.tolerations.get_or_insert_default().push(everything);
    Ok(pod)
}

/// As the API server (upstream: `SetDefaults_Pod`): who is limited and does not say what it requests, requests that.
fn default_requests(container: &mut Container) {
    let Some(resources) = &mut container.resources else { return };
    for (resource, limit) in resources.limits.iter().flatten() {
        let requests = resources.requests.get_or_insert_default();
        requests.entry(resource.clone()).or_insert_with(|| limit.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_limited_is_requested() {
        let mut container: Container = serde_json::from_value(serde_json::json!(
            {"name": "c", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Mi"}}}
        ))
        .unwrap();
        default_requests(&mut container);
        let requests = container.resources.unwrap().requests.unwrap();
        assert_eq!((&*requests["cpu"].0, &*requests["memory"].0), ("1", "1Mi"));
    }

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yaml");
        std::fs::write(&path, "metadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n").unwrap();
        let pod = parse(&path, "n1").unwrap();
        assert_eq!(pod::name(&pod), "web-n1");
        assert!(pod::is_static(&pod) && !pod::is_mirror(&pod));
        assert_eq!(pod::annotation(&pod, CONFIG_HASH), pod.metadata.uid.as_deref());
        std::fs::write(&path, "metadata: {name: web}\nspec: {}\n").unwrap();
        assert!(parse(&path, "n1").is_err());
    }
}
