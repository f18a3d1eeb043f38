//! Stage mounts: detached copies of mount trees, which are mounted by their descriptors.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags};

use super::users::Users;
use super::{During as _, StageResult, enter};
use crate::beneath;

/// Mounts a detached tree on what a descriptor stands for.
pub(super) fn attach(tree: &OwnedFd, target: &OwnedFd) -> StageResult {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", flags).during(|| "mount".into())
}

/// A detached copy of the mount tree at a descriptor.
pub(super) fn clone_tree(found: &OwnedFd) -> StageResult<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(found, "", flags).during(|| "copy a mount".into())
}

/// Mounts directories again below `place` under other names, their owners shifted into the pod's user namespace.
pub(super) fn map_owners(place: &Path, sources: &[(PathBuf, String)], users: &Users) -> StageResult {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("mapped", place, "tmpfs", flags, c"mode=700")
        .during(|| format!("mount at {}", place.display()))?;
    enter(place)?;
    for (source, name) in sources {
        let mapped = || {
            let tree = clone_mount(&beneath::find_on_node(source)?)?;
            users.map(&tree)?;
            rustix::fs::mkdirat(CWD, name, Mode::from_raw_mode(0o700))?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            Ok::<_, io::Error>(rustix::mount::move_mount(&tree, "", CWD, name, flags)?)
        };
        mapped().during(|| format!("map the owners of {}", source.display()))?;
    }
    Ok(())
}

/// A detached copy of one mount, without those below it.
fn clone_mount(found: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(found, "", flags)
}
