//! Stages mounts and pivot: the root file system and everything mounted in it (upstream: rootfs_linux.go of runc's
//! libcontainer).
//!
//! Sources and targets are resolved once, to descriptors, and mounted by these: a symbolic link in an image cannot lead a
//! mount out of the container, and what a container swaps in a volume meanwhile changes nothing.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::spec::{ContainerSpec, DeviceSpec, MountSpec};
use super::trees::{attach, clone_tree, map_owners};
use super::users::Users;
use super::{During as _, StageError, StageResult, enter, images, propagation};
use crate::beneath::{self, Directory, Links};
use crate::sys::{MountAttributes, mount_setattr};
use crate::{FileKind, Propagation};

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// The group of terminals.
const TTY: u32 = 5;

/// Links that every container's `/dev` has.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
    ("/proc/kcore", "core"),
];

/// Files of `/proc` that something else may be mounted over, as runc allows for lxcfs and its like.
const REPLACEABLE: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// Makes the whole tree at `<directory>/rootfs` and returns its root.
pub(super) fn make(spec: &ContainerSpec, directory: &Path, users: Option<&Users>) -> StageResult<Tree> {
    // Sources are taken before the tree is cut off from the host's, so that they can keep their propagation.
    let bind = |mount: &MountSpec| mount.image.is_empty().then(|| open_source(mount, users)).transpose();
    let binds = spec.mounts.iter().map(bind).collect::<StageResult<Vec<_>>>()?;
    let cut = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", cut).during(|| "make / a slave".into())?;
    let root = directory.join("rootfs");
    // Overlayfs writes as who mounted it, and on id-mapped layers the node's root is nobody.
    users.map_or(Ok(()), Users::make_as_root)?;
    mount_overlay(spec, directory, &root, users)?;
    let source = |(mount, bind): (&MountSpec, Option<OwnedFd>)| {
        bind.map_or_else(|| images::open(&spec.root.layers, mount, users), Ok)
    };
    let sources = spec.mounts.iter().zip(binds).map(source).collect::<StageResult<Vec<_>>>()?;
    let tree = Directory::open(&root, Links::InRoot).during(|| format!("open {}", root.display()))?;
    let tree = Tree(tree);
    let bound = |path: &str| spec.mounts.iter().any(|mount| mount.target == Path::new(path));
    mount_kernel_files(&tree, spec, &bound, users)?;
    make_devices(&tree, spec)?;
    let mut order: Vec<_> = spec.mounts.iter().zip(&sources).collect();
    order.sort_by_key(|(mount, _)| mount.target.components().count());
    for (mount, source) in order {
        let target = tree.target(&mount.target, is_directory(source)?)?;
        spare_proc(&mount.target, source, &target)?;
        attach(source, &target)?;
    }
    Ok(tree)
}

/// Makes the tree the root of this mount namespace and lets go of the host's.
pub(super) fn pivot(root: Tree) -> StageResult {
    rustix::process::fchdir(root.0).during(|| "enter the root".into())?;
    rustix::process::pivot_root(".", ".").during(|| "pivot_root".into())?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).during(|| "unmount the old root".into())?;
    enter(Path::new("/"))
}

/// Refuses a mount over the container's `/proc`: what is written there later would go elsewhere. A part of the node's
/// `/proc` may be there, and what replaces one of the files that tell about the machine.
fn spare_proc(path: &Path, source: &OwnedFd, target: &OwnedFd) -> StageResult {
    let is_proc = |fd: &OwnedFd| {
        let system = rustix::fs::fstatfs(fd).during(|| "look at a file system".into())?;
        Ok::<_, StageError>(system.f_type == rustix::fs::PROC_SUPER_MAGIC)
    };
    let replaceable =
        path.strip_prefix("/proc").is_ok_and(|file| REPLACEABLE.iter().any(|known| file == Path::new(known)));
    if replaceable || !is_proc(target)? || is_proc(source)? {
        return Ok(());
    }
    Err(StageError::Program(format!("{:?} cannot be mounted because it is inside /proc", path.display().to_string())))
}

fn mount_overlay(spec: &ContainerSpec, directory: &Path, root: &Path, users: Option<&Users>) -> StageResult {
    let (lower, base) = match users {
        Some(users) => map_layers(spec, directory, users)?,
        None => {
            enter(&spec.root.layers)?;
            (spec.root.lower.join(":"), directory.display().to_string())
        }
    };
    let plain = format!("lowerdir={lower},upperdir={base}/upper,workdir={base}/work");
    // The writable layer is thrown away with the container: no need to sync it.
    let unsynced = format!("{plain},volatile");
    // A device node from an image or made by a container opens nothing. Setuid programs are for no_new_privs to stop.
    let flags = if spec.privileged { MountFlags::empty() } else { MountFlags::NODEV };
    let mount = |options: &str| {
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount("overlay", root, "overlay", flags, options.as_c_str())
    };
    mount(&unsynced).or_else(|_| mount(&plain)).during(|| format!("mount overlay ({plain})"))
}

