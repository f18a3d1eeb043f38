//! The kind of the group `apiregistration.k8s.io` (upstream: `staging/src/k8s.io/kube-aggregator`).

mod api_service;

use super::kind::Group;

pub(crate) const GROUP: Group = Group { name: "apiregistration.k8s.io", versions: &[("v1", &[api_service::KIND])] };
