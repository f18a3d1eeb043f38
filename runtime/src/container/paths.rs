//! Stage paths: what in the finished root may not be seen or written.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::mounts::Tree;
use super::spec::ContainerSpec;
use super::trees::{attach, clone_tree};
use super::user::User;
use super::users::Users;
use super::{During as _, StageError, StageResult};
use crate::FileKind;
use crate::beneath::{self, Directory, Links};
use crate::sys::{MountAttributes, mount_setattr};

/// Masks and write-protects paths of the finished root. Must run before the pivot, while the node's `/dev/null` is there.
pub(super) fn restrict(spec: &ContainerSpec, root: &Tree) -> StageResult {
    for path in &spec.read_only_paths {
        write_protect(root, path)?;
    }
    if spec.masked_paths.is_empty() {
        return Ok(());
    }
    let null = null()?;
    for path in &spec.masked_paths {
        mask(root, path, &null)?;
    }
    Ok(())
}

/// Makes and enters the working directory; then the root may become read-only. Must run after the pivot.
pub(super) fn make_working_directory(spec: &ContainerSpec, user: &User, users: Option<&Users>) -> StageResult {
    let directory = &spec.working_directory;
    let root = Directory::open(Path::new("/"), Links::InRoot).during(|| "open /".into())?;
    let mut found = root.find(directory);
    if found.as_ref().is_err_and(|err| err.kind() == io::ErrorKind::NotFound) {
        let made = root.find_or_make(directory, 0o755).during(|| format!("make {}", directory.display()))?;
        let on_node = |id| users.map_or(Ok(id), |users| users.on_node(id));
        let (uid, gid) = (Uid::from_raw(on_node(user.uid)?), Gid::from_raw(on_node(user.gid)?));
        rustix::fs::chownat(&made, "", Some(uid), Some(gid), rustix::fs::AtFlags::EMPTY_PATH)
            .during(|| format!("chown {}", directory.display()))?;
        found = Ok(made);
    }
    if spec.root.read_only {
        let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
        mount_setattr(root.as_fd(), attributes).during(|| "make / read-only".into())?;
    }
    enter(directory, found)
}

/// Enters the working directory of a container that runs.
pub(super) fn enter_working_directory(directory: &Path) -> StageResult {
    let root = Directory::open(Path::new("/"), Links::InRoot).during(|| "open /".into())?;
    enter(directory, root.find(directory))
}

/// Makes a directory the current one of this process: never through a magic link such as `/proc/self/fd/7`, and only if
/// it is in the container.
fn enter(path: &Path, found: io::Result<OwnedFd>) -> StageResult {
    let what = || format!("chdir to cwd ({:?})", path.display().to_string());
    rustix::process::fchdir(found.during(what)?).during(what)?;
    let here = rustix::process::getcwd(Vec::new()).during(what)?;
    if here.to_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(StageError::Program(format!("{}: it is outside", what())))
    }
}

fn write_protect(root: &Tree, path: &str) -> StageResult {
    let Some(found) = root.find(Path::new(path))? else { return Ok(()) };
    let tree = clone_tree(&found)?;
    let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
    mount_setattr(tree.as_fd(), attributes).during(|| format!("make {path} read-only"))?;
    attach(&tree, &found)
}

/// The node's `/dev/null`, and nothing else that may be there.
fn null() -> StageResult<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = rustix::fs::openat(CWD, "/dev/null", flags, Mode::empty()).during(|| "open /dev/null".into())?;
    let stat = rustix::fs::fstat(&null).during(|| "look at /dev/null".into())?;
    let is_null = beneath::kind(&null).during(|| "look at /dev/null".into())? == Some(FileKind::CharDevice)
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(null) } else { Err(StageError::Program("the node's /dev/null is not the null device".to_owned())) }
}

/// Hides a file behind `/dev/null`, a directory behind an empty one.
fn mask(root: &Tree, path: &str, null: &OwnedFd) -> StageResult {
    let Some(found) = root.find(Path::new(path))? else { return Ok(()) };
    let is_directory = beneath::kind(&found).during(|| format!("look at {path}"))? == Some(FileKind::Directory);
    let cover = if is_directory { nothing().during(|| format!("mask {path}"))? } else { clone_tree(null)? };
    // Or a container could change the mode of the node's null device.
    let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
    mount_setattr(cover.as_fd(), attributes).during(|| format!("mask {path}"))?;
    attach(&cover, &found)
}

/// An empty directory that nothing can be put into.
fn nothing() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "size", "0k")?;
    rustix::mount::fsconfig_create(&context)?;
    let safe = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, safe)
}
