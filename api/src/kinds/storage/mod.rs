//! Kinds of the group `storage.k8s.io`: volumes and their drivers (upstream: `pkg/apis/storage`, `pkg/registry/storage`).

pub(crate) mod volume_attachment;
