//! emptyDir volumes: a directory of the pod's own, on disk or in memory (upstream: pkg/volume/emptydir).
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use runtime::FileKind;

use super::memory::{MODE, Tmpfs};
use super::{Pass, Place, Reason};
use crate::context::Context;
use crate::files::{at, blocking};
use crate::{pod, resources};

/// The directory of a pod's emptyDir volumes.
pub(crate) const DIRECTORY: &str = "kubernetes.io~empty-dir";

/// Where an emptyDir volume of the pod is.
pub(crate) fn path(context: &Context, pod: &Pod, volume: &str) -> PathBuf {
    context.pod_dir(pod::uid(pod)).join("volumes").join(DIRECTORY).join(volume)
}

impl Pass<'_> {
    /// Makes the volume, if it is not there.
    pub(super) async fn empty_dir(&self, volume: &str, source: &EmptyDirVolumeSource) -> Result<Place, Reason> {
        let path = path(self.context, self.pod, volume);
        let (made, source, group, memory) = (path.clone(), source.clone(), self.group(), self.memory(source));
        blocking(move || make(&made, &source, group, memory)).await?;
        Ok(Place { kind: Some(FileKind::Directory), ..Place::at(path) })
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
        Some(Tmpfs { size, mode: MODE, executable: true })
    }
}

/// Makes the directory once; with `memory` it is a tmpfs.
pub(super) fn make(
    path: &Path,
    source: &EmptyDirVolumeSource,
    group: Option<u32>,
    memory: Option<Tmpfs>,
) -> io::Result<()> {
    let medium = source.medium.as_deref().unwrap_or_default();
    if !matches!(medium, "" | "Memory") {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("emptyDir medium {medium:?} is not supported on this node"),
        ));
    }
    let mut is_new = !path.exists();
    fs::create_dir_all(path).map_err(at(path, "create"))?;
    if let Some(memory) = memory {
        is_new = memory.ensure(path)?;
    }
    if !is_new {
        return Ok(());
    }
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(at(path, "chown"))?;
    }
    let mode = if memory.is_some() { MODE } else { 0o777 };
    let set_group = if group.is_some() { 0o2000 } else { 0 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode | set_group)).map_err(at(path, "chmod"))
}
