//! What is written down of each cluster of this machine, so that it is found again, and gets the same addresses again.
//!
//! ```text
//! /var/lib/coracle.clusters/lock         held for a moment while records are compared and changed
//! /var/lib/coracle.clusters/NAME.json    a record
//! /var/lib/coracle.clusters/NAME.lock    held (flock) for as long as the cluster runs, or is removed
//! <data directory>/cluster.json          the same record: the directory is this cluster's
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::name::ClusterName;
use crate::pki::write_secret;

/// Where records are. No cluster's name has a dot.
pub const RECORDS: &str = "/var/lib/coracle.clusters";
/// The record in a cluster's own directory.
pub(crate) const OWN: &str = "cluster.json";
/// No record is longer.
pub(crate) const LONGEST: u64 = 16 * 1024;
/// Comparing records takes a moment; who holds the lock for longer has been stopped.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// What is known of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) name: String,
    /// Tells it from another one that had its name before.
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) data_directory: PathBuf,
    pub(crate) bridge: String,
    /// The topmost cgroup of its pods, where it has one of its own.
    pub(crate) cgroup_root: Option<String>,
    pub(crate) node_name: Option<String>,
    pub(crate) node_addresses: Vec<IpAddr>,
    pub(crate) nodes: u8,
    pub(crate) pods: Vec<String>,
    pub(crate) services: Vec<String>,
    pub(crate) secure_port: u16,
    pub(crate) kubelet_port: u16,
}

impl Record {
    /// Reads the text of a record of this cluster.
    pub(crate) fn read(text: &str, name: &ClusterName) -> anyhow::Result<Self> {
        let record: Self = serde_json::from_str(text)?;
        anyhow::ensure!(record.name == name.to_string(), "it is the record of cluster {:?}", record.name);
        anyhow::ensure!(record.data_directory.is_absolute(), "its data directory is no absolute path");
        Ok(record)
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a record is plain text and lists") + "\n"
    }
}

/// The folder of records.
#[derive(Clone, Debug)]
pub(crate) struct Records(PathBuf);

/// Held while records are compared and changed.
pub(crate) struct Comparing {
    _file: File,
}

/// Held for as long as a cluster runs, or is removed.
#[derive(Debug)]
pub(crate) struct Hold {
    _file: File,
}

impl Records {
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Begins to compare, in a folder that is made if it is missing.
    pub(crate) fn compare(&self) -> anyhow::Result<Comparing> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.with_context(|| format!("make {}", self.0.display()))?;
        let file = open(&self.0.join("lock"))?;
        let end = Instant::now() + PATIENCE;
        while !try_lock(&file)? {
            anyhow::ensure!(Instant::now() < end, "{} is locked by a process that does not go on", self.0.display());
            std::thread::sleep(PAUSE);
        }
        Ok(Comparing { _file: file })
    }

    /// Holds a cluster; `None` where another process does.
    pub(crate) fn hold(&self, _comparing: &Comparing, name: &ClusterName) -> anyhow::Result<Option<Hold>> {
        let file = open(&self.lock_of(name))?;
        Ok(try_lock(&file)?.then_some(Hold { _file: file }))
    }

    /// Whether a process holds a cluster: it runs, or is removed.
    pub(crate) fn is_held(&self, _comparing: &Comparing, name: &ClusterName) -> anyhow::Result<bool> {
        let path = self.lock_of(name);
        match File::open(&path) {
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(false),
            Err(err) => Err(err).with_context(|| format!("open {}", path.display())),
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(err)) => Err(err).with_context(|| format!("lock {}", path.display())),
            },
        }
    }

    /// The names of all that have a record, in order.
    pub(crate) fn names(&self) -> anyhow::Result<Vec<ClusterName>> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("read {}", self.0.display()))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.with_context(|| format!("read {}", self.0.display()))?.file_name();
            names.extend(file.to_str().and_then(|file| file.strip_suffix(".json")?.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// The record of a cluster; `None` where there is none.
    pub(crate) fn read(&self, name: &ClusterName) -> anyhow::Result<Option<Record>> {
        read(&self.0.join(format!("{name}.json")), name)
    }

    /// Writes a record here and in the cluster's own directory.
    pub(crate) fn write(&self, _hold: &Hold, name: &ClusterName, record: &Record) -> anyhow::Result<()> {
        let directory = &record.data_directory;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("make --data-dir {}", directory.display()))?;
        write_secret(&directory.join(OWN), &record.text())?;
        Ok(write_secret(&self.0.join(format!("{name}.json")), &record.text())?)
    }

    /// Forgets a cluster that is held.
    pub(crate) fn forget(&self, _comparing: &Comparing, _hold: &Hold, name: &ClusterName) -> anyhow::Result<()> {
        for path in [self.0.join(format!("{name}.json")), self.lock_of(name)] {
            match std::fs::remove_file(&path) {
                Err(err) if err.kind() != ErrorKind::NotFound => bail!("remove {}: {err}", path.display()),
                _ => {}
            }
        }
        Ok(())
    }

    fn lock_of(&self, name: &ClusterName) -> PathBuf {
        self.0.join(format!("{name}.lock"))
    }
}

/// Reads a record of this cluster; `None` where there is none.
pub(super) fn read(path: &Path, name: &ClusterName) -> anyhow::Result<Option<Record>> {
    let mut text = String::new();
    let read = match File::open(path) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.and_then(|file| file.take(LONGEST).read_to_string(&mut text)),
    };
    read.with_context(|| format!("read {}", path.display()))?;
    Record::read(&text, name).map(Some).with_context(|| format!("read {}", path.display()))
}

fn open(path: &Path) -> anyhow::Result<File> {
    let opened = OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(0o600).open(path);
    opened.with_context(|| format!("open {}", path.display()))
}

fn try_lock(file: &File) -> anyhow::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(err)) => Err(err).context("lock a record"),
    }
}
