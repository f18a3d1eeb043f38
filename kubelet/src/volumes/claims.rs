//! Volumes of claims: the persistent volume that a claim is bound to, as far as this node has it (`local`, `hostPath`,
//! `csi`) (upstream: the desired state of pkg/kubelet/volumemanager/populator).
use std::path::{Path, PathBuf};

use api::volumes;
use k8s_openapi::api::core::v1::{CSIVolumeSource, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec};
use kube::Api;
use runtime::{FileKind, walk};

use super::csi::{Bound, Wanted};
use super::source::Claim;
use super::{Pass, Place, Reason, State, host_path};
use crate::failure::answer;
use crate::files::blocking;
use crate::pod;

impl Pass<'_> {
    /// The place of a claim's volume, which stays the same while the pod is here.
    pub(super) async fn claimed(&self, volume: &str, claim: &Claim<'_>, state: &mut State) -> Result<Place, Reason> {
        if let Some(place) = self.known_driver_volume(volume, state).await? {
            return Ok(place);
        }
        if let Some(place) = state.claims.get(volume) {
            return Ok(place.clone());
        }
        let bound = match claim {
            Claim::Named(source) => self.bound_volume(&source.claim_name, false).await?,
            Claim::MadeForPod => self.bound_volume(&volumes::made_name(self.pod, volume), true).await?,
        };
        self.is_here(&bound.volume)?;
        let spec = bound.volume.spec.clone().unwrap_or_default();
        let read_only = matches!(claim, Claim::Named(source) if source.read_only == Some(true));
        if let Some(source) = &spec.csi {
            let name = bound.volume.metadata.name.as_deref().unwrap_or_default();
            let wanted = Wanted::persistent(name, &spec, source, read_only);
            return self.driver_volume(volume, wanted, Some(&bound), state).await;
        }
        let place = Place { read_only, ..self.place(&spec, read_only).await? };
        state.claims.insert(volume.to_owned(), place.clone());
        Ok(place)
    }

    /// The volume that the claim is bound to, and that is bound to it. A volume of another claim that had the name
    /// before is not.
    async fn bound_volume(&self, name: &str, is_ephemeral: bool) -> Result<Bound, Reason> {
        let client = &self.context.client;
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), pod::namespace(self.pod));
        let claim = claims.get(name).await;
        let claim = claim.map_err(|err| format!("failed to fetch PVC from API server: {}", answer(&err)))?;
        if is_ephemeral {
            volumes::check_made_for(&claim, self.pod)?;
        }
        let is_bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|_| is_bound);
        let Some(volume) = volume.filter(|volume| !volume.is_empty()) else {
            return Err(format!("PVC {name:?} is not bound").into());
        };
        let known: Api<PersistentVolume> = Api::all(client.clone());
        let found = known.get(volume).await;
        let found = found.map_err(|err| format!("failed to fetch PV {volume:?} from API server: {}", answer(&err)))?;
        let of = found.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|claim| claim.uid.as_ref());
        if of.is_none() || of != claim.metadata.uid.as_ref() {
            return Err(format!("PV {volume:?} is not bound to PVC {name:?}").into());
        }
        Ok(Bound { claim, volume: found })
    }

    /// Whether the volume is one of this node's.
    fn is_here(&self, volume: &PersistentVolume) -> Result<(), Reason> {
        let node = self.context.node().ok_or("this node's own object is not known yet")?;
        let labels = node.metadata.labels.clone().unwrap_or_default();
        if volumes::is_reachable(volume, &self.context.node_name, &labels) {
            return Ok(());
        }
        Err("storage node affinity check failed: the volume is not on this node".into())
    }

    /// The place of a volume that the pod has for itself.
    pub(super) async fn own_driver_volume(
        &self,
        volume: &str,
        source: &CSIVolumeSource,
        state: &mut State,
    ) -> Result<Place, Reason> {
        if let Some(place) = self.known_driver_volume(volume, state).await? {
            return Ok(place);
        }
        self.driver_volume(volume, Wanted::ephemeral(self.pod, volume, source), None, state).await
    }

    async fn place(&self, spec: &PersistentVolumeSpec, read_only: bool) -> Result<Place, Reason> {
        if spec.volume_mode.as_deref() == Some("Block") {
            return Err("volumeMode Block is not supported on this node".into());
        }
        if spec.mount_options.as_ref().is_some_and(|options| !options.is_empty()) {
            return Err("mount options of volumes are not supported on this node".into());
        }
        if let Some(source) = &spec.host_path {
            return host_path::place(source).await;
        }
        let Some(source) = &spec.local else { return Err(unsupported(spec).into()) };
        let path = PathBuf::from(&source.path);
        // As upstream: what is only read stays as it is.
        let group = self.group().filter(|_| !read_only);
        let (given, always) = (path.clone(), self.always_gives());
        blocking(move || prepare(&given, group, always)).await.map_err(|err| format!("{}: {err}", source.path))?;
        Ok(Place { kind: Some(FileKind::Directory), ..Place::at(path) })
    }

    /// `fsGroupChangePolicy`.
    pub(super) fn always_gives(&self) -> bool {
        let context = pod::spec(self.pod).security_context.as_ref();
        context.and_then(|context| context.fs_group_change_policy.as_deref()) != Some("OnRootMismatch")
    }
}

/// Checks that the directory is there, and gives it to the pod's group.
fn prepare(path: &Path, group: Option<u32>, always: bool) -> std::io::Result<()> {
    if !std::fs::symlink_metadata(path)?.is_dir() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "is no directory"));
    }
    match group {
        Some(group) if always || !walk::is_of_group(path, group)? => walk::give_to_group(path, group),
        _ => Ok(()),
    }
}

fn unsupported(spec: &PersistentVolumeSpec) -> String {
    const ABOUT: [&str; 9] = [
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    let fields = serde_json::to_value(spec).unwrap_or_default();
    let mut names = fields.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let source = names.find(|name| !ABOUT.contains(name)).unwrap_or("of no known source");
    format!("persistent volumes of type {source} are not supported on this node")
}
