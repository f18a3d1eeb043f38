//! From what was asked for, the image and the sandbox to a complete [`ContainerSpec`].

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::{Sandbox, Shared};
use crate::beneath::clean;
use crate::cgroup::DeviceRule;
use crate::container::spec::{ContainerSpec, DeviceSpec, MountSpec, Rights, RootSpec, UserSpec, Watch};
use crate::container::{capability, seccomp};
use crate::disk::io_error;
use crate::image::Record;
use crate::{
    ContainerConfig, Error, FileKind, Mount, Propagation, SYSCALL_POLICY, SandboxConfig, Security, SyscallPolicy,
    UnknownPolicy,
};

/// What containerd hides.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// What containerd write-protects.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Devices that every container has: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// What every container may do with devices: make any, use the standard ones and terminals.
const DEVICE_RULES: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// Where everything of a container is.
pub(super) struct Place {
    pub(super) sandbox: Sandbox,
    /// The container's own directory.
    pub(super) directory: PathBuf,
    pub(super) cgroup: String,
    pub(super) cgroup_directories: Vec<PathBuf>,
}

impl Shared {
    pub(super) fn container_spec(
        &self,
        place: Place,
        config: &ContainerConfig,
        image: &Record,
    ) -> Result<ContainerSpec, Error> {
        let security = &config.security;
        let arguments = image.config.arguments(&config.command, &config.args);
        if arguments.is_empty() {
            return Err(Error::Start { reason: "no command specified".to_owned() });
        }
        if security.privileged && place.sandbox.status.config.namespaces.users.is_some() {
            let reason = "a privileged container in a user namespace (hostUsers: false)".to_owned();
            return Err(Error::Unsupported { reason });
        }
        let (devices, rules) = devices(config)?;
        let mut capabilities = capability::resolve(security)?;
        if !security.privileged && !self.cgroups.restrict_devices(&place.cgroup, &rules)? {
            // Without a device cgroup nothing would stop a container from making and opening the node's disks.
            capabilities &= !capability::bit("MKNOD").unwrap_or(0);
        }
        let seccomp = seccomp::program(&security.seccomp, security.privileged, capabilities)?;
        let sandbox = &place.sandbox.status;
        let policy = self.syscall_policy(&sandbox.config)?;
        let watch = Watch {
            program: seccomp::watched::program(policy, capabilities),
            required: policy == SyscallPolicy::Enforce,
        };
        let hostname = std::fs::read_to_string(self.sandbox_directory(&sandbox.id).join("hostname"));
        Ok(ContainerSpec {
            arguments,
            environment: image.config.environment(&config.env),
            working_directory: working_directory(config, image),
            hostname: hostname.unwrap_or_default().trim().to_owned(),
            user: UserSpec {
                image: image.config.config.user.clone(),
                uid: security.user,
                gid: security.group,
                supplemental_groups: security.supplemental_groups.clone(),
            },
            rights: Rights { capabilities, no_new_privileges: security.no_new_privileges, seccomp, watch },
            tty: config.tty,
            oom_score_adj: config.resources.oom_score_adj,
            cgroup_directories: place.cgroup_directories,
            cgroup_mounts: self.cgroups.mount_names(),
            host_cgroup: security.privileged,
            root: RootSpec {
                layers: self.images.layers(),
                lower: image.layers.iter().rev().cloned().collect(),
                read_only: security.read_only_root,
            },
            mounts: self.mounts(&sandbox.id, &place.directory, config)?,
            devices,
            masked_paths: paths(security, security.masked_paths.as_ref(), &MASKED),
            read_only_paths: paths(security, security.read_only_paths.as_ref(), &READ_ONLY),
            privileged: security.privileged,
            users: sandbox.config.namespaces.users,
            shm: if sandbox.config.namespaces.host_ipc { "/dev/shm".into() } else { self.shm(&sandbox.id) },
        })
    }

    /// The node's policy for system calls, or the pod's where that is stricter.
    fn syscall_policy(&self, pod: &SandboxConfig) -> Result<SyscallPolicy, Error> {
        let Some(wanted) = pod.annotations.get(SYSCALL_POLICY) else { return Ok(self.config.syscall_policy) };
        let invalid = |err: UnknownPolicy| Error::Invalid { field: SYSCALL_POLICY, reason: err.to_string() };
        Ok(self.config.syscall_policy.max(wanted.parse().map_err(invalid)?))
    }

