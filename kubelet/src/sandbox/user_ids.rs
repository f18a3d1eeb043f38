//! The ids of pods' user namespaces (`hostUsers: false`, KEP-127): a range of its own for each pod, none of the node's
//! (upstream: pkg/kubelet/userns).
//!
//! A pod's range is in the file `userns` of its directory, in upstream's format, and is free again when that directory
//! is gone: what is on disk is the whole state, so a restart knows what is in use.
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use runtime::IdMap;
use serde::{Deserialize, Serialize};

use crate::files::at;

/// Ids of a pod.
const LENGTH: u32 = 65_536;
/// The user in `/etc/subuid` and `/etc/subgid` whose ids are the pods'.
const USER: &str = "kubelet";
const FILE: &str = "userns";

/// Hands out ranges.
pub(crate) struct UserIds {
    pods: PathBuf,
    pool: Result<Pool, String>,
    turn: Mutex<()>,
}

/// Ranges of [`LENGTH`] ids each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pool {
    first: u32,
    count: u32,
}

/// A pod's file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

impl UserIds {
    /// For the pods below `pods`, from what the node's files of subordinate ids give to `kubelet`, or else from the first
    /// ids behind the node's own.
    pub(crate) fn new(pods: PathBuf, max_pods: usize) -> Self {
        // A node without these files gives nothing away.
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let pool = Pool::parse(&read("/etc/subuid"), &read("/etc/subgid"), max_pods);
        Self { pods, pool, turn: Mutex::default() }
    }

    /// The range of a pod: the one it has, or else a new one. Blocks.
    ///
    /// # Errors
    /// When there is none left, or the files that say which are in use cannot be read.
    pub(crate) fn allocate(&self, uid: &str) -> io::Result<IdMap> {
        let pool = self.pool.clone().map_err(io::Error::other)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.pods.join(uid);
        if let Some(map) = read(&directory.join(FILE))? {
            return Ok(map);
        }
        let mut used = BTreeSet::new();
        for entry in list(&self.pods)? {
            used.extend(read(&entry.join(FILE))?.map(|map| map.host));
        }
        let free = pool.ranges().find(|host| !used.contains(host));
        let host = free.ok_or_else(|| io::Error::other("no ids are left for another pod with a user namespace"))?;
        let map = IdMap { host, length: LENGTH };
        write(&directory, map)?;
        Ok(map)
    }
}

impl Pool {
    fn ranges(self) -> impl Iterator<Item = u32> {
        (0..self.count).map(move |index| self.first + index * LENGTH)
    }

    /// As upstream wants it: one and the same range for users and groups, at a multiple of 65536 that is not 0, with room
    /// for every pod.
    fn parse(subuid: &str, subgid: &str, max_pods: usize) -> Result<Self, String> {
        let pods = u32::try_from(max_pods).unwrap_or(u32::MAX);
        let (users, groups) = (given(subuid), given(subgid));
        let [(first, length)] = users[..] else {
            if users.is_empty() && groups.is_empty() {
                let count = pods.min(u32::MAX / LENGTH - 1);
                return Ok(Self { first: LENGTH, count });
            }
            return Err(format!("/etc/subuid must give {USER} one range"));
        };
        if users != groups {
            return Err(format!("/etc/subuid and /etc/subgid give {USER} different ranges"));
        }
        let fits = first.checked_add(length).is_some_and(|end| end <= u64::from(u32::MAX));
        if first == 0 || first % u64::from(LENGTH) != 0 || length % u64::from(LENGTH) != 0 || !fits {
            return Err(format!(
                "the range of {USER} in /etc/subuid is not made of multiples of {LENGTH}, from {LENGTH} on"
            ));
        }
        let number = |value: u64| u32::try_from(value).map_err(|err| err.to_string());
        let (first, count) = (number(first)?, number(length)? / LENGTH);
        if count < pods {
            return Err(format!("the range of {USER} in /etc/subuid is too short for {max_pods} pods"));
        }
        Ok(Self { first, count })
    }
}

