//! Claims on names and addresses of this machine, so that two clusters never work on the same bridge, table or range.
//!
//! ```text
//! /run/coracle/claims/lock        held for the moment in which claims are compared
//! /run/coracle/claims/<id>        one claim: a line of JSON; locked (flock) for as long as its process lives
//! ```
//! A file that nobody holds is from a process that died, and goes. Claims of one process never conflict: what it does
//! with its own names is its own affair. Nor do claims in different network namespaces: names and addresses are theirs.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Where claims of this machine are.
const DIRECTORY: &str = "/run/coracle/claims";
/// Comparing claims takes a moment; who holds the lock for longer has been stopped.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);
/// The longest claim that is read: a few names and a command line.
const LONGEST: u64 = 64 * 1024;
/// How much of a command line is told to others.
const COMMAND_LENGTH: usize = 200;

/// What can be claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    /// A network interface, by name.
    Interface(String),
    /// An nftables table, by name, in every family.
    Table(String),
    /// A range of addresses; one address is a range with the longest prefix.
    Range(IpAddr, u8),
}

impl Resource {
    /// A single address.
    pub fn address(address: IpAddr) -> Self {
        Self::Range(address, if address.is_ipv4() { 32 } else { 128 })
    }

    /// Whether both cannot be had by different processes.
    pub fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Range(one, length), Self::Range(other, others)) => overlap((*one, *length), (*other, *others)),
            _ => self == other,
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Table(name) => write!(f, "nftables table {name}"),
            Self::Range(address, 32) if address.is_ipv4() => write!(f, "address {address}"),
            Self::Range(address, 128) => write!(f, "address {address}"),
            Self::Range(address, length) => write!(f, "range {address}/{length}"),
        }
    }
}

/// The network namespace of this thread.
fn network() -> Option<u64> {
    std::fs::metadata("/proc/thread-self/ns/net").ok().map(|namespace| namespace.ino())
}

fn is_one_network(one: Option<u64>, other: Option<u64>) -> bool {
    one.zip(other).is_none_or(|(one, other)| one == other)
}

fn overlap((one, length): (IpAddr, u8), (other, others): (IpAddr, u8)) -> bool {
    let shorter = u32::from(length.min(others));
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(32_u32.saturating_sub(shorter)).unwrap_or(0) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(128_u32.saturating_sub(shorter)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Who holds a claim or a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Tells processes apart also where process ids repeat, as between containers.
    identity: String,
    /// Its process id, as it sees it itself.
    pub pid: u32,
    /// Its command line, shortened.
    pub command: String,
}

impl Holder {
    /// This process.
    pub fn this() -> &'static Self {
        static THIS: OnceLock<Holder> = OnceLock::new();
        THIS.get_or_init(|| {
            let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
            let mut command = words.join(" ");
            if let Some((end, _)) = command.char_indices().nth(COMMAND_LENGTH) {
                command.truncate(end);
                command.push('…');
            }
            Self { identity: identity(), pid: std::process::id(), command }
        })
    }

    pub(crate) fn is_this(&self) -> bool {
        self.identity == Self::this().identity
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.pid, self.command)
    }
}

/// What no other process has: the kernel makes another one for each reader.
fn identity() -> String {
    let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid");
    random.map_or_else(|_| format!("process-{}", std::process::id()), |text| text.trim().to_owned())
}

/// Why something cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process has it.
    #[error("{resource} is in use by {holder}")]
    Taken { resource: Resource, holder: Holder },
    /// Claims cannot be read or written.
    #[error("claim names of this machine in {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Record {
    holder: Holder,
    /// The network namespace, by its inode; `None` from who does not know.
    #[serde(default)]
    network: Option<u64>,
    resources: Vec<Resource>,
}

/// Some names of this machine, held until it is dropped or its process ends.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// Locked.
    _file: File,
}

impl Claim {
    /// Claims all of them, or none. Blocks for a moment.
    pub fn take(resources: Vec<Resource>) -> Result<Self, ClaimError> {
        Self::take_in(Path::new(DIRECTORY), Record { holder: Holder::this().clone(), network: network(), resources })
    }

    fn take_in(directory: &Path, record: Record) -> Result<Self, ClaimError> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed(directory))?;
        let _comparing = comparing(&directory.join("lock"))?;
        for other in living(directory)? {
            let conflict = |wanted: &&Resource| other.resources.iter().any(|taken| taken.conflicts(wanted));
            if other.holder.identity != record.holder.identity
                && is_one_network(other.network, record.network)
                && let Some(resource) = record.resources.iter().find(conflict)
            {
                return Err(ClaimError::Taken { resource: resource.clone(), holder: other.holder });
            }
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let path = directory.join(format!("{}-{}", record.holder.identity, COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut file = open(&path)?;
        file.try_lock().map_err(|err| failed(&path)(err.into()))?;
        let text = serde_json::to_vec(&record).map_err(|err| failed(&path)(err.into()))?;
        file.write_all(&text).map_err(failed(&path))?;
        Ok(Self { path, _file: file })
    }
}

/// What other processes have, as far as it is of this thread's network namespace.
///
/// # Errors
/// When claims cannot be read.
pub fn taken() -> Result<Vec<Resource>, ClaimError> {
    taken_in(Path::new(DIRECTORY), network())
}

fn taken_in(directory: &Path, network: Option<u64>) -> Result<Vec<Resource>, ClaimError> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let _comparing = comparing(&directory.join("lock"))?;
    let others = living(directory)?.into_iter().filter(|other| !other.holder.is_this());
    Ok(others.filter(|other| is_one_network(other.network, network)).flat_map(|other| other.resources).collect())
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock ends with the file; one that stays is swept by the next who claims something.
        let _swept_later = std::fs::remove_file(&self.path);
    }
}

