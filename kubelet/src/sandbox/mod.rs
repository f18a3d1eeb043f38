//! What a pod's sandbox is made with: names, kernel parameters, user namespace and runtime class (upstream:
//! generatePodSandboxConfig in pkg/kubelet/kuberuntime).

pub mod pod_dns;
pub(crate) mod runtime_class;
pub mod sysctls;
pub(crate) mod user_ids;
