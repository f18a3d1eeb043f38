//! The kind of the group `internal.apiserver.k8s.io` (upstream: `pkg/apis/apiserverinternal`).

pub(crate) mod storage_version;
