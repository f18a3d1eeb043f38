//! A pod's volumes: directories on the node, filled before its containers start and kept up to date after that.
//!
//! ```text
//! <root>/pods/<uid>/volumes/kubernetes.io~<plugin>/<volume>/   what containers see
//! ```
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, ImageVolumeSource, Pod, Volume};
use runtime::FileKind;
use tokio::sync::Mutex;

use crate::context::Context;
use crate::files::blocking;
use crate::references::References;
use crate::{pod, resources};
use memory::Tmpfs;
use payload::Payload;

mod atomic;
mod claims;
mod directory;
mod memory;
mod payload;
pub mod subpath;
mod token;

/// The plugin of the volumes that are no secret, and stay on disk.
const CONFIG_MAP: &str = "configmap";

/// Why a volume cannot be set up; the text goes into the `FailedMount` event.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {reason}")]
pub struct Error {
    volume: String,
    reason: String,
}

/// Where a volume is on the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The directory (or, for some hostPath volumes, file).
    pub path: PathBuf,
    /// The image whose files it shows, for an image volume: there is no path then.
    pub image: Option<ImageVolumeSource>,
    /// Containers may only read it.
    pub read_only: bool,
    /// What it must be when it is mounted: for a hostPath volume whatever its type promises.
    pub kind: Option<FileKind>,
}

/// The volumes of a pod by name.
pub type Places = BTreeMap<String, Place>;

/// What a pass over the volumes leaves.
#[derive(Clone, Debug)]
pub struct Synced {
    /// Where the volumes are.
    pub places: Arc<Places>,
    /// When a token must be renewed.
    pub renew_at: Option<Timestamp>,
}

/// The volumes of one pod.
pub struct Volumes {
    context: Arc<Context>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was written last, by volume.
    written: BTreeMap<String, Payload>,
    tokens: BTreeMap<String, token::Token>,
    /// Where the volumes of claims were found, by volume.
    claims: BTreeMap<String, Place>,
}

impl Volumes {
    /// Nothing is set up yet.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, state: Mutex::default() }
    }

    /// Sets up what is not, rewrites what changed.
    pub async fn sync(
        &self,
        pod: &Pod,
        references: &References,
        pod_ips: &[std::net::IpAddr],
    ) -> Result<Synced, Error> {
        let mut state = self.state.lock().await;
        let mut places = Places::new();
        for volume in pod::spec(pod).volumes.iter().flatten() {
            let pass = Pass { context: &self.context, pod, references, pod_ips };
            let place = pass.set_up(volume, &mut state).await;
            let place = place.map_err(|reason| Error { volume: volume.name.clone(), reason })?;
            places.insert(volume.name.clone(), place);
        }
        let renew_at = state.tokens.values().map(|token| token.renew_at).min();
        Ok(Synced { places: Arc::new(places), renew_at })
    }

    /// Removes the pod's directory with everything in it.
    pub async fn tear_down(&self, uid: &str) -> std::io::Result<()> {
        let directory = self.context.pod_dir(uid);
        blocking(move || directory::remove_pod(&directory)).await
    }
}

struct Pass<'a> {
    context: &'a Arc<Context>,
    pod: &'a Pod,
    references: &'a References,
    pod_ips: &'a [std::net::IpAddr],
}

