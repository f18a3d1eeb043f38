//! The kind of the group `storagemigration.k8s.io` (upstream: `pkg/apis/storagemigration`).

mod storage_version_migration;

use super::kind::Group;

pub(crate) const GROUP: Group =
    Group { name: "storagemigration.k8s.io", versions: &[("v1beta1", &[storage_version_migration::KIND])] };
