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