pub(crate) fn failed(path: &Path) -> impl FnOnce(io::Error) -> ClaimError {
    move |source| ClaimError::Io { path: path.to_owned(), source }
}

fn open(path: &Path) -> Result<File, ClaimError> {
    OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(0o600).open(path).map_err(failed(path))
}

fn comparing(path: &Path) -> Result<File, ClaimError> {
    let file = open(path)?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Err(err) => return Err(failed(path)(err.into())),
        }
    }
}

/// The claims that a process holds; those of the dead are removed.
fn living(directory: &Path) -> Result<Vec<Record>, ClaimError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        if path.file_name().is_some_and(|name| name == "lock") {
            continue;
        }
        let file = match File::open(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(failed(&path))?,
        };
        match file.try_lock_shared() {
            Ok(()) => std::fs::remove_file(&path).map_err(failed(&path))?,
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.take(LONGEST).read_to_string(&mut text).map_err(failed(&path))?;
                found.push(serde_json::from_str(&text).map_err(|err| failed(&path)(err.into()))?);
            }
            Err(TryLockError::Error(err)) => return Err(failed(&path)(err)),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(directory: &Path, who: &str, resources: Vec<Resource>) -> Result<Claim, ClaimError> {
        let holder = Holder { identity: who.to_owned(), pid: 7, command: format!("coracle up --bridge {who}") };
        take_by(directory, holder, Some(1), resources)
    }

    fn take_by(
        directory: &Path,
        holder: Holder,
        network: Option<u64>,
        resources: Vec<Resource>,
    ) -> Result<Claim, ClaimError> {
        Claim::take_in(directory, Record { holder, network, resources })
    }

    fn bridge(name: &str) -> Resource {
        Resource::Interface(name.to_owned())
    }

    fn range(text: &str) -> Resource {
        let (address, length) = text.split_once('/').unwrap();
        Resource::Range(address.parse().unwrap(), length.parse().unwrap())
    }

    #[test]
    fn what_one_process_has_no_other_gets_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let first = take(directory.path(), "a", vec![bridge("br0"), bridge("br1")]).unwrap();
        let err = take(directory.path(), "b", vec![bridge("br2"), bridge("br1")]).unwrap_err();
        assert_eq!(err.to_string(), "interface br1 is in use by process 7 (coracle up --bridge a)");
        // Nothing of a refused claim is held.
        let other = take(directory.path(), "c", vec![bridge("br2")]).unwrap();
        let again = take(directory.path(), "a", vec![bridge("br0")]).unwrap();
        drop(first);
        assert!(take(directory.path(), "b", vec![bridge("br1")]).is_ok());
        assert!(take(directory.path(), "b", vec![bridge("br0")]).is_err(), "the second claim still holds it");
        drop((other, again));
    }

    #[test]
    fn every_network_namespace_has_its_own_names() {
        let directory = tempfile::tempdir().unwrap();
        let holder = |who: &str| Holder { identity: who.to_owned(), pid: 7, command: String::new() };
        let by = |who, network| take_by(directory.path(), holder(who), network, vec![bridge("br0")]);
        let first = by("a", Some(1)).unwrap();
        let other = by("b", Some(2)).unwrap();
        assert!(by("c", Some(2)).is_err());
        assert!(by("d", None).is_err(), "who does not say where is everywhere");
        drop((first, other));
        assert!(network().is_some());
    }

    #[test]
    fn what_others_have_here_is_told() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(taken_in(&directory.path().join("none"), Some(1)).unwrap(), []);
        let _here = take(directory.path(), "a", vec![bridge("br0"), range("10.0.0.0/16")]).unwrap();
        let holder = Holder { identity: "b".to_owned(), pid: 7, command: String::new() };
        let _elsewhere = take_by(directory.path(), holder, Some(2), vec![bridge("br1")]).unwrap();
        let _own = take_by(directory.path(), Holder::this().clone(), Some(1), vec![bridge("br2")]).unwrap();
        assert_eq!(taken_in(directory.path(), Some(1)).unwrap(), [bridge("br0"), range("10.0.0.0/16")]);
    }

    #[test]
    fn a_claim_of_a_dead_process_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let record = serde_json::to_string(&Record {
            holder: Holder { identity: "dead".into(), pid: 1, command: String::new() },
            network: None,
            resources: vec![bridge("br0")],
        });
        let left = directory.path().join("dead-0");
        std::fs::write(&left, record.unwrap()).unwrap();
        let _claim = take(directory.path(), "a", vec![bridge("br0")]).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn ranges_conflict_where_they_overlap() {
        for (one, other, expected) in [
            ("10.244.0.0/16", "10.244.1.0/24", true),
            ("10.244.1.0/24", "10.244.0.0/16", true),
            ("10.244.0.0/16", "10.245.0.1/32", false),
            ("0.0.0.0/0", "192.0.2.1/32", true),
            ("fd00::/64", "fd00::1/128", true),
            ("fd00::/64", "fd00:1::/64", false),
            ("0.0.0.0/0", "::/0", false),
        ] {
            assert_eq!(range(one).conflicts(&range(other)), expected, "{one} {other}");
        }
        assert!(!bridge("a").conflicts(&Resource::Table("a".into())));
    }

    #[test]
    fn claims_of_many_at_once_are_given_to_one() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let got: Vec<Claim> = std::thread::scope(|scope| {
            let claim = |who: usize| take(at, &who.to_string(), vec![bridge("br0")]).ok();
            let tries: Vec<_> = (0..16).map(|who| scope.spawn(move || claim(who))).collect();
            tries.into_iter().filter_map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(got.len(), 1);
    }
}