    /// The mounts asked for, and the pod's name files where nothing else is mounted.
    fn mounts(&self, sandbox: &str, directory: &Path, config: &ContainerConfig) -> Result<Vec<MountSpec>, Error> {
        let mut mounts = Vec::new();
        for mount in &config.mounts {
            let mut spec = bind(mount)?;
            if let Some(name) = &mount.image {
                spec.source = directory.join("images").join(mounts.len().to_string());
                spec.image = self.image(name)?.layers.iter().rev().cloned().collect();
            }
            mounts.push(spec);
        }
        for name in ["hostname", "resolv.conf"] {
            let target = Path::new("/etc").join(name);
            if mounts.iter().any(|mount: &MountSpec| mount.target == target) {
                continue;
            }
            mounts.push(MountSpec {
                source: self.sandbox_directory(sandbox).join(name),
                beneath: None,
                image: Vec::new(),
                kind: Some(FileKind::File),
                target,
                read_only: config.security.read_only_root,
                recursive_read_only: false,
                propagation: Propagation::Private,
            });
        }
        Ok(mounts)
    }
}

fn bind(mount: &Mount) -> Result<MountSpec, Error> {
    let invalid = |reason: &str| Error::Invalid {
        field: "volumeMounts.mountPath",
        reason: format!("{:?} {reason}", mount.container_path.display().to_string()),
    };
    if !mount.container_path.is_absolute() {
        return Err(invalid("is not absolute"));
    }
    let target = clean(&mount.container_path);
    if target.parent().is_none() {
        return Err(invalid("is the root"));
    }
    Ok(MountSpec {
        source: mount.host_path.clone(),
        beneath: mount.sub_path.clone(),
        image: Vec::new(),
        kind: mount.kind,
        target,
        read_only: mount.read_only,
        recursive_read_only: mount.recursive_read_only,
        propagation: mount.propagation,
    })
}

fn working_directory(config: &ContainerConfig, image: &Record) -> PathBuf {
    let wanted = if config.working_dir.is_empty() { &image.config.config.working_dir } else { &config.working_dir };
    clean(Path::new(wanted))
}

fn paths(security: &Security, given: Option<&Vec<String>>, default: &[&str]) -> Vec<String> {
    match given {
        Some(given) => given.clone(),
        None if security.privileged => Vec::new(),
        None => default.iter().map(|path| (*path).to_owned()).collect(),
    }
}

/// The device nodes to make, and the rules that let them be used.
fn devices(config: &ContainerConfig) -> Result<(Vec<DeviceSpec>, Vec<DeviceRule>), Error> {
    let standard = |(name, major, minor): (&str, u32, u32)| DeviceSpec {
        path: Path::new("/dev").join(name),
        block: false,
        number: rustix::fs::makedev(major, minor),
        mode: 0o666,
    };
    let mut devices: Vec<DeviceSpec> = DEVICES.into_iter().map(standard).collect();
    let mut rules: Vec<DeviceRule> = DEVICE_RULES.iter().map(|rule| (*rule).to_owned()).collect();
    for device in &config.devices {
        let node = node(&device.host_path, &device.container_path)?;
        let kind = if node.block { 'b' } else { 'c' };
        let (major, minor) = (rustix::fs::major(node.number), rustix::fs::minor(node.number));
        rules.push(format!("{kind} {major}:{minor} {}", device.permissions));
        devices.push(node);
    }
    if config.security.privileged {
        let dev = Path::new("/dev");
        for entry in std::fs::read_dir(dev).map_err(io_error("read", dev))? {
            let path = entry.map_err(io_error("read", dev))?.path();
            // Links and directories are no devices.
            if let Ok(node) = node(&path, &path) {
                devices.push(node);
            }
        }
    }
    Ok((devices, rules))
}

fn node(host: &Path, container: &Path) -> Result<DeviceSpec, Error> {
    let metadata = host.symlink_metadata().map_err(io_error("find device", host))?;
    let kind = metadata.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return Err(Error::Invalid { field: "devices", reason: format!("{} is no device", host.display()) });
    }
    Ok(DeviceSpec {
        path: container.to_owned(),
        block: kind.is_block_device(),
        number: metadata.rdev(),
        mode: metadata.mode() & 0o777,
    })
}
