//! The kubelet's directory as a mount that shows the node what is mounted below it: drivers in containers mount there for
//! the pods of others (upstream: MakeRShared of mount-utils, in setupDataDirs of pkg/kubelet).
use std::io;
use std::path::Path;

use runtime::beneath;
use runtime::mount_table::MountEntry;
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

use super::removal::{mounts_below, unmount_below};
use crate::files::at;

/// Mounts the directory on itself, if it is no mount point, and shares that, unless the mount that it lies on is shared
/// already, as on most machines. What is mounted below it would be hidden: such a directory stays as it is.
pub(crate) fn share(root: &Path) -> io::Result<()> {
    let known = entry(root)?;
    if known.is_shared {
        return Ok(());
    }
    if known.point != std::fs::canonicalize(root)? {
        if !mounts_below(root)?.is_empty() {
            tracing::warn!(root = %root.display(), "what drivers mount stays in their containers: the mount is private");
            return Ok(());
        }
        mount_bind(root, root).map_err(io::Error::from).map_err(at(root, "mount on itself"))?;
    }
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change(root, shared).map_err(io::Error::from).map_err(at(root, "share the mount of"))
}

/// Unmounts the directory where it is mounted on itself, and nothing below it is mounted.
pub(super) fn take_back(root: &Path) -> io::Result<()> {
    match &mounts_below(root)?[..] {
        [only] if is_mounted_on_itself(only)? => unmount_below(only),
        _ => Ok(()),
    }
}

/// Whether a mount point shows what it hides. That of a disk does not.
fn is_mounted_on_itself(point: &Path) -> io::Result<bool> {
    let Some(parent) = point.parent() else { return Ok(false) };
    let (above, own) = (entry(parent)?, entry(point)?);
    let hidden = point.strip_prefix(&above.point).map(|below| above.root.join(below));
    Ok(own.point == point && own.device == above.device && hidden.is_ok_and(|hidden| hidden == own.root))
}

fn entry(path: &Path) -> io::Result<MountEntry> {
    beneath::find_on_node(path).and_then(MountEntry::of).map_err(at(path, "look up the mount of"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

    use super::super::unmount_all;
    use super::*;

    #[test]
    fn a_directory_on_a_private_mount_becomes_a_shared_one_until_nothing_is_left_in_it() {
        if !super::super::memory::is_root_or_skips() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        mount("x", place, "tmpfs", MountFlags::empty(), c"").unwrap();
        mount_change(place, MountPropagationFlags::PRIVATE).unwrap();
        let root = place.join("kubelet");
        fs::create_dir_all(root.join("plugins")).unwrap();
        share(&root).unwrap();
        share(&root).unwrap();
        let entry = || entry(&root).unwrap();
        assert!(entry().is_shared && entry().point == root);
        mount("x", root.join("plugins"), "tmpfs", MountFlags::empty(), c"").unwrap();
        unmount_all(&root).unwrap();
        assert_eq!(entry().point, root, "a driver's mount needs it");
        unmount(root.join("plugins"), UnmountFlags::empty()).unwrap();
        unmount_all(&root).unwrap();
        assert_eq!(entry().point, place);
        mount("x", &root, "tmpfs", MountFlags::empty(), c"").unwrap();
        share(&root).unwrap();
        unmount_all(&root).unwrap();
        assert!(entry().point == root && entry().is_shared, "it is a disk of its own");
        unmount(&root, UnmountFlags::empty()).unwrap();
        mount("x", root.join("plugins"), "tmpfs", MountFlags::empty(), c"").unwrap();
        share(&root).unwrap();
        assert_eq!(entry().point, place, "nothing is hidden");
        unmount(place, UnmountFlags::DETACH).unwrap();
    }
}
