//! What becomes of a container's spec on this node: image, environment, mounts and rights, up to a running process
//! (upstream: pkg/kubelet/kuberuntime).

pub mod environment;
pub mod images;
pub mod labels;
pub mod launch;
pub(crate) mod log_files;
pub mod security;
