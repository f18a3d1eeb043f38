//! Waits until a controller has attached a volume to this node (upstream: verifyControllerAttachedVolume of
//! pkg/volume/util/operationexecutor, and WaitForAttach of pkg/volume/csi).
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::Api;
use tokio::time::Instant;

use crate::csi::messages::Pairs;
use crate::csi::records::VolumeId;
use crate::failure::answer;
use crate::pod;
use crate::volumes::{Pass, Reason, State};

/// How long one pass waits: the pod may be deleted meanwhile.
const WAIT: Duration = Duration::from_secs(5);
/// How long nothing is said of it.
const QUIET: Duration = Duration::from_secs(120);

/// The volume is not attached yet: there is nothing to tell, but to look again soon.
#[derive(Debug, thiserror::Error)]
#[error("volume is not attached to the node yet")]
pub(in crate::volumes) struct NotYet;

impl Pass<'_> {
    /// What the attachment says for whoever mounts the volume, once it is attached.
    pub(super) async fn attached(
        &self,
        volume: &str,
        id: &VolumeId,
        attachment: &str,
        state: &mut State,
    ) -> Result<Pairs, Reason> {
        let since = *state.waiting.entry(volume.to_owned()).or_insert_with(Instant::now);
        let not_yet = || match since.elapsed() < QUIET {
            true => Reason::from(NotYet),
            false => "timed out waiting for the volume to be attached to the node".into(),
        };
        self.context.csi.mounts.want(pod::uid(self.pod), id);
        let name = id.unique_name();
        let mut changes = self.context.node_changed.subscribe();
        let shown = async {
            while !self.context.node().is_some_and(|node| shows(&node, &name)) {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(WAIT, shown).await.map_err(|_| not_yet())?;
        let known: Api<VolumeAttachment> = Api::all(self.context.client.clone());
        let found = known.get(attachment).await;
        let found = found.map_err(|err| format!("failed to get VolumeAttachment {attachment}: {}", answer(&err)))?;
        let status = found.status.filter(|status| status.attached && found.metadata.deletion_timestamp.is_none());
        let status = status.ok_or_else(not_yet)?;
        state.waiting.remove(volume);
        Ok(status.attachment_metadata.unwrap_or_default())
    }
}

/// Whether the node is known to use the volume, so that it is not detached, and to have it.
fn shows(node: &Node, name: &str) -> bool {
    let Some(status) = &node.status else { return false };
    status.volumes_in_use.iter().flatten().any(|known| known == name)
        && status.volumes_attached.iter().flatten().any(|known| known.name == name)
}
