//! Defaults of sources that pods and PersistentVolumes have in common (upstream: `pkg/apis/core/v1/defaults.go`).

use crate::kinds::rules::fill::{default_pointer, default_zero, object_at};
use crate::kinds::rules::tree::Fields;

/// Defaults of network volume drivers, shared by pods and PersistentVolumes.
pub(crate) fn volume_drivers(volume: &mut Fields) {
    if let Some(iscsi) = object_at(volume, "iscsi") {
        default_zero(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = object_at(volume, "rbd") {
        default_zero(rbd, "pool", "rbd");
        default_zero(rbd, "user", "admin");
        default_zero(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = object_at(volume, "azureDisk") {
        default_pointer(disk, "cachingMode", "ReadWrite");
        default_pointer(disk, "kind", "Shared");
        default_pointer(disk, "fsType", "ext4");
        default_pointer(disk, "readOnly", false);
    }
    if let Some(scale) = object_at(volume, "scaleIO") {
        default_zero(scale, "storageMode", "ThinProvisioned");
        default_zero(scale, "fsType", "xfs");
    }
}
