//! The kind of the group `storagemigration.k8s.io` (upstream: `pkg/apis/storagemigration`).

pub(crate) mod storage_version_migration;
