//! Stage identity, part 1: who the container runs as, by the files of its own root (upstream: moby/sys/user, as runc
//! uses it).

use std::io;
use std::path::Path;

use super::spec::UserSpec;
use super::{During as _, StageError, StageResult};
use crate::beneath::{Directory, Links};

/// A resolved user.
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    home: String,
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Bytes of a file of names. A longer one is refused: half of it would name other users.
const MAX_NAMES: u64 = 8 << 20;

/// Resolves names; numbers need no entry anywhere. Must run after the pivot.
pub(super) fn resolve(spec: &UserSpec) -> StageResult<User> {
    let root = Directory::open(Path::new("/"), Links::InRoot).during(|| "open /".into())?;
    resolve_in(spec, &names(&root, PASSWD)?, &names(&root, GROUP)?)
}

/// The text of a file of names, which is the image's: it may be a pipe, a device, or endless. A missing or odd one has
/// no entries.
fn names(root: &Directory, path: &str) -> StageResult<String> {
    match root.read(Path::new(path), MAX_NAMES) {
        Ok(bytes) => Ok(String::from_utf8(bytes).unwrap_or_default()),
        Err(err) if err.kind() == io::ErrorKind::FileTooLarge => Err(StageError::Program(err.to_string())),
        Err(_) => Ok(String::new()),
    }
}

fn resolve_in(spec: &UserSpec, passwd: &str, group: &str) -> StageResult<User> {
    let (image_user, image_group) = match spec.image.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec.image.as_str(), None),
    };
    let wanted = spec.uid.map_or_else(|| image_user.to_owned(), |uid| uid.to_string());
    let wanted = if wanted.is_empty() { "0" } else { &wanted };
    let entry = passwd.lines().map(fields).find(|entry| match wanted.parse::<u32>() {
        Ok(_) => entry.get(2) == Some(&wanted),
        Err(_) => entry.first() == Some(&wanted),
    });
    let uid = match (&entry, wanted.parse()) {
        (_, Ok(uid)) => uid,
        (Some(entry), _) => number(entry, 2).ok_or_else(|| missing("user", wanted, PASSWD))?,
        (None, _) => return Err(missing("user", wanted, PASSWD)),
    };
    let image_group = if spec.uid.is_some() { None } else { image_group };
    let gid = match (spec.gid, image_group) {
        (Some(gid), _) => gid,
        (None, Some(name)) => group_id(name, group)?,
        (None, None) => entry.as_ref().and_then(|entry| number(entry, 3)).unwrap_or(0),
    };
    let name = entry.as_ref().and_then(|entry| entry.first().copied());
    let mut groups = spec.supplemental_groups.clone();
    groups.extend(name.map(|name| member_of(name, group)).unwrap_or_default());
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    let home = entry.as_ref().and_then(|entry| entry.get(5)).filter(|home| !home.is_empty());
    Ok(User { uid, gid, groups, home: home.map_or("/", |home| home).to_owned() })
}

impl User {
    /// Adds `PATH`, `HOME`, `HOSTNAME` and `TERM` where the environment does not say them.
    pub(super) fn complete(
        &self,
        environment: &[(String, String)],
        hostname: &str,
        tty: bool,
    ) -> Vec<(String, String)> {
        let mut all = environment.to_vec();
        let term = if tty { "xterm" } else { "" };
        for (name, value) in [("HOSTNAME", hostname), ("HOME", &self.home), ("TERM", term)] {
            if !value.is_empty() && !all.iter().any(|(known, _)| known == name) {
                all.push((name.to_owned(), value.to_owned()));
            }
        }
        all
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn number(entry: &[&str], index: usize) -> Option<u32> {
    entry.get(index)?.parse().ok()
}

fn group_id(name: &str, group: &str) -> StageResult<u32> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let entry = group.lines().map(fields).find(|entry| entry.first() == Some(&name));
    entry.and_then(|entry| number(&entry, 2)).ok_or_else(|| missing("group", name, GROUP))
}

fn member_of(user: &str, group: &str) -> Vec<u32> {
    let is_member = |entry: &Vec<&str>| entry.get(3).is_some_and(|members| members.split(',').any(|name| name == user));
    group.lines().map(fields).filter(is_member).filter_map(|entry| number(&entry, 2)).collect()
}

fn missing(what: &str, name: &str, file: &str) -> StageError {
    StageError::Program(format!("unable to find {what} {name}: no matching entries in {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/var/web:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:7:web,root\n";

    #[test]
    fn odd_files_of_names_have_no_entries_and_endless_ones_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = Directory::open(directory.path(), Links::InRoot).unwrap();
        let path = directory.path().join("names");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::from_raw_mode(0o666), 0).unwrap();
        assert_eq!(names(&root, "names").unwrap(), "");
        assert_eq!(names(&root, "missing").unwrap(), "");
        std::fs::remove_file(&path).unwrap();
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(names(&root, "names").err().unwrap().to_string().contains("longer than"));
    }

    fn user(spec: &UserSpec) -> (u32, u32, Vec<u32>) {
        let user = resolve_in(spec, PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.groups)
    }

    #[test]
    fn a_name_brings_its_group_and_the_groups_it_is_a_member_of() {
        let spec = UserSpec { image: "web".into(), ..UserSpec::default() };
        assert_eq!(user(&spec), (101, 102, vec![7, 102]));
    }

    #[test]
    fn the_pods_user_wins_over_the_images() {
        let spec = UserSpec { image: "web:logs".into(), uid: Some(5), ..UserSpec::default() };
        assert_eq!(user(&spec), (5, 0, vec![0]));
    }

    #[test]
    fn an_unknown_name_is_refused_in_known_words() {
        let spec = UserSpec { image: "ghost".into(), ..UserSpec::default() };
        let err = resolve_in(&spec, PASSWD, GROUP).err().unwrap();
        assert_eq!(err.to_string(), "unable to find user ghost: no matching entries in /etc/passwd");
    }
}
