//! Volumes of storage drivers: attached by a controller, staged on the node, published to the pod (upstream: pkg/volume/csi).
//!
//! ```text
//!  volumesInUse written --> volumesAttached seen --> VolumeAttachment read      only where the driver wants that
//!    --> record written --> NodeStageVolume                                     only where the driver stages
//!    --> record written --> NodePublishVolume --> given to the pod's group --> NodeExpandVolume, if it has grown
//! ```
//! All of it is done again after a restart and is idempotent; what undoes it is in [`crate::csi`].
mod attached;
mod expand;
mod policy;
mod wanted;

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use runtime::{FileKind, walk};
use serde_json::json;

use super::{Pass, Place, Reason, State};
use crate::csi::messages::{NodePublishVolumeRequest, NodeStageVolumeRequest, Pairs};
use crate::csi::node::{Capabilities, NodeService, text};
use crate::csi::records::{Record, make_directories};
use crate::failure::answer;
use crate::files::{at, blocking};
use crate::pod;
use policy::Policy;

pub(super) use attached::NotYet;
pub(super) use expand::Bound;
pub(super) use wanted::{SecretRef, Wanted};

/// How often a driver that wants that is asked to publish a volume again, and a claim is looked at whose volume may grow:
/// about as often as upstream's kubelet looks at every pod.
const REPUBLISH: Duration = Duration::from_secs(60);

/// A volume that a driver has published to the pod.
#[derive(Clone)]
pub(super) struct Mounted {
    wanted: Wanted,
    place: Place,
    record: Record,
    /// The driver wants to publish it again and again.
    republishes: bool,
    /// When it is looked at again, for that or since it may grow.
    pub(super) again_at: Option<Timestamp>,
}

/// What the calls for one volume have in common.
struct Calls<'a> {
    driver: &'a NodeService,
    can: Capabilities,
    policy: &'a Policy,
    wanted: &'a Wanted,
    record: Record,
    /// What the attachment says for whoever mounts the volume.
    context: Pairs,
}

