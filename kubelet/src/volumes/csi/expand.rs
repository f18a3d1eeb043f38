//! Volumes that have grown: the driver makes the file system larger, and the claim says so (upstream: expandVolumeDuringMount
//! and NodeExpandVolume of pkg/volume/util/operationexecutor, KEP-1790).
//!
//! ```text
//!  claim asks for more --> resizer: the volume grows, `spec.capacity` of the PersistentVolume
//!    --> claim: condition FileSystemResizePending --> NodeExpandVolume --> claim: `status.capacity`, no condition
//! ```
use api::volumes;
use facts::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::policy::Policy;
use super::{Calls, Mounted};
use crate::csi::messages::{CapacityRange, NodeExpandVolumeRequest, Pairs};
use crate::csi::node::text;
use crate::failure::{answer, chain};
use crate::pod;
use crate::rpc::CallError;
use crate::volumes::{Pass, Reason};

/// Conditions of a claim whose volume grows.
const OF_A_RESIZE: [&str; 4] = ["Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError"];
/// What a node says of a volume that it cannot make larger, whoever asks.
const INFEASIBLE: &str = "NodeResizeInfeasible";

/// A claim with its volume.
pub(in crate::volumes) struct Bound {
    pub(in crate::volumes) claim: PersistentVolumeClaim,
    pub(in crate::volumes) volume: PersistentVolume,
}

impl Bound {
    /// Whether the volume is larger than the claim says, and the node may do something about it.
    fn has_grown(&self) -> bool {
        let said =
            self.claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage")?.0.parse().ok());
        said.is_some_and(|said: Quantity| said < volumes::capacity(&self.volume)) && !is_infeasible(&self.claim)
    }
}

fn is_infeasible(claim: &PersistentVolumeClaim) -> bool {
    state(claim) == Some(INFEASIBLE)
}

fn state(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.allocated_resource_statuses.as_ref()?.get("storage").map(String::as_str)
}

/// Whether somebody waits for the node: only then the volume itself is looked at.
fn is_awaited(claim: &PersistentVolumeClaim) -> bool {
    let conditions = claim.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_pending = conditions.into_iter().any(|one| one.type_ == "FileSystemResizePending" && one.status == "True");
    is_pending || state(claim).is_some_and(|state| state.starts_with("NodeResize") && state != INFEASIBLE)
}

impl Pass<'_> {
    /// Lets the driver make a volume larger that is mounted already, if somebody waits for that. What goes wrong is told
    /// and tried again with the next look.
    pub(super) async fn look_for_growth(&self, mounted: &Mounted) -> Result<(), Reason> {
        let Some(name) = &mounted.wanted.claim else { return Ok(()) };
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), pod::namespace(self.pod));
        let claim = claims.get(name).await.map_err(|err| answer(&err))?;
        if !is_awaited(&claim) {
            return Ok(());
        }
        let known: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let volume = known.get(volumes::volume_name(&claim)).await.map_err(|err| answer(&err))?;
        let id = &mounted.wanted.id;
        let driver = self.context.csi.driver(&id.driver);
        let driver = driver
            .ok_or_else(|| format!("driver name {} not found in the list of registered CSI drivers", id.driver))?;
        let (can, policy) = (driver.capabilities().await?, Policy::default());
        let (wanted, record) = (&mounted.wanted, mounted.record.clone());
        let calls = Calls { driver: &driver, can, policy: &policy, wanted, record, context: Pairs::new() };
        let _turn = self.context.csi.mounts.turn(id).await?;
        self.grow(&calls, &Bound { claim, volume }).await
    }

    /// Lets the driver make a volume larger that has grown. Whoever calls works on the volume alone.
    pub(super) async fn grow(&self, calls: &Calls<'_>, bound: &Bound) -> Result<(), Reason> {
        if !calls.can.expands || !bound.has_grown() || calls.wanted.read_only {
            return Ok(());
        }
        let (mounts, record) = (&self.context.csi.mounts, &calls.record);
        let target = mounts.target_path(pod::uid(self.pod), record);
        let staging = calls.can.stages.then(|| mounts.staging_path(record));
        let size = volumes::capacity(&bound.volume);
        let request = NodeExpandVolumeRequest {
            volume_id: record.id.handle.clone(),
            volume_path: text(staging.as_ref().filter(|_| !record.block).unwrap_or(&target)),
            capacity_range: Some(CapacityRange { required_bytes: size.value() }),
            staging_target_path: staging.as_deref().map(text).unwrap_or_default(),
            volume_capability: Some(calls.wanted.capability(calls.can, None)),
            secrets: self.secret(calls.wanted.expand_secret.as_ref()).await?,
        };
        let name = &record.name;
        match calls.driver.expand(request).await {
            Ok(()) => {
                self.write(bound, finished(bound)).await?;
                let node = &self.context.node_name;
                let message = format!("MountVolume.NodeExpandVolume succeeded for volume {name:?} {node}");
                self.context.event(self.pod, "Normal", "FileSystemResizeSuccessful", message);
                Ok(())
            }
            Err(err) => {
                let message = format!("MountVolume.NodeExpandVolume failed for volume {name:?} : {}", chain(&err));
                self.context.event(self.pod, "Warning", "VolumeResizeFailed", message.clone());
                if is_final(&err) {
                    self.write(bound, failed(&bound.claim, &message)).await?;
                }
                Err(message.into())
            }
        }
    }

    async fn write(&self, bound: &Bound, status: Value) -> Result<(), Reason> {
        let meta = &bound.claim.metadata;
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), pod::namespace(self.pod));
        // Conditions are replaced as a list, so that nobody's may have come meanwhile.
        let patch = json!({ "metadata": { "resourceVersion": meta.resource_version }, "status": status });
        let name = meta.name.as_deref().unwrap_or_default();
        let written = claims.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        written.map(drop).map_err(|err| format!("failed to write the size of claim {name:?}: {}", answer(&err)).into())
    }
}

/// Errors after which trying again is of no use.
fn is_final(err: &CallError) -> bool {
    use tonic::Code::{InvalidArgument, NotFound, OutOfRange};
    let CallError::Refused { code, .. } = err else { return false };
    matches!(code, InvalidArgument | OutOfRange | NotFound)
}

/// The claim is as large as its volume.
fn finished(bound: &Bound) -> Value {
    let capacity = bound.volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    json!({
        "capacity": { "storage": capacity },
        "conditions": other_conditions(bound.claim.status.as_ref()),
        "allocatedResourceStatuses": { "storage": null },
    })
}

/// The node cannot make it so.
fn failed(claim: &PersistentVolumeClaim, message: &str) -> Value {
    let mut conditions = other_conditions(claim.status.as_ref());
    let now = client::clock::time();
    conditions
        .push(json!({ "type": "NodeResizeError", "status": "True", "lastTransitionTime": now, "message": message }));
    json!({ "conditions": conditions, "allocatedResourceStatuses": { "storage": INFEASIBLE } })
}

fn other_conditions(status: Option<&PersistentVolumeClaimStatus>) -> Vec<Value> {
    let known = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    known.filter(|one| !OF_A_RESIZE.contains(&one.type_.as_str())).map(|one| json!(one)).collect()
}