/// The ranges that a file of subordinate ids (subuid(5)) gives to the kubelet.
fn given(text: &str) -> Vec<(u64, u64)> {
    let line = |line: &str| {
        let mut fields = line.trim().split(':');
        let (name, first, length) = (fields.next()?, fields.next()?, fields.next()?);
        if name == USER { Some((first.parse().ok()?, length.parse().ok()?)) } else { None }
    };
    text.lines().filter_map(line).collect()
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// The range in a file, `None` without one. One that cannot be read is an error: it may be anybody's.
fn read(path: &Path) -> io::Result<Option<IdMap>> {
    let text = match std::fs::read(path) {
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        text => text.map_err(at(path, "read"))?,
    };
    let saved: Saved = serde_json::from_slice(&text).map_err(io::Error::from).map_err(at(path, "parse"))?;
    match (&saved.uid_mappings[..], &saved.gid_mappings[..]) {
        ([users], [groups]) if users == groups && users.container_id == 0 && users.length == LENGTH => {
            Ok(Some(IdMap { host: users.host_id, length: users.length }))
        }
        _ => Err(at(path, "read")(io::Error::other("it has other mappings than this kubelet makes"))),
    }
}

fn write(directory: &Path, map: IdMap) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(directory).map_err(at(directory, "create"))?;
    let mapping = Mapping { host_id: map.host, container_id: 0, length: map.length };
    let text = serde_json::to_vec(&Saved { uid_mappings: vec![mapping], gid_mappings: vec![mapping] })?;
    let (path, half) = (directory.join(FILE), directory.join("userns.tmp"));
    std::fs::write(&half, text).and_then(|()| std::fs::rename(&half, &path)).map_err(at(&path, "write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_have_ranges_of_their_own_that_outlast_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let pods = directory.path().join("pods");
        let first = UserIds { pods: pods.clone(), pool: Pool::parse("", "", 3), turn: Mutex::default() };
        let hosts = ["a", "b", "c"].map(|uid| first.allocate(uid).unwrap().host);
        assert_eq!(hosts, [65_536, 131_072, 196_608]);
        assert!(first.allocate("d").unwrap_err().to_string().contains("no ids are left"));
        let second = UserIds { pods: pods.clone(), pool: Pool::parse("", "", 3), turn: Mutex::default() };
        assert_eq!(second.allocate("b").unwrap().host, 131_072);
        std::fs::remove_dir_all(pods.join("a")).unwrap();
        assert_eq!(second.allocate("d").unwrap().host, 65_536);
        std::fs::write(pods.join("c").join(FILE), "{").unwrap();
        std::fs::remove_dir_all(pods.join("d")).unwrap();
        assert!(second.allocate("e").is_err(), "a file that cannot be read may have any range");
    }

    #[test]
    fn ranges_come_from_subordinate_ids_or_from_behind_the_nodes() {
        let check = |subuid: &str, subgid: &str, expected: Option<(u32, u32)>| {
            let pool = Pool::parse(subuid, subgid, 2).ok().map(|pool| (pool.first, pool.count));
            assert_eq!(pool, expected, "{subuid} {subgid}");
        };
        check("", "alice:100000:65536\n", Some((65_536, 2)));
        let good = "alice:1:2\nkubelet:655360:196608\n";
        check(good, good, Some((655_360, 3)));
        check(good, "", None);
        check("", good, None);
        for bad in ["kubelet:0:196608", "kubelet:100000:196608", "kubelet:65536:65536", "kubelet:65536:100000"] {
            check(bad, bad, None);
        }
        let twice = "kubelet:65536:131072\nkubelet:655360:131072";
        check(twice, twice, None);
        check("kubelet:4294901760:131072", "kubelet:4294901760:131072", None);
    }
}
