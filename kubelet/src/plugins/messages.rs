//! The messages of `pluginregistration.v1`, by their field numbers.

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct InfoRequest {}

/// What a plugin says of itself.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct PluginInfo {
    /// `CSIPlugin`, `DevicePlugin` or `DRAPlugin`.
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    /// The socket of its service; the one that it registers by if this is empty.
    #[prost(string, tag = "3")]
    pub(super) endpoint: String,
    #[prost(string, repeated, tag = "4")]
    pub(super) versions: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct RegistrationStatus {
    #[prost(bool, tag = "1")]
    pub(super) registered: bool,
    #[prost(string, tag = "2")]
    pub(super) error: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct RegistrationStatusResponse {}
