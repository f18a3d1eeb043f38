//! Stages mounts and pivot: the root file system and everything mounted in it.
//!
//! Every target is opened below the root with `RESOLVE_IN_ROOT` and mounted on by descriptor, so a symbolic link in an
//! image cannot lead a mount out of the container.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::spec::{ContainerSpec, DeviceSpec, MountSpec};
use super::{During as _, StageResult, enter};
use crate::Propagation;
use crate::sys::{MountAttributes, mount_setattr};

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Links that every container's `/dev` has.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
    ("/proc/kcore", "core"),
];

/// Makes the whole tree at `<directory>/rootfs` and returns its root.
pub(super) fn make(spec: &ContainerSpec, directory: &Path) -> StageResult<PathBuf> {
    // Sources are taken before the tree is cut off from the host's, so that they can keep their propagation.
    let sources = spec.mounts.iter().map(open_source).collect::<StageResult<Vec<_>>>()?;
    let cut = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", cut).during(|| "make / a slave".into())?;
    let root = directory.join("rootfs");
    mount_overlay(spec, directory, &root)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tree = Tree(rustix::fs::open(&root, flags, Mode::empty()).during(|| format!("open {}", root.display()))?);
    let bound = |path: &str| spec.mounts.iter().any(|mount| mount.target == Path::new(path));
    mount_kernel_files(&tree, spec, &bound)?;
    make_devices(&tree, spec)?;
    let mut order: Vec<_> = spec.mounts.iter().zip(&sources).collect();
    order.sort_by_key(|(mount, _)| mount.target.components().count());
    for (mount, source) in order {
        let target = tree.target(&mount.target, is_directory(source)?)?;
        attach(source, &target, "")?;
    }
    Ok(root)
}

/// Makes the tree the root of this mount namespace and lets go of the host's.
pub(super) fn pivot(root: &Path) -> StageResult {
    enter(root)?;
    rustix::process::pivot_root(".", ".").during(|| "pivot_root".into())?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).during(|| "unmount the old root".into())?;
    enter(Path::new("/"))
}

/// Mounts a detached tree at `path` below `directory` (at the directory itself when empty).
pub(super) fn attach(tree: &OwnedFd, directory: impl AsFd, path: &str) -> StageResult {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    rustix::mount::move_mount(tree, "", directory, path, flags).during(|| format!("mount at {path:?}"))
}

fn mount_overlay(spec: &ContainerSpec, directory: &Path, root: &Path) -> StageResult {
    enter(&spec.root.layers)?;
    let lower = spec.root.lower.join(":");
    let base = directory.display();
    let plain = format!("lowerdir={lower},upperdir={base}/upper,workdir={base}/work");
    // The writable layer is thrown away with the container: no need to sync it.
    let unsynced = format!("{plain},volatile");
    let mount = |options: &str| {
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount("overlay", root, "overlay", MountFlags::empty(), options.as_c_str())
    };
    mount(&unsynced).or_else(|_| mount(&plain)).during(|| format!("mount overlay ({plain})"))
}

