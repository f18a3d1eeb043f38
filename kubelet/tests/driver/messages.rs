//! The messages of the Container Storage Interface and of plugin registration, declared once more by their field
//! numbers: what the kubelet sends must be readable by others.
use std::collections::BTreeMap;

pub type Pairs = BTreeMap<String, String>;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginInfo {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub endpoint: String,
    #[prost(string, repeated, tag = "4")]
    pub versions: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RegistrationStatus {
    #[prost(bool, tag = "1")]
    pub registered: bool,
    #[prost(string, tag = "2")]
    pub error: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeInfo {
    #[prost(string, tag = "1")]
    pub node_id: String,
    #[prost(int64, tag = "2")]
    pub max_volumes: i64,
    #[prost(message, optional, tag = "3")]
    pub topology: Option<Topology>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Topology {
    #[prost(btree_map = "string, string", tag = "1")]
    pub segments: Pairs,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Capabilities {
    #[prost(message, repeated, tag = "1")]
    pub all: Vec<Capability>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Capability {
    #[prost(message, optional, tag = "1")]
    pub rpc: Option<Rpc>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Rpc {
    #[prost(int32, tag = "1")]
    pub kind: i32,
}

/// How a volume is to be seen.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Access {
    #[prost(message, optional, tag = "1")]
    pub block: Option<Empty>,
    #[prost(message, optional, tag = "2")]
    pub mount: Option<Mount>,
    #[prost(message, optional, tag = "3")]
    pub mode: Option<Mode>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Mount {
    #[prost(string, tag = "1")]
    pub fs_type: String,
    #[prost(string, repeated, tag = "2")]
    pub flags: Vec<String>,
    #[prost(string, tag = "3")]
    pub group: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Mode {
    #[prost(int32, tag = "1")]
    pub mode: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Stage {
    #[prost(string, tag = "1")]
    pub volume: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub publish_context: Pairs,
    #[prost(string, tag = "3")]
    pub staging: String,
    #[prost(message, optional, tag = "4")]
    pub access: Option<Access>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub secrets: Pairs,
    #[prost(btree_map = "string, string", tag = "6")]
    pub context: Pairs,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Publish {
    #[prost(string, tag = "1")]
    pub volume: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub publish_context: Pairs,
    #[prost(string, tag = "3")]
    pub staging: String,
    #[prost(string, tag = "4")]
    pub target: String,
    #[prost(message, optional, tag = "5")]
    pub access: Option<Access>,
    #[prost(bool, tag = "6")]
    pub readonly: bool,
    #[prost(btree_map = "string, string", tag = "7")]
    pub secrets: Pairs,
    #[prost(btree_map = "string, string", tag = "8")]
    pub context: Pairs,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Expand {
    #[prost(string, tag = "1")]
    pub volume: String,
    #[prost(string, tag = "2")]
    pub place: String,
    #[prost(message, optional, tag = "3")]
    pub size: Option<Size>,
    #[prost(string, tag = "4")]
    pub staging: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Size {
    #[prost(int64, tag = "1")]
    pub bytes: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Stats {
    #[prost(message, repeated, tag = "1")]
    pub usage: Vec<Usage>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Usage {
    #[prost(int64, tag = "2")]
    pub total: i64,
    #[prost(int64, tag = "3")]
    pub used: i64,
    #[prost(int32, tag = "4")]
    pub unit: i32,
}

/// To unpublish or unstage: a volume and where it is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Undo {
    #[prost(string, tag = "1")]
    pub volume: String,
    #[prost(string, tag = "2")]
    pub place: String,
}
