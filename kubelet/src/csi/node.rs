//! The service `csi.v1.Node` of a driver (upstream: pkg/volume/csi/csi_client.go).
use std::path::Path;
use std::time::Duration;

use super::messages::{NodeGetInfoRequest, NodeGetInfoResponse};
use crate::rpc::{CallError, Conversation};

/// How long a driver may take for anything, as upstream's csiTimeout.
const PATIENCE: Duration = Duration::from_secs(120);

/// A driver's service.
pub(crate) struct NodeService(Conversation);

impl NodeService {
    /// The service behind a socket; nothing is connected yet.
    pub(super) fn at(endpoint: &Path) -> Self {
        Self(Conversation::with(endpoint))
    }

    /// What the driver says of this node.
    pub(super) async fn info(&self) -> Result<NodeGetInfoResponse, CallError> {
        self.0.call("/csi.v1.Node/NodeGetInfo", NodeGetInfoRequest {}, PATIENCE).await
    }
}