fn mount_kernel_files(tree: &Tree, spec: &ContainerSpec, bound: &dyn Fn(&str) -> bool) -> StageResult {
    let read_only = if spec.privileged { MountFlags::empty() } else { MountFlags::RDONLY };
    tree.mount("proc", "/proc", SAFE, c"")?;
    if !bound("/sys") {
        tree.mount("sysfs", "/sys", SAFE | read_only, c"")?;
        mount_cgroups(tree, spec, SAFE | read_only)?;
    }
    if bound("/dev") {
        return Ok(());
    }
    tree.mount("tmpfs", "/dev", MountFlags::NOSUID | MountFlags::STRICTATIME, c"mode=755,size=65536k")?;
    let pts = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    tree.mount("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, pts)?;
    tree.mount("mqueue", "/dev/mqueue", SAFE, c"")?;
    if !bound("/dev/shm") {
        let shm = open_tree(&spec.shm)?;
        attach(&shm, &tree.target(Path::new("/dev/shm"), true)?, "")?;
    }
    Ok(())
}

fn mount_cgroups(tree: &Tree, spec: &ContainerSpec, flags: MountFlags) -> StageResult {
    const ROOT: &str = "/sys/fs/cgroup";
    if spec.cgroup_mounts.iter().any(|name| name == "cgroup2") {
        return tree.mount("cgroup2", ROOT, flags, c"");
    }
    tree.mount("tmpfs", ROOT, SAFE, c"mode=755")?;
    for controller in &spec.cgroup_mounts {
        let options = CString::new(controller.as_str()).during(|| format!("cgroup controller {controller:?}"))?;
        tree.mount("cgroup", &format!("{ROOT}/{controller}"), flags, &options)?;
    }
    if !spec.privileged {
        let root = tree.target(Path::new(ROOT), true)?;
        let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
        mount_setattr(root.as_fd(), attributes).during(|| format!("make {ROOT} read-only"))?;
    }
    Ok(())
}

fn make_devices(tree: &Tree, spec: &ContainerSpec) -> StageResult {
    for device in &spec.devices {
        make_device(tree, device)?;
    }
    let dev = tree.target(Path::new("/dev"), true)?;
    for (target, name) in LINKS {
        match rustix::fs::symlinkat(target, &dev, name) {
            Err(Errno::EXIST) => {}
            made => made.during(|| format!("link /dev/{name}"))?,
        }
    }
    Ok(())
}

fn make_device(tree: &Tree, device: &DeviceSpec) -> StageResult {
    let path = &device.path;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = tree.target(parent, true)?;
    let kind = if device.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let mode = Mode::from_raw_mode(device.mode);
    match rustix::fs::mknodat(&parent, name, kind, mode, device.number) {
        Err(Errno::EXIST) => Ok(()),
        made => made.during(|| format!("make device {}", path.display())),
    }
}

/// Takes a copy of the mount tree at the source, with the attributes that the container shall see.
fn open_source(mount: &MountSpec) -> StageResult<OwnedFd> {
    let tree = open_tree(&mount.source)?;
    let propagation = match mount.propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::HostToContainer => libc::MS_SLAVE,
        Propagation::Bidirectional => 0,
    };
    let describe = || format!("set attributes of {}", mount.source.display());
    if propagation != 0 {
        let attributes = MountAttributes { propagation, recursive: true, ..MountAttributes::default() };
        mount_setattr(tree.as_fd(), attributes).during(describe)?;
    }
    if mount.read_only || mount.recursive_read_only {
        let recursive = mount.recursive_read_only;
        let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, recursive, ..MountAttributes::default() };
        mount_setattr(tree.as_fd(), attributes).during(describe)?;
    }
    Ok(tree)
}

fn open_tree(path: &Path) -> StageResult<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, path, flags).during(|| format!("open mount source {}", path.display()))
}

fn is_directory(fd: &OwnedFd) -> StageResult<bool> {
    let stat = rustix::fs::fstat(fd).during(|| "stat a mount source".into())?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// A root file system under construction.
struct Tree(OwnedFd);

impl Tree {
    fn mount(&self, kind: &str, path: &str, flags: MountFlags, options: &std::ffi::CStr) -> StageResult {
        let target = self.target(Path::new(path), true)?;
        let at = format!("/proc/self/fd/{}", target.as_raw_fd());
        rustix::mount::mount(kind, &at, kind, flags, options).during(|| format!("mount {kind} at {path}"))
    }

    /// Opens a mount point, making it and its parents when missing.
    fn target(&self, path: &Path, directory: bool) -> StageResult<OwnedFd> {
        match self.open(path) {
            Err(Errno::NOENT) => {}
            opened => return opened.during(|| format!("open {} in the root", path.display())),
        }
        let mut parent = self.open(Path::new("/")).during(|| "open the root".into())?;
        let names: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let mut made = PathBuf::from("/");
        for (index, name) in names.iter().enumerate() {
            made.push(name);
            let name = name.as_os_str();
            if self.open(&made).is_err() {
                let describe = || format!("make {} in the root", made.display());
                if index + 1 < names.len() || directory {
                    rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)).during(describe)?;
                } else {
                    let mode = Mode::from_raw_mode(0o644);
                    rustix::fs::mknodat(&parent, name, FileType::RegularFile, mode, 0).during(describe)?;
                }
            }
            parent = self.open(&made).during(|| format!("open {} in the root", made.display()))?;
        }
        Ok(parent)
    }

    fn open(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.0, path.as_c_str(), flags, Mode::empty(), resolve)
    }
}