impl Pass<'_> {
    async fn set_up(&self, volume: &Volume, state: &mut State) -> Result<Place, String> {
        if let Some(image) = volume.image.clone() {
            return Ok(Place { path: PathBuf::new(), image: Some(image), read_only: true, kind: None });
        }
        if let Some(source) = &volume.host_path {
            let (path, kind) = (PathBuf::from(&source.path), source.type_.clone().unwrap_or_default());
            let checked = path.clone();
            let checked = blocking(move || directory::check_host_path(&checked, &kind)).await;
            return Ok(Place { path, image: None, read_only: false, kind: checked.map_err(|err| err.to_string())? });
        }
        if let Some(source) = volume.empty_dir.clone() {
            let path = empty_dir_path(self.context, self.pod, &volume.name);
            let (made, group, memory) = (path.clone(), self.group(), self.memory(&source));
            blocking(move || directory::empty_dir(&made, &source, group, memory))
                .await
                .map_err(|err| err.to_string())?;
            return Ok(Place { path, image: None, read_only: false, kind: Some(FileKind::Directory) });
        }
        if let Some(place) = self.claimed(volume, state).await? {
            return Ok(place);
        }
        let (plugin, payload) = match self.payload(volume, state).await? {
            Some(found) => found,
            None => return Err(unsupported(volume)),
        };
        let path = self.directory(plugin, &volume.name);
        let is_new = state.written.get(&volume.name) != Some(&payload);
        let in_memory = plugin != CONFIG_MAP && self.context.runtime.needs_mounts();
        let (target, written, group) = (path.clone(), payload.clone(), self.group());
        blocking(move || write(&target, &written, group, is_new, in_memory)).await.map_err(|err| err.to_string())?;
        state.written.insert(volume.name.clone(), payload);
        Ok(Place { path, image: None, read_only: true, kind: Some(FileKind::Directory) })
    }

    /// The tmpfs of an emptyDir volume: as upstream no larger than the pod's memory, or the node's.
    fn memory(&self, source: &EmptyDirVolumeSource) -> Option<Tmpfs> {
        if source.medium.as_deref() != Some("Memory") || !self.context.runtime.needs_mounts() {
            return None;
        }
        let given = source.size_limit.as_ref().and_then(resources::value).and_then(|size| u64::try_from(size).ok());
        let pod = u64::try_from(resources::pod_resources(self.pod, 0).memory_limit).ok();
        let limits = [given, pod, Some(self.context.memory)];
        let size = limits.into_iter().flatten().filter(|limit| *limit > 0).min();
        Some(Tmpfs { size, mode: 0o777, executable: true })
    }

    fn directory(&self, plugin: &str, volume: &str) -> PathBuf {
        path_of(self.context, self.pod, plugin, volume)
    }

    /// `fsGroup`, which owns what the pod may write.
    fn group(&self) -> Option<u32> {
        let context = pod::spec(self.pod).security_context.as_ref()?;
        context.fs_group.and_then(|group| u32::try_from(group).ok())
    }
}

/// Writes the files of a volume where they are new, or where what held them is gone.
fn write(target: &Path, payload: &Payload, group: Option<u32>, is_new: bool, in_memory: bool) -> std::io::Result<()> {
    let tmpfs = in_memory.then(|| Tmpfs::of(payload));
    let mounted = tmpfs.map(|tmpfs| tmpfs.ensure(target)).transpose()?.unwrap_or(false);
    if !is_new && !mounted {
        return Ok(());
    }
    if let Some(tmpfs) = tmpfs.filter(|_| !mounted) {
        tmpfs.grow(target)?;
    }
    atomic::write(target, payload, group)
}

/// Unmounts the volumes of all pods of a kubelet that has ended, and whose pods have: their memory is free then, and
/// its directory can be removed. The next kubelet makes them again.
pub fn unmount_all(root_dir: &Path) -> std::io::Result<()> {
    directory::unmount_below(&root_dir.join("pods"))
}

/// The directory of a pod's emptyDir volumes.
pub(crate) const EMPTY_DIR: &str = "kubernetes.io~empty-dir";

/// Where an emptyDir volume of the pod is.
pub(crate) fn empty_dir_path(context: &Context, pod: &Pod, volume: &str) -> PathBuf {
    context.pod_dir(pod::uid(pod)).join("volumes").join(EMPTY_DIR).join(volume)
}

fn path_of(context: &Context, pod: &Pod, plugin: &str, volume: &str) -> PathBuf {
    context.pod_dir(pod::uid(pod)).join("volumes").join(format!("kubernetes.io~{plugin}")).join(volume)
}

fn unsupported(volume: &Volume) -> String {
    let source = serde_json::to_value(volume).unwrap_or_default();
    let fields = source.as_object().into_iter().flatten();
    let kind = fields.map(|(key, _)| key.as_str()).find(|key| *key != "name").unwrap_or("of no known source");
    format!("volumes of type {kind} are not supported on this node")
}
