//! Stage paths: what in the finished root may not be seen or written.

use std::path::Path;

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountFlags, OpenTreeFlags};
use std::os::fd::AsFd as _;

use super::spec::ContainerSpec;
use super::user::User;
use super::{During as _, StageResult, enter};
use crate::sys::{MountAttributes, mount_setattr};

/// Masks and write-protects paths. Must run after the pivot.
pub(super) fn restrict(spec: &ContainerSpec) -> StageResult {
    for path in &spec.read_only_paths {
        write_protect(path)?;
    }
    for path in &spec.masked_paths {
        mask(path)?;
    }
    Ok(())
}

/// Makes and enters the working directory; then the root may become read-only.
pub(super) fn make_working_directory(spec: &ContainerSpec, user: &User) -> StageResult {
    let directory = &spec.working_directory;
    if !directory.exists() {
        std::fs::create_dir_all(directory).during(|| format!("make {}", directory.display()))?;
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        rustix::fs::chown(directory, Some(uid), Some(gid)).during(|| format!("chown {}", directory.display()))?;
    }
    if spec.root.read_only {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty()).during(|| "open /".into())?;
        let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
        mount_setattr(root.as_fd(), attributes).during(|| "make / read-only".into())?;
    }
    enter(directory)
}

fn write_protect(path: &str) -> StageResult {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = match rustix::mount::open_tree(CWD, path, flags) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        opened => opened.during(|| format!("open {path}"))?,
    };
    let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
    mount_setattr(tree.as_fd(), attributes).during(|| format!("make {path} read-only"))?;
    super::mounts::attach(&tree, CWD, path)
}

/// Hides a file behind `/dev/null`, a directory behind an empty one.
fn mask(path: &str) -> StageResult {
    let Ok(metadata) = Path::new(path).symlink_metadata() else { return Ok(()) };
    if metadata.is_dir() {
        rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::RDONLY, c"size=0k").during(|| format!("mask {path}"))
    } else {
        rustix::mount::mount_bind("/dev/null", path).during(|| format!("mask {path}"))
    }
}
