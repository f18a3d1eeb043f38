//! The kind of the group `apiextensions.k8s.io` (upstream: `staging/src/k8s.io/apiextensions-apiserver`).

pub(crate) mod definition;
