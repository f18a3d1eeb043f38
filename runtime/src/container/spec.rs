//! Everything that a container's processes need to know. It goes to the shim in memory and stays there: the environment
//! holds the pod's secrets, which no disk may see.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};

use crate::{FileKind, IdMap, Propagation};

/// No specification is longer: the kernel takes less than this as arguments and environment of a program.
const LONGEST: u64 = 16 << 20;

/// A container, with every default and name resolved as far as is possible outside its root file system.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) working_directory: PathBuf,
    pub(crate) hostname: String,
    pub(crate) user: UserSpec,
    pub(crate) rights: Rights,
    pub(crate) tty: bool,
    pub(crate) oom_score_adj: i32,
    pub(crate) cgroup_directories: Vec<PathBuf>,
    /// cgroup v1 controllers by the comma-separated names they are mounted with, or `cgroup2`.
    pub(crate) cgroup_mounts: Vec<String>,
    /// Sees the node's cgroups instead of its own.
    pub(crate) host_cgroup: bool,
    pub(crate) root: RootSpec,
    pub(crate) mounts: Vec<MountSpec>,
    pub(crate) devices: Vec<DeviceSpec>,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) read_only_paths: Vec<String>,
    pub(crate) privileged: bool,
    /// The ids of the pod's user namespace, if it has one.
    pub(crate) users: Option<IdMap>,
    /// The pod's `/dev/shm`.
    pub(crate) shm: PathBuf,
}

/// The root file system.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RootSpec {
    /// Where `lower` is relative to.
    pub(crate) layers: PathBuf,
    /// Top layer first.
    pub(crate) lower: Vec<String>,
    pub(crate) read_only: bool,
}

/// A bind mount, or the files of an image.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MountSpec {
    /// A path of the node that only the node changes, or that an administrator gave.
    pub(crate) source: PathBuf,
    /// A path below the source that containers may have changed.
    pub(crate) beneath: Option<PathBuf>,
    /// The layers of an image, the uppermost first, relative to [`RootSpec::layers`]; the source is where to put them
    /// together then.
    pub(crate) image: Vec<String>,
    /// What must be at the source.
    pub(crate) kind: Option<FileKind>,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) recursive_read_only: bool,
    pub(crate) propagation: Propagation,
}

/// A device node to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeviceSpec {
    pub(crate) path: PathBuf,
    pub(crate) block: bool,
    pub(crate) number: u64,
    pub(crate) mode: u32,
}

/// Who runs it; names are looked up in the container's own `/etc/passwd` and `/etc/group`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct UserSpec {
    /// `USER` of the image: `user[:group]`, each a number or a name.
    pub(crate) image: String,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) supplemental_groups: Vec<u32>,
}

/// What a process may do.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Rights {
    /// A bit per capability.
    pub(crate) capabilities: u64,
    pub(crate) no_new_privileges: bool,
    /// Instructions of the seccomp filter, packed; empty for none.
    pub(crate) seccomp: Vec<u64>,
    #[serde(default)]
    pub(crate) watch: Watch,
}

/// How the watchman hears of a process's calls.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Watch {
    /// Instructions of his filter, packed; empty for none.
    pub(crate) program: Vec<u64>,
    /// Not without him.
    pub(crate) required: bool,
}

/// A process to run in a container that is running.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ExecSpec {
    pub(crate) arguments: Vec<String>,
    pub(crate) tty: bool,
}

impl ContainerSpec {
    /// Puts it into a file that exists in memory only and cannot be changed any more.
    pub(crate) fn seal(&self) -> io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create(c"coracle-spec", flags)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
        Ok(file.into())
    }

    /// Reads what [`ContainerSpec::seal`] wrote.
    pub(crate) fn unseal(sealed: OwnedFd) -> io::Result<Self> {
        let mut text = Vec::new();
        let read = File::from(sealed).take(LONGEST + 1).read_to_end(&mut text)?;
        if read as u64 > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the specification of a container is too long"));
        }
        Ok(serde_json::from_slice(&text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_specification_reads_as_it_was_and_cannot_be_changed() {
        let text = serde_json::json!({
            "arguments": ["a"], "environment": [["KEY", "secret"]], "working_directory": "/", "hostname": "h",
            "user": UserSpec::default(), "rights": Rights::default(), "tty": false, "oom_score_adj": 0,
            "cgroup_directories": [], "cgroup_mounts": [], "host_cgroup": false,
            "root": {"layers": "/l", "lower": [], "read_only": false},
            "mounts": [], "devices": [], "masked_paths": [], "read_only_paths": [], "privileged": false, "shm": "/s",
        });
        let spec: ContainerSpec = serde_json::from_value(text).unwrap();
        let sealed = spec.seal().unwrap();
        let mut copy = File::from(sealed.try_clone().unwrap());
        assert!(copy.write_all(b"x").is_err() && copy.set_len(0).is_err());
        assert_eq!(ContainerSpec::unseal(sealed).unwrap().environment, spec.environment);
    }
}
