//! A pod's volumes: directories on the node, filled before its containers start and kept up to date after that.
//!
//! ```text
//! <root>/pods/<uid>/volumes/kubernetes.io~<plugin>/<volume>/   what containers see
//! ```
//! Upstream: pkg/kubelet/volumemanager and pkg/volume.
//!
//! To add a type of volume: a file here that makes its [`Place`] (the smallest is `host_path.rs`), an arm of
//! [`source::Source`] that is read from the spec, and its arm in [`Pass::set_up`]. If the kubelet writes its files, an arm
//! of [`source::Origin`] and of [`Pass::payload`] is enough. Until then the type is refused by name.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, ImageVolumeSource, Pod, Volume};
use runtime::FileKind;
use tokio::sync::Mutex;

use crate::context::Context;
use crate::csi::ReleaseError;
use crate::files::blocking;
use crate::pod;
use crate::references::References;
use memory::Tmpfs;
use payload::Payload;
use source::{CONFIG_MAP, Files, Source};

mod atomic;
mod claims;
mod csi;
pub(crate) mod empty_dir;
mod host_path;
mod memory;
mod payload;
mod removal;
pub(crate) mod shared;
mod source;
pub(crate) mod subpath;
mod token;

/// Why a volume cannot be set up; the text goes into the `FailedMount` event.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {reason}")]
pub(crate) struct Error {
    volume: String,
    reason: Reason,
}

/// Why one cannot, in words for people: errors of the file system and of references as they are, and upstream's words.
type Reason = Box<dyn std::error::Error + Send + Sync>;

impl Error {
    /// Nothing is wrong so far: the volume is on its way.
    pub(crate) fn is_waiting(&self) -> bool {
        self.reason.is::<csi::NotYet>()
    }
}

/// Why something of a pod is still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TearDownError {
    /// A driver has not unmounted it.
    #[error(transparent)]
    Driver(#[from] ReleaseError),
    /// It cannot be removed.
    #[error(transparent)]
    Files(#[from] std::io::Error),
}

/// Where a volume is on the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Place {
    /// The directory (or, for some hostPath volumes, file).
    pub(crate) path: PathBuf,
    /// The image whose files it shows, for an image volume: there is no path then.
    pub(crate) image: Option<ImageVolumeSource>,
    /// It is a block device, which containers have as such.
    pub(crate) device: bool,
    /// Containers may only read it.
    pub(crate) read_only: bool,
    /// What it must be when it is mounted: for a hostPath volume whatever its type promises.
    pub(crate) kind: Option<FileKind>,
}

impl Place {
    fn at(path: PathBuf) -> Self {
        Self { path, ..Self::default() }
    }
}

/// The volumes of a pod by name.
pub(crate) type Places = BTreeMap<String, Place>;

/// What a pass over the volumes leaves.
#[derive(Clone, Debug)]
pub(crate) struct Synced {
    /// Where the volumes are.
    pub(crate) places: Arc<Places>,
    /// When a token must be renewed, or a driver asked again.
    pub(crate) renew_at: Option<Timestamp>,
}

/// The volumes of one pod.
pub(crate) struct Volumes {
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
    /// What drivers have published, by volume.
    mounted: BTreeMap<String, csi::Mounted>,
    /// Tokens for drivers, which are renewed when they are asked again.
    driver_tokens: BTreeMap<String, token::Token>,
    /// Since when volumes are waited for that are not attached.
    waiting: BTreeMap<String, tokio::time::Instant>,
}

impl Volumes {
    /// Nothing is set up yet.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, state: Mutex::default() }
    }

    /// Sets up what is not, rewrites what changed.
    pub(crate) async fn sync(
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
        let again = state.mounted.values().filter_map(|mounted| mounted.again_at);
        let renew_at = state.tokens.values().map(|token| token.renew_at).chain(again).min();
        Ok(Synced { places: Arc::new(places), renew_at })
    }

    /// Gives back what drivers have published to the pod.
    pub(crate) async fn release(&self, uid: &str) -> Result<(), ReleaseError> {
        self.context.csi.release(uid).await
    }

    /// Removes the pod's directory with everything in it.
    pub(crate) async fn tear_down(&self, uid: &str) -> Result<(), TearDownError> {
        self.release(uid).await?;
        let directory = self.context.pod_dir(uid);
        Ok(blocking(move || removal::remove_pod(&directory)).await?)
    }
}

struct Pass<'a> {
    context: &'a Arc<Context>,
    pod: &'a Pod,
    references: &'a References,
    pod_ips: &'a [std::net::IpAddr],
}

impl Pass<'_> {
    async fn set_up(&self, volume: &Volume, state: &mut State) -> Result<Place, Reason> {
        match Source::of(volume)? {
            // Paths, drivers and disks of this machine are not those of the node.
            Source::HostPath(_) | Source::Csi(_) | Source::Claim(_) if self.context.hollow => {
                self.empty_dir(&volume.name, &EmptyDirVolumeSource::default()).await
            }
            Source::Csi(source) => self.own_driver_volume(&volume.name, source, state).await,
            Source::EmptyDir(source) => self.empty_dir(&volume.name, source).await,
            Source::HostPath(source) => host_path::place(source).await,
            Source::Image(image) => Ok(Place { image: Some(image.clone()), read_only: true, ..Place::default() }),
            Source::Claim(claim) => self.claimed(&volume.name, &claim, state).await,
            Source::Files(files) => self.files(&volume.name, &files, state).await,
        }
    }

    /// Writes the files of a volume where they are new.
    async fn files(&self, volume: &str, files: &Files<'_>, state: &mut State) -> Result<Place, Reason> {
        let payload = self.payload(volume, files, state).await?;
        let path = path_of(self.context, self.pod, files.plugin, volume);
        let is_new = state.written.get(volume) != Some(&payload);
        let in_memory = files.plugin != CONFIG_MAP && self.context.runtime.needs_mounts();
        let (target, written, group) = (path.clone(), payload.clone(), self.group());
        blocking(move || write(&target, &written, group, is_new, in_memory)).await?;
        state.written.insert(volume.to_owned(), payload);
        Ok(Place { read_only: true, kind: Some(FileKind::Directory), ..Place::at(path) })
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

pub use removal::mounts_below;

/// Unmounts the volumes of all pods of a kubelet that has ended, and whose pods have: their memory is free then, and
/// its directory can be removed, unless a driver has something mounted there. The next kubelet makes them again.
pub fn unmount_all(root_dir: &Path) -> std::io::Result<()> {
    removal::unmount_below(&root_dir.join("pods"))?;
    shared::take_back(root_dir)
}

fn path_of(context: &Context, pod: &Pod, plugin: &str, volume: &str) -> PathBuf {
    context.pod_dir(pod::uid(pod)).join("volumes").join(format!("kubernetes.io~{plugin}")).join(volume)
}
