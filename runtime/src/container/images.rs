//! Stage mounts: the files of an image as a volume (KEP-4639), read-only and without programs that could be run.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::spec::MountSpec;
use super::trees::{clone_tree, map_owners};
use super::users::Users;
use super::{During as _, StageError, StageResult, enter};
use crate::beneath::{self, Directory, Links};
use crate::sys::{MountAttributes, mount_setattr};

/// Puts the layers together at the mount's source, which is the container's own, and returns a detached copy of what is
/// asked for. Nobody outside this mount namespace sees that.
pub(super) fn open(layers: &Path, mount: &MountSpec, users: Option<&Users>) -> StageResult<OwnedFd> {
    let place = &mount.source;
    let whole = place.join("whole");
    std::fs::create_dir_all(&whole).during(|| format!("make {}", whole.display()))?;
    let base = base(layers, mount, users)?;
    let lower: Vec<String> = match users {
        Some(_) => (0..mount.image.len()).map(|index| index.to_string()).collect(),
        None => mount.image.clone(),
    };
    let root = match &lower[..] {
        // Overlayfs takes no single layer.
        [one] => base.join(one),
        several => {
            stack(&base, several, &whole)?;
            whole
        }
    };
    let found = beneath::find_on_node(&root).during(|| format!("find {}", root.display()))?;
    let tree = clone_tree(&below(found, mount.beneath.as_deref())?)?;
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let attributes = MountAttributes { set, recursive: true, ..MountAttributes::default() };
    mount_setattr(tree.as_fd(), attributes).during(|| "make an image's files read-only".into())?;
    Ok(tree)
}

/// Where the layers are, with the owners that the pod's user namespace shows.
fn base(layers: &Path, mount: &MountSpec, users: Option<&Users>) -> StageResult<PathBuf> {
    let Some(users) = users else { return Ok(layers.to_owned()) };
    let mapped = mount.source.join("mapped");
    std::fs::create_dir_all(&mapped).during(|| format!("make {}", mapped.display()))?;
    let sources = mount.image.iter().enumerate().map(|(index, layer)| (layers.join(layer), index.to_string()));
    map_owners(&mapped, &sources.collect::<Vec<_>>(), users)?;
    Ok(mapped)
}

fn stack(base: &Path, lower: &[String], target: &Path) -> StageResult {
    enter(base)?;
    let options = CString::new(format!("lowerdir={}", lower.join(":"))).map_err(|_| Errno::INVAL);
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    let mounted = options.and_then(|options| rustix::mount::mount("overlay", target, "overlay", flags, &*options));
    mounted.during(|| "put the layers of an image together".into())
}

/// A path in the image: nothing is made there, and links in it do not lead out.
fn below(root: OwnedFd, path: Option<&Path>) -> StageResult<OwnedFd> {
    let Some(path) = path else { return Ok(root) };
    let refuse = |err: io::Error| {
        StageError::Program(format!("failed to find subPath {:?} in the image: {err}", path.display().to_string()))
    };
    Directory::held(root, Links::Within).find(path).map_err(refuse)
}
