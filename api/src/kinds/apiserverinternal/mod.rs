//! The kind of the group `internal.apiserver.k8s.io` (upstream: `pkg/apis/apiserverinternal`).

mod storage_version;

use super::kind::Group;

pub(crate) const GROUP: Group =
    Group { name: "internal.apiserver.k8s.io", versions: &[("v1alpha1", &[storage_version::KIND])] };
