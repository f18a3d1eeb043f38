//! What becomes of a container's spec on this node: image, environment, mounts and rights, up to a running process
//! (upstream: pkg/kubelet/kuberuntime).

pub(crate) mod environment;
pub(crate) mod images;
pub(crate) mod labels;
pub(crate) mod launch;
pub(crate) mod log_files;
pub(crate) mod security;