/// Mounts the layers and the container's own directory again, their owners shifted into the pod's user namespace; names
/// them as overlayfs is to have them. Nobody outside this mount namespace sees that.
fn map_layers(spec: &ContainerSpec, directory: &Path, users: &Users) -> StageResult<(String, String)> {
    let place = directory.join("mapped");
    let layers = spec.root.lower.iter().map(|layer| spec.root.layers.join(layer));
    let mut sources: Vec<_> = layers.enumerate().map(|(index, layer)| (layer, index.to_string())).collect();
    let names: Vec<_> = sources.iter().map(|(_, name)| name.clone()).collect();
    sources.push((directory.to_owned(), "own".to_owned()));
    map_owners(&place, &sources, users)?;
    enter(&place)?;
    Ok((names.join(":"), "own".to_owned()))
}

fn mount_kernel_files(
    tree: &Tree,
    spec: &ContainerSpec,
    bound: &dyn Fn(&str) -> bool,
    users: Option<&Users>,
) -> StageResult {
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
    let tty = users.map_or(Ok(TTY), |users| users.on_node(TTY))?;
    let pts = CString::new(format!("newinstance,ptmxmode=0666,mode=0620,gid={tty}")).during(|| "devpts".into())?;
    tree.mount("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, &pts)?;
    tree.mount("mqueue", "/dev/mqueue", SAFE, c"")?;
    if !bound("/dev/shm") {
        let found = beneath::find_on_node(&spec.shm).during(|| format!("find {}", spec.shm.display()))?;
        attach(&clone_tree(&found)?, &tree.target(Path::new("/dev/shm"), true)?)?;
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
        // The umask took rights away: everybody writes to the null device.
        made => made
            .and_then(|()| rustix::fs::chmodat(&parent, name, mode, AtFlags::empty()))
            .during(|| format!("make device {}", path.display())),
    }
}

/// Takes a copy of the mount tree at the source, with the attributes that the container shall see.
fn open_source(mount: &MountSpec, users: Option<&Users>) -> StageResult<OwnedFd> {
    let found = find_source(mount)?;
    propagation::check(mount, &found)?;
    let tree = clone_tree(&found)?;
    if let Some(users) = users {
        let describe = || format!("map the owners of {}, whose file system must allow that", mount.source.display());
        users.map(&tree).during(describe)?;
    }
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

/// Resolves the source, to one descriptor that is checked and mounted.
fn find_source(mount: &MountSpec) -> StageResult<OwnedFd> {
    let source = &mount.source;
    let found = match beneath::find_on_node(source) {
        // containerd makes missing sources as directories.
        Err(err) if err.kind() == io::ErrorKind::NotFound && mount.kind.is_none() => {
            Directory::open(Path::new("/"), Links::Anywhere).and_then(|node| node.find_or_make(source, 0o755))
        }
        found => found,
    };
    let found = found.during(|| format!("find mount source {}", source.display()))?;
    if let Some(wanted) = mount.kind
        && beneath::kind(&found).during(|| format!("look at {}", source.display()))? != Some(wanted)
    {
        return Err(StageError::Program(wanted.mismatch(source)));
    }
    let Some(below) = &mount.beneath else { return Ok(found) };
    let mode = rustix::fs::fstat(&found).during(|| format!("look at {}", source.display()))?.st_mode;
    let volume = Directory::held(found, Links::Within);
    volume.find_or_make(below, mode & 0o7777).map_err(|err| refuse_sub_path(below, &err))
}

fn refuse_sub_path(path: &Path, err: &io::Error) -> StageError {
    let why = match err.raw_os_error() {
        Some(libc::EXDEV | libc::ELOOP) => "it leaves its volume".to_owned(),
        _ => err.to_string(),
    };
    StageError::Program(format!("failed to prepare subPath {:?}: {why}", path.display().to_string()))
}

fn is_directory(fd: &OwnedFd) -> StageResult<bool> {
    Ok(beneath::kind(fd).during(|| "stat a mount source".into())? == Some(FileKind::Directory))
}

/// A root file system under construction.
pub(super) struct Tree(Directory);

impl Tree {
    fn mount(&self, kind: &str, path: &str, flags: MountFlags, options: &std::ffi::CStr) -> StageResult {
        let target = self.target(Path::new(path), true)?;
        let at = format!("/proc/self/fd/{}", target.as_raw_fd());
        rustix::mount::mount(kind, &at, kind, flags, options).during(|| format!("mount {kind} at {path}"))
    }

    /// Opens a mount point, making it and its parents when missing.
    fn target(&self, path: &Path, directory: bool) -> StageResult<OwnedFd> {
        let found = if directory { self.0.find_or_make(path, 0o755) } else { self.0.find_or_make_file(path) };
        found.during(|| format!("open {} in the root", path.display()))
    }

    /// What is at a path, if there is something.
    pub(super) fn find(&self, path: &Path) -> StageResult<Option<OwnedFd>> {
        match self.0.find(path) {
            Err(err) if matches!(err.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
            found => found.map(Some).during(|| format!("open {} in the root", path.display())),
        }
    }
}
