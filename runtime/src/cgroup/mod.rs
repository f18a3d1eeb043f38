//! cgroups, version 1 and 2: making, limiting, measuring and removing them (upstream: runc's cgroups).
//!
//! Paths given to [`Cgroups`] are relative to each controller's root, such as `kubepods/burstable/pod<uid>/<container>`.

mod devices;
mod v1;
mod v2;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::disk::io_error;
use crate::{Error, Resources, Stats};

/// How often, and how long apart, a removal is tried while the kernel still takes processes out.
const REMOVAL_TRIES: u32 = 40;
const REMOVAL_PAUSE: Duration = Duration::from_millis(5);

/// The node's cgroup file systems.
#[derive(Debug)]
pub(crate) struct Cgroups {
    version: Version,
    /// Held while the tree changes: a parent must not vanish between two steps of making a child.
    tree: Mutex<()>,
}

#[derive(Debug)]
enum Version {
    V1(v1::Mounts),
    V2(v2::Mount),
}

/// What a container may do with a device: `c 1:3 rwm`.
pub(crate) type DeviceRule = String;

impl Cgroups {
    /// Finds the controllers by this process's mounts.
    pub(crate) fn detect() -> Result<Self, Error> {
        let path = Path::new("/proc/self/mountinfo");
        let mounts = std::fs::read_to_string(path).map_err(io_error("read", path))?;
        let tree = Mutex::new(());
        if let Some(mounts) = v1::Mounts::parse(&mounts) {
            return Ok(Self { version: Version::V1(mounts), tree });
        }
        match v2::Mount::parse(&mounts) {
            Some(mount) => Ok(Self { version: Version::V2(mount), tree }),
            None => Err(Error::Unsupported { reason: "a node without mounted cgroups".to_owned() }),
        }
    }

    /// Makes a cgroup and its parents and sets its limits; returns the directories that a member must join.
    pub(crate) fn create(&self, path: &str, resources: &Resources) -> Result<Vec<PathBuf>, Error> {
        let _tree = self.tree.lock().expect("no panic under this lock");
        let directories = match &self.version {
            Version::V1(mounts) => mounts.create(path),
            Version::V2(mount) => mount.create(path),
        }?;
        self.limit(path, resources)?;
        Ok(directories)
    }

    /// Whether a cgroup is there, in every hierarchy.
    pub(crate) fn is_whole(&self, path: &str) -> bool {
        self.directories(path).iter().all(|directory| directory.exists())
    }

    /// Makes the cgroup of a pod. `node` limits all pods together, in the cgroup above them, which goes with the last
    /// pod and comes again with the next.
    pub(crate) fn create_pod(&self, path: &str, resources: &Resources, node: &Resources) -> Result<(), Error> {
        self.create(path, resources)?;
        let Some((root, _)) = path.split_once('/') else { return Ok(()) };
        // The pod's own cgroup is there now and keeps it from vanishing.
        match self.limit(root, node) {
            Err(err @ (Error::Unsupported { .. } | Error::Io { .. })) => {
                tracing::debug!(cgroup = root, error = &err as &dyn std::error::Error, "no limit of all pods together");
                Ok(())
            }
            limited => limited,
        }
    }

    /// Sets limits; what is zero stays as it is.
    pub(crate) fn limit(&self, path: &str, resources: &Resources) -> Result<(), Error> {
        match &self.version {
            Version::V1(mounts) => mounts.limit(path, resources),
            Version::V2(mount) => mount.limit(path, resources),
        }
    }

    /// Allows only these devices. False where this node cannot enforce that.
    pub(crate) fn restrict_devices(&self, path: &str, allowed: &[DeviceRule]) -> Result<bool, Error> {
        match &self.version {
            Version::V1(mounts) => mounts.restrict_devices(path, allowed),
            Version::V2(mount) => devices::restrict(&mount.directory(path), allowed),
        }
    }

    /// Removes a cgroup. What is gone already is fine.
    pub(crate) fn remove_leaf(&self, path: &str) -> Result<(), Error> {
        self.directories(path).iter().try_for_each(|directory| self.remove_directory(directory))
    }

