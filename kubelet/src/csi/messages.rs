//! The messages of the service `csi.v1.Node` that the kubelet sends and reads, by their field numbers (CSI 1.12).
use std::collections::BTreeMap;

/// Opaque pairs of texts: attributes, contexts and secrets.
pub(crate) type Pairs = BTreeMap<String, String>;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeGetInfoRequest {}

/// What a driver says of the node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeGetInfoResponse {
    /// Its name for the node.
    #[prost(string, tag = "1")]
    pub(crate) node_id: String,
    /// Volumes that the node can have; 0 for any number.
    #[prost(int64, tag = "2")]
    pub(crate) max_volumes_per_node: i64,
    #[prost(message, optional, tag = "3")]
    pub(crate) accessible_topology: Option<Topology>,
}

/// Where the node is, as the driver sees the world.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Topology {
    #[prost(btree_map = "string, string", tag = "1")]
    pub(crate) segments: Pairs,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeGetCapabilitiesRequest {}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeGetCapabilitiesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) capabilities: Vec<NodeServiceCapability>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeServiceCapability {
    #[prost(message, optional, tag = "1")]
    pub(crate) rpc: Option<NodeServiceRpc>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeServiceRpc {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
}

/// How a volume is to be seen.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct VolumeCapability {
    #[prost(oneof = "AccessType", tags = "1, 2")]
    pub(crate) access_type: Option<AccessType>,
    #[prost(message, optional, tag = "3")]
    pub(crate) access_mode: Option<AccessMode>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(crate) enum AccessType {
    /// As a device.
    #[prost(message, tag = "1")]
    Block(BlockVolume),
    /// As a file system.
    #[prost(message, tag = "2")]
    Mount(MountVolume),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct BlockVolume {}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct MountVolume {
    #[prost(string, tag = "1")]
    pub(crate) fs_type: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) mount_flags: Vec<String>,
    /// The group that owns it, if the driver gives it away itself.
    #[prost(string, tag = "3")]
    pub(crate) volume_mount_group: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct AccessMode {
    #[prost(int32, tag = "1")]
    pub(crate) mode: i32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeStageVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) publish_context: Pairs,
    #[prost(string, tag = "3")]
    pub(crate) staging_target_path: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) volume_capability: Option<VolumeCapability>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(crate) secrets: Pairs,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(crate) volume_context: Pairs,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeUnstageVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(string, tag = "2")]
    pub(crate) staging_target_path: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodePublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) publish_context: Pairs,
    #[prost(string, tag = "3")]
    pub(crate) staging_target_path: String,
    #[prost(string, tag = "4")]
    pub(crate) target_path: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) volume_capability: Option<VolumeCapability>,
    #[prost(bool, tag = "6")]
    pub(crate) readonly: bool,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(crate) secrets: Pairs,
    #[prost(btree_map = "string, string", tag = "8")]
    pub(crate) volume_context: Pairs,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeUnpublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(string, tag = "2")]
    pub(crate) target_path: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeExpandVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(string, tag = "2")]
    pub(crate) volume_path: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) capacity_range: Option<CapacityRange>,
    #[prost(string, tag = "4")]
    pub(crate) staging_target_path: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) volume_capability: Option<VolumeCapability>,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(crate) secrets: Pairs,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct CapacityRange {
    #[prost(int64, tag = "1")]
    pub(crate) required_bytes: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeExpandVolumeResponse {
    /// What it has now; 0 if the driver does not say.
    #[prost(int64, tag = "1")]
    pub(crate) capacity_bytes: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeGetVolumeStatsRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(string, tag = "2")]
    pub(crate) volume_path: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NodeGetVolumeStatsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) usage: Vec<VolumeUsage>,
    #[prost(message, optional, tag = "2")]
    pub(crate) condition: Option<VolumeCondition>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct VolumeUsage {
    #[prost(int64, tag = "1")]
    pub(crate) available: i64,
    #[prost(int64, tag = "2")]
    pub(crate) total: i64,
    #[prost(int64, tag = "3")]
    pub(crate) used: i64,
    /// 1 for bytes, 2 for inodes.
    #[prost(int32, tag = "4")]
    pub(crate) unit: i32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct VolumeCondition {
    #[prost(bool, tag = "1")]
    pub(crate) abnormal: bool,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// An answer that says nothing but that it went well.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Done {}