impl Pass<'_> {
    /// A volume of the pod that a driver has published already, published again if that is due.
    pub(super) async fn known_driver_volume(&self, volume: &str, state: &mut State) -> Result<Option<Place>, Reason> {
        let Some(mounted) = state.mounted.get(volume) else { return Ok(None) };
        if mounted.again_at.is_none_or(|at| client::clock::now() < at) {
            return Ok(Some(mounted.place.clone()));
        }
        let mounted = mounted.clone();
        // Whatever comes of it, the next time is a while off.
        state.mounted.insert(volume.to_owned(), Mounted { again_at: Some(later()), ..mounted.clone() });
        let mut place = mounted.place.clone();
        if mounted.republishes {
            place = self.driver_volume(volume, mounted.wanted.clone(), None, state).await?;
        }
        if let Err(why) = self.look_for_growth(&mounted).await {
            let (pod, why) = (pod::describe(self.pod), why.to_string());
            tracing::warn!(pod, volume, why, "a volume that has grown is not made larger");
        }
        Ok(Some(place))
    }

    /// Brings a volume of a driver to the pod.
    pub(super) async fn driver_volume(
        &self,
        volume: &str,
        wanted: Wanted,
        bound: Option<&Bound>,
        state: &mut State,
    ) -> Result<Place, Reason> {
        let name = &wanted.id.driver;
        let driver = self.context.csi.driver(name);
        let driver =
            driver.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))?;
        let policy = self.policy(&wanted).await?;
        let (mut context, mut attachment) = (Pairs::new(), String::new());
        if policy.is_attached {
            attachment = wanted.attachment(&self.context.node_name);
            context = self.attached(volume, &wanted.id, &attachment, state).await?;
        }
        let can = driver.capabilities().await?;
        let record = wanted.record(attachment, volume);
        let calls = Calls { driver: &driver, can, policy: &policy, wanted: &wanted, record, context };
        let path = self.mount(volume, &calls, bound, state).await?;
        let kind = if wanted.block { FileKind::BlockDevice } else { FileKind::Directory };
        let place = Place { read_only: wanted.read_only, kind: Some(kind), device: wanted.block, ..Place::at(path) };
        let again_at = (policy.republishes || (can.expands && wanted.claim.is_some())).then(later);
        let (republishes, record) = (policy.republishes, calls.record);
        let mounted = Mounted { wanted, place: place.clone(), record, republishes, again_at };
        state.mounted.insert(volume.to_owned(), mounted);
        Ok(place)
    }

    async fn mount(
        &self,
        volume: &str,
        calls: &Calls<'_>,
        bound: Option<&Bound>,
        state: &mut State,
    ) -> Result<PathBuf, Reason> {
        let (mounts, uid, record) = (&self.context.csi.mounts, pod::uid(self.pod), &calls.record);
        let secrets = self.publish_secrets(volume, calls, state).await?;
        let context = self.volume_context(volume, calls, state).await?;
        let _turn = mounts.turn(&record.id).await?;
        // The pod's record first: a volume that is staged for nobody is unstaged.
        mounts.publish(uid, record).await?;
        let staging = self.stage(calls).await?;
        let target = mounts.target_path(uid, record);
        let parent = target.parent().map(Path::to_owned);
        blocking(move || parent.as_deref().map_or(Ok(()), make_directories)).await?;
        let request = NodePublishVolumeRequest {
            volume_id: record.id.handle.clone(),
            publish_context: calls.context.clone(),
            staging_target_path: staging.as_deref().map(text).unwrap_or_default(),
            target_path: text(&target),
            volume_capability: Some(calls.wanted.capability(calls.can, self.driver_group(calls))),
            readonly: calls.wanted.read_only,
            secrets,
            volume_context: context,
        };
        calls.driver.publish(request).await?;
        let (block, group, always) = (calls.wanted.block, self.own_group(calls), self.always_gives());
        let checked = target.clone();
        blocking(move || finish(&checked, block, group, always)).await?;
        if let Some(bound) = bound {
            self.grow(calls, bound).await?;
        }
        Ok(target)
    }

    /// Stages the volume, if the driver does that; returns where.
    async fn stage(&self, calls: &Calls<'_>) -> Result<Option<PathBuf>, Reason> {
        if !calls.can.stages || calls.wanted.is_ephemeral {
            return Ok(None);
        }
        let (mounts, record) = (&self.context.csi.mounts, &calls.record);
        let secrets = self.secret(calls.wanted.stage_secret.as_ref()).await?;
        mounts.stage(record).await?;
        let staging = mounts.staging_path(record);
        let made = staging.clone();
        blocking(move || make_directories(&made)).await?;
        let request = NodeStageVolumeRequest {
            volume_id: record.id.handle.clone(),
            publish_context: calls.context.clone(),
            staging_target_path: text(&staging),
            volume_capability: Some(calls.wanted.capability(calls.can, self.driver_group(calls))),
            secrets,
            volume_context: calls.wanted.attributes.clone(),
        };
        calls.driver.stage(request).await?;
        Ok(Some(staging))
    }

    /// The pod's group, if the driver gives volumes to groups itself.
    fn driver_group(&self, calls: &Calls<'_>) -> Option<u32> {
        self.group().filter(|_| calls.can.gives_to_group && !calls.wanted.block)
    }

    /// The pod's group, if the kubelet is to give it the volume.
    fn own_group(&self, calls: &Calls<'_>) -> Option<u32> {
        let is_given = !calls.can.gives_to_group && !calls.wanted.block && calls.policy.gives_to_group(calls.wanted);
        self.group().filter(|_| is_given)
    }

    /// What the driver is told about the volume, and about the pod if it wants to know.
    async fn volume_context(&self, volume: &str, calls: &Calls<'_>, state: &mut State) -> Result<Pairs, Reason> {
        let mut context = calls.wanted.attributes.clone();
        let mut tell = |key: &str, value: &str| context.insert(format!("csi.storage.k8s.io/{key}"), value.to_owned());
        if calls.policy.tells_of_pod {
            tell("pod.name", pod::name(self.pod));
            tell("pod.namespace", pod::namespace(self.pod));
            tell("pod.uid", pod::uid(self.pod));
            tell("serviceAccount.name", pod::spec(self.pod).service_account_name.as_deref().unwrap_or("default"));
            tell("ephemeral", if calls.wanted.is_ephemeral { "true" } else { "false" });
        }
        if !calls.policy.tokens.is_empty() && !calls.policy.tokens_are_secret {
            tell("serviceAccount.tokens", &self.driver_tokens(volume, calls, state).await?);
        }
        Ok(context)
    }

    async fn publish_secrets(&self, volume: &str, calls: &Calls<'_>, state: &mut State) -> Result<Pairs, Reason> {
        let mut secrets = self.secret(calls.wanted.publish_secret.as_ref()).await?;
        if !calls.policy.tokens.is_empty() && calls.policy.tokens_are_secret {
            let tokens = self.driver_tokens(volume, calls, state).await?;
            secrets.insert("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), tokens);
        }
        Ok(secrets)
    }

    /// Tokens of the pod's service account for those that the driver talks to, as JSON by audience.
    async fn driver_tokens(&self, volume: &str, calls: &Calls<'_>, state: &mut State) -> Result<String, Reason> {
        let mut tokens = serde_json::Map::new();
        for wanted in &calls.policy.tokens {
            let token = self.driver_token(volume, wanted, state).await?;
            let shown = json!({ "token": token.text(), "expirationTimestamp": token.expires().to_string() });
            tokens.insert(wanted.audience.clone(), shown);
        }
        Ok(serde_json::Value::Object(tokens).to_string())
    }

    /// The contents of a Secret that a driver is to have.
    async fn secret(&self, of: Option<&SecretRef>) -> Result<Pairs, Reason> {
        let Some(SecretRef { namespace, name }) = of else { return Ok(Pairs::new()) };
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), namespace);
        let failed = |why: &dyn std::fmt::Display| format!("failed to get secret {namespace}/{name}: {why}");
        let secret = api.get(name).await.map_err(|err| failed(&answer(&err)))?;
        let mut pairs = Pairs::new();
        for (key, value) in secret.data.into_iter().flatten() {
            let value = String::from_utf8(value.0).map_err(|_| failed(&format!("{key} is no text")))?;
            pairs.insert(key, value);
        }
        Ok(pairs)
    }
}

/// Checks that the driver has done what it said, and gives the volume to the pod's group.
fn finish(target: &Path, block: bool, group: Option<u32>, always: bool) -> io::Result<()> {
    let found = std::fs::symlink_metadata(target).map_err(at(target, "find what the driver published at"))?;
    if if block { !found.file_type().is_block_device() } else { !found.is_dir() } {
        let what = if block { "a block device" } else { "a directory" };
        return Err(io::Error::other(format!("the driver published no more than something that is not {what}")));
    }
    match group {
        Some(group) if always || !walk::is_of_group(target, group)? => walk::give_to_group(target, group),
        _ => Ok(()),
    }
}

fn later() -> Timestamp {
    let now = client::clock::now();
    SignedDuration::try_from(REPUBLISH).ok().and_then(|pause| now.checked_add(pause).ok()).unwrap_or(now)
}
