//! What the records of sandboxes and containers say of themselves, for whoever finds them later: whose they are, and what
//! they were made of (upstream: pkg/kubelet/kuberuntime/labels.go).
use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use sha2::{Digest as _, Sha256};

use crate::pod;

/// Labels that say whose a container or sandbox is.
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
/// The pod's name.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
/// The pod's namespace.
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The container's name.
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Where the container's termination message is on the node.
pub(crate) const MESSAGE_FILE: &str = "coracle.io/termination-message-file";
/// `File` or `FallbackToLogsOnError`.
pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// How many seconds the container's pod asks for to end.
pub(crate) const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// The container's requests and limits as they were when it was made, which is what it has.
pub(crate) const RESOURCES: &str = "coracle.io/resources";
/// Label on a runtime container: a hash of what a running container cannot change.
pub(crate) const HASH_LABEL: &str = "coracle.io/container-hash";

/// The labels of everything that belongs to a pod.
pub(crate) fn labels(pod: &Pod) -> BTreeMap<String, String> {
    BTreeMap::from([
        (POD_UID.to_owned(), pod::uid(pod).to_owned()),
        (POD_NAME.to_owned(), pod::name(pod).to_owned()),
        (POD_NAMESPACE.to_owned(), pod::namespace(pod).to_owned()),
    ])
}

/// How long a container's pod asks for to end, by the records of the runtime; `None` where they do not say.
pub fn recorded_grace(container: &runtime::ContainerStatus) -> Option<Duration> {
    container.annotations.get(GRACE)?.parse().ok().map(Duration::from_secs)
}

/// A hash over the fields whose change needs a new container: name and image (the rest of a pod's spec is immutable).
pub(crate) fn container_hash(container: &Container) -> String {
    let mut hash = Sha256::new();
    hash.update(container.name.as_bytes());
    hash.update([0]);
    hash.update(container.image.as_deref().unwrap_or_default().as_bytes());
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
