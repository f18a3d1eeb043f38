//! The service `csi.v1.Node` of a driver (upstream: pkg/volume/csi/csi_client.go).
use std::path::Path;
use std::time::Duration;

use super::messages::{
    Done, NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse,
    NodeGetInfoRequest, NodeGetInfoResponse, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse,
    NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
};
use crate::rpc::{CallError, Conversation};

/// How long a driver may take for anything, as upstream's csiTimeout.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long somebody who asks for figures waits for them.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Capabilities of a service, by their numbers in the specification.
const STAGE_UNSTAGE_VOLUME: i32 = 1;
const GET_VOLUME_STATS: i32 = 2;
const EXPAND_VOLUME: i32 = 3;
const SINGLE_NODE_MULTI_WRITER: i32 = 5;
const VOLUME_MOUNT_GROUP: i32 = 6;

/// A driver's service.
pub(crate) struct NodeService(Conversation);

/// What a driver can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// It prepares a volume for the node before it shows it to pods.
    pub(crate) stages: bool,
    /// It tells how full a volume is.
    pub(crate) tells_stats: bool,
    /// It makes the file system of a volume larger.
    pub(crate) expands: bool,
    /// It tells one writer on a node from several.
    pub(crate) counts_writers: bool,
    /// It gives a volume to the pod's group itself.
    pub(crate) gives_to_group: bool,
}

impl NodeService {
    /// The service behind a socket; nothing is connected yet.
    pub(super) fn at(endpoint: &Path) -> Self {
        Self(Conversation::with(endpoint))
    }

    /// What the driver says of this node.
    pub(super) async fn info(&self) -> Result<NodeGetInfoResponse, CallError> {
        self.0.call("/csi.v1.Node/NodeGetInfo", NodeGetInfoRequest {}, PATIENCE).await
    }

    /// What the driver can do.
    pub(crate) async fn capabilities(&self) -> Result<Capabilities, CallError> {
        let request = NodeGetCapabilitiesRequest {};
        let answer: NodeGetCapabilitiesResponse =
            self.0.call("/csi.v1.Node/NodeGetCapabilities", request, PATIENCE).await?;
        let has = |kind| answer.capabilities.iter().any(|one| one.rpc.as_ref().is_some_and(|rpc| rpc.kind == kind));
        Ok(Capabilities {
            stages: has(STAGE_UNSTAGE_VOLUME),
            tells_stats: has(GET_VOLUME_STATS),
            expands: has(EXPAND_VOLUME),
            counts_writers: has(SINGLE_NODE_MULTI_WRITER),
            gives_to_group: has(VOLUME_MOUNT_GROUP),
        })
    }

    /// Prepares a volume for the node.
    pub(crate) async fn stage(&self, request: NodeStageVolumeRequest) -> Result<(), CallError> {
        self.0.call("/csi.v1.Node/NodeStageVolume", request, PATIENCE).await.map(|Done {}| ())
    }

    /// Shows a volume to a pod.
    pub(crate) async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), CallError> {
        self.0.call("/csi.v1.Node/NodePublishVolume", request, PATIENCE).await.map(|Done {}| ())
    }

    /// Makes what is in a volume as large as the volume.
    pub(crate) async fn expand(&self, request: NodeExpandVolumeRequest) -> Result<(), CallError> {
        let answer = self.0.call("/csi.v1.Node/NodeExpandVolume", request, PATIENCE).await;
        // How large it is now is the claim's to say, by its volume.
        answer.map(|NodeExpandVolumeResponse { .. }| ())
    }

    /// How full a volume is, if the driver says so at once.
    pub(crate) async fn stats(&self, handle: &str, path: &Path) -> Option<NodeGetVolumeStatsResponse> {
        let ask = async {
            if !self.capabilities().await.ok()?.tells_stats {
                return None;
            }
            let request = NodeGetVolumeStatsRequest { volume_id: handle.to_owned(), volume_path: text(path) };
            self.0.call("/csi.v1.Node/NodeGetVolumeStats", request, AT_ONCE).await.ok()
        };
        tokio::time::timeout(AT_ONCE, ask).await.ok()?
    }

    /// Undoes [`NodeService::publish`]. A volume that does not exist is not shown.
    pub(super) async fn unpublish(&self, handle: &str, target: &Path) -> Result<(), CallError> {
        let request = NodeUnpublishVolumeRequest { volume_id: handle.to_owned(), target_path: text(target) };
        absent_is_fine(self.0.call("/csi.v1.Node/NodeUnpublishVolume", request, PATIENCE).await)
    }

    /// Undoes [`NodeService::stage`], likewise.
    pub(super) async fn unstage(&self, handle: &str, staging: &Path) -> Result<(), CallError> {
        let request = NodeUnstageVolumeRequest { volume_id: handle.to_owned(), staging_target_path: text(staging) };
        absent_is_fine(self.0.call("/csi.v1.Node/NodeUnstageVolume", request, PATIENCE).await)
    }
}

/// A path in a message.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn absent_is_fine(answer: Result<Done, CallError>) -> Result<(), CallError> {
    match answer {
        Err(err) if err.is_not_found() => Ok(()),
        answer => answer.map(drop),
    }
}
