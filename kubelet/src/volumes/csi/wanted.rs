//! What a pod asks a driver for.
use api::volumes::attachment;
use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, CSIVolumeSource, PersistentVolumeSpec, Pod, SecretReference,
};

use crate::csi::messages::{AccessMode, AccessType, BlockVolume, MountVolume, Pairs, VolumeCapability};
use crate::csi::node::Capabilities;
use crate::csi::records::{Record, VolumeId};
use crate::pod;

/// Access modes of the specification.
const SINGLE_NODE_WRITER: i32 = 1;
const MULTI_NODE_READER_ONLY: i32 = 3;
const MULTI_NODE_MULTI_WRITER: i32 = 5;
const SINGLE_NODE_SINGLE_WRITER: i32 = 6;
const SINGLE_NODE_MULTI_WRITER: i32 = 7;

/// A Secret that a driver is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::volumes) struct SecretRef {
    pub(in crate::volumes) namespace: String,
    pub(in crate::volumes) name: String,
}

/// A volume of a driver, as a pod wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::volumes) struct Wanted {
    pub(in crate::volumes) id: VolumeId,
    /// The name of its PersistentVolume, or its own in the pod.
    pub(super) name: String,
    pub(super) block: bool,
    pub(super) read_only: bool,
    /// It is the pod's own, and lives as long.
    pub(super) is_ephemeral: bool,
    pub(super) fs_type: String,
    pub(super) mount_flags: Vec<String>,
    pub(super) access_modes: Vec<String>,
    pub(super) attributes: Pairs,
    pub(super) stage_secret: Option<SecretRef>,
    pub(super) publish_secret: Option<SecretRef>,
    pub(super) expand_secret: Option<SecretRef>,
    /// The name of the claim that has it.
    pub(in crate::volumes) claim: Option<String>,
}

impl Wanted {
    /// The volume that a PersistentVolume of this name stands for.
    pub(in crate::volumes) fn persistent(
        name: &str,
        spec: &PersistentVolumeSpec,
        source: &CSIPersistentVolumeSource,
        read_only: bool,
    ) -> Self {
        Self {
            id: VolumeId { driver: source.driver.clone(), handle: source.volume_handle.clone() },
            name: name.to_owned(),
            block: spec.volume_mode.as_deref() == Some("Block"),
            read_only,
            is_ephemeral: false,
            fs_type: source.fs_type.clone().unwrap_or_default(),
            mount_flags: spec.mount_options.clone().unwrap_or_default(),
            access_modes: spec.access_modes.clone().unwrap_or_default(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            stage_secret: source.node_stage_secret_ref.as_ref().and_then(secret),
            publish_secret: source.node_publish_secret_ref.as_ref().and_then(secret),
            expand_secret: source.node_expand_secret_ref.as_ref().and_then(secret),
            claim: spec.claim_ref.as_ref().and_then(|claim| claim.name.clone()),
        }
    }

    /// The volume that a pod has for itself.
    pub(in crate::volumes) fn ephemeral(of: &Pod, volume: &str, source: &CSIVolumeSource) -> Self {
        let handle = attachment::ephemeral_handle(pod::uid(of), volume);
        let publish_secret = source
            .node_publish_secret_ref
            .as_ref()
            .map(|secret| SecretRef { namespace: pod::namespace(of).to_owned(), name: secret.name.clone() });
        Self {
            id: VolumeId { driver: source.driver.clone(), handle },
            name: volume.to_owned(),
            block: false,
            read_only: source.read_only.unwrap_or(false),
            is_ephemeral: true,
            fs_type: source.fs_type.clone().unwrap_or_default(),
            mount_flags: Vec::new(),
            access_modes: Vec::new(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            stage_secret: None,
            publish_secret,
            expand_secret: None,
            claim: None,
        }
    }

    /// The name of the VolumeAttachment to a node.
    pub(super) fn attachment(&self, node: &str) -> String {
        attachment::attachment_name(&self.id.handle, &self.id.driver, node)
    }

    /// What is written down of it.
    pub(super) fn record(&self, attachment: String, volume: &str) -> Record {
        let (id, name, volume) = (self.id.clone(), self.name.clone(), volume.to_owned());
        Record { id, name, attachment, block: self.block, volume }
    }

    /// Whether one node at a time writes to it.
    pub(super) fn is_of_one_node(&self) -> bool {
        self.access_modes.iter().any(|mode| mode == "ReadWriteOnce" || mode == "ReadWriteOncePod")
    }

    /// How it is to be seen; `group` is whom the driver gives it to.
    pub(super) fn capability(&self, can: Capabilities, group: Option<u32>) -> VolumeCapability {
        let mounted = || MountVolume {
            fs_type: self.fs_type.clone(),
            mount_flags: self.mount_flags.clone(),
            volume_mount_group: group.map(|group| group.to_string()).unwrap_or_default(),
        };
        let access = if self.block { AccessType::Block(BlockVolume {}) } else { AccessType::Mount(mounted()) };
        VolumeCapability { access_type: Some(access), access_mode: Some(AccessMode { mode: self.mode(can) }) }
    }

    fn mode(&self, can: Capabilities) -> i32 {
        match (self.access_modes.first().map(String::as_str), can.counts_writers) {
            (Some("ReadOnlyMany"), _) => MULTI_NODE_READER_ONLY,
            (Some("ReadWriteMany"), _) => MULTI_NODE_MULTI_WRITER,
            (Some("ReadWriteOncePod"), true) => SINGLE_NODE_SINGLE_WRITER,
            (_, true) => SINGLE_NODE_MULTI_WRITER,
            (_, false) => SINGLE_NODE_WRITER,
        }
    }
}

fn secret(of: &SecretReference) -> Option<SecretRef> {
    Some(SecretRef { namespace: of.namespace.clone()?, name: of.name.clone()? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(mode: &str) -> Wanted {
        let csi = json!({"driver": "d", "volumeHandle": "h", "fsType": "ext4"});
        let spec = json!({"accessModes": [mode], "mountOptions": ["noatime"], "csi": csi});
        let spec: PersistentVolumeSpec = serde_json::from_value(spec).unwrap();
        Wanted::persistent("pv", &spec, spec.csi.as_ref().unwrap(), false)
    }

    #[test]
    fn access_modes_are_those_that_the_driver_can_tell_apart() {
        let mode =
            |mode: &str, counts_writers: bool| wanted(mode).mode(Capabilities { counts_writers, ..Default::default() });
        assert_eq!([mode("ReadWriteOnce", false), mode("ReadWriteOnce", true)], [1, 7]);
        assert_eq!([mode("ReadWriteOncePod", false), mode("ReadWriteOncePod", true)], [1, 6]);
        assert_eq!([mode("ReadOnlyMany", true), mode("ReadWriteMany", true)], [3, 5]);
    }

    #[test]
    fn a_driver_is_told_the_file_system_its_options_and_the_group() {
        let capability = wanted("ReadWriteOnce").capability(Capabilities::default(), Some(7));
        let Some(AccessType::Mount(mount)) = capability.access_type else { panic!("it is mounted") };
        assert_eq!((mount.fs_type.as_str(), mount.volume_mount_group.as_str()), ("ext4", "7"));
        assert_eq!(mount.mount_flags, ["noatime"]);
    }
}