    /// Removes a cgroup with those below it, and its parents when they are empty.
    pub(crate) fn remove(&self, path: &str) -> Result<(), Error> {
        for directory in self.directories(path) {
            // What a process left behind that died while it made a container.
            for child in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                    self.remove_directory(&child.path())?;
                }
            }
        }
        self.remove_leaf(path)?;
        let _tree = self.tree.lock().expect("no panic under this lock");
        let above = Path::new(path).components().count().saturating_sub(1);
        for directory in self.directories(path) {
            for parent in directory.ancestors().skip(1).take(above) {
                // A parent with other children refuses, and so do those above it.
                if std::fs::remove_dir(parent).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn remove_directory(&self, directory: &Path) -> Result<(), Error> {
        for tried in 1.. {
            let removed = {
                let _tree = self.tree.lock().expect("no panic under this lock");
                std::fs::remove_dir(directory)
            };
            match removed {
                Ok(()) => break,
                Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(err) if tried < REMOVAL_TRIES && err.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(REMOVAL_PAUSE);
                }
                Err(err) => return Err(io_error("remove cgroup", directory)(err)),
            }
        }
        Ok(())
    }

    fn directories(&self, path: &str) -> Vec<PathBuf> {
        match &self.version {
            Version::V1(mounts) => mounts.directories(path),
            Version::V2(mount) => vec![mount.directory(path)],
        }
    }

    /// Where memory events of a cgroup are counted.
    pub(crate) fn memory_directory(&self, path: &str) -> Option<PathBuf> {
        match &self.version {
            Version::V1(mounts) => mounts.directory("memory", path),
            Version::V2(mount) => Some(mount.directory(path)),
        }
    }

    /// Where the processes of a cgroup are listed.
    pub(crate) fn process_directory(&self, path: &str) -> Option<PathBuf> {
        self.directories(path).into_iter().next()
    }

    /// The processes of a cgroup, without those of cgroups in it.
    pub(crate) fn processes(&self, path: &str) -> Vec<u32> {
        let listed =
            self.process_directory(path).map(|directory| std::fs::read_to_string(directory.join("cgroup.procs")));
        listed.and_then(Result::ok).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// What to mount at `/sys/fs/cgroup` in a container: controllers, or `cgroup2`.
    pub(crate) fn mount_names(&self) -> Vec<String> {
        match &self.version {
            Version::V1(mounts) => mounts.names(),
            Version::V2(_) => vec!["cgroup2".to_owned()],
        }
    }

    pub(crate) fn stats(&self, path: &str) -> Result<Stats, Error> {
        match &self.version {
            Version::V1(mounts) => mounts.stats(path),
            Version::V2(mount) => mount.stats(path),
        }
    }
}

/// Whether the kernel has killed a member for want of memory.
pub(crate) fn was_oom_killed(directory: &Path) -> bool {
    ["memory.events", "memory.oom_control"].iter().any(|file| {
        let text = std::fs::read_to_string(directory.join(file)).unwrap_or_default();
        value_of(&text, "oom_kill").is_some_and(|count| count > 0)
    })
}

/// Kills every process of a cgroup; ends when none is listed any more, or after a while.
pub(crate) fn kill_all(directory: &Path) {
    if std::fs::write(directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for _ in 0..REMOVAL_TRIES {
        let listed = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        let mut pids = listed.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)).peekable();
        if pids.peek().is_none() {
            return;
        }
        for pid in pids {
            // It may have ended since it was listed.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        std::thread::sleep(REMOVAL_PAUSE);
    }
}

/// The number after `name` in lines of `name number`.
fn value_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn read_number(directory: &Path, file: &str) -> Result<u64, Error> {
    let path = directory.join(file);
    let text = std::fs::read_to_string(&path).map_err(io_error("read", &path))?;
    text.trim().parse().map_err(|_| io_error("parse", &path)(io::ErrorKind::InvalidData.into()))
}

fn write(directory: &Path, file: &str, value: &str) -> Result<(), Error> {
    let path = directory.join(file);
    std::fs::write(&path, value).map_err(io_error("write", &path))
}
