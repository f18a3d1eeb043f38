//! What volumes of storage drivers and their attachments are called: controllers, the scheduler and kubelets find them by
//! these names, which they must all make in the same way (upstream: `GetUniqueVolumeName` of pkg/volume/util and
//! `getAttachmentName` of pkg/volume/csi).

use k8s_openapi::api::core::v1::{CSIPersistentVolumeSource, PersistentVolume};
use k8s_openapi::api::storage::v1::CSIDriver;
use sha2::{Digest as _, Sha256};

/// The name that a volume of a driver has in the status of nodes.
pub fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// The name of the VolumeAttachment of a volume to a node.
pub fn attachment_name(handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", digest(&[handle, driver, node]))
}

/// The handle of a volume that a pod has for itself, by the pod's uid and the volume's name in it.
pub fn ephemeral_handle(pod: &str, volume: &str) -> String {
    format!("csi-{}", digest(&[pod, volume]))
}

/// The SHA-256 of texts, one after the other, in hexadecimal.
pub fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part.as_bytes()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The driver's part of a volume, if it is one of a driver.
pub fn csi_source(volume: &PersistentVolume) -> Option<&CSIPersistentVolumeSource> {
    volume.spec.as_ref()?.csi.as_ref()
}

/// Whether volumes of the driver are attached to nodes before they are mounted. A driver that says nothing wants that.
pub fn is_attached(driver: Option<&CSIDriver>) -> bool {
    driver.and_then(|driver| driver.spec.attach_required) != Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_others_make() {
        assert_eq!(unique_name("d.example", "vol-1"), "kubernetes.io/csi/d.example^vol-1");
        let expected = "csi-fa2370d3bd79226b9e8e63e92e9593d8874a189efd2a240de93e2fd3516ea2d8";
        assert_eq!(attachment_name("vol-1", "d.example", "node"), expected);
        assert_eq!(digest(&["ab", "c"]), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(ephemeral_handle("ab", "c"), format!("csi-{}", digest(&["abc"])));
    }
}
