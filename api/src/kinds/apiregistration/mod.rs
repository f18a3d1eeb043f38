//! The kind of the group `apiregistration.k8s.io` (upstream: `staging/src/k8s.io/kube-aggregator`).

pub(crate) mod api_service;
