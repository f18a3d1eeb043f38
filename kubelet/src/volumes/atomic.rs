//! Replaces all files of a volume at once, so that a container never sees half an update (upstream: AtomicWriter of
//! pkg/volume/util).
//!
//! ```text
//! volume/key          -> ..data/key
//! volume/..data       -> ..<unique>        (replaced by rename)
//! volume/..<unique>/key
//! ```
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use runtime::walk;

use super::payload::Payload;
use crate::files::at;

const DATA: &str = "..data";

/// As upstream: who may write into a volume is what its mount says. In memory it is as the tmpfs was made.
const ROOT: u32 = 0o777;

/// Writes the files below `target`; `group` owns them if given, and may read them.
pub(super) fn write(target: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    if !target.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(target).map_err(at(target, "create"))?;
        fs::set_permissions(target, fs::Permissions::from_mode(ROOT)).map_err(at(target, "chmod"))?;
    }
    let version = format!("..{}", uuid_like());
    let directory = target.join(&version);
    fs::create_dir(&directory).map_err(at(&directory, "create"))?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).map_err(at(&directory, "chmod"))?;
    for (path, file) in payload {
        let full = directory.join(path);
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent).map_err(at(parent, "create"))?;
        }
        fs::write(&full, &file.bytes).map_err(at(&full, "write"))?;
        if file.owner.is_some() {
            chown(&full, file.owner, None).map_err(at(&full, "chown"))?;
        }
        fs::set_permissions(&full, fs::Permissions::from_mode(file.mode)).map_err(at(&full, "chmod"))?;
    }
    if let Some(group) = group {
        // Before anybody finds the new version.
        walk::show_to_group(target, group).map_err(at(target, "give to its group"))?;
    }
    let old = fs::read_link(target.join(DATA)).ok();
    let temporary = target.join("..data_tmp");
    match fs::remove_file(&temporary) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(at(&temporary, "remove")(err)),
        _ => {}
    }
    symlink(&version, &temporary).map_err(at(&temporary, "link"))?;
    fs::rename(&temporary, target.join(DATA)).map_err(at(&temporary, "rename"))?;
    link_entries(target, payload)?;
    if let Some(old) = old.filter(|old| old.as_os_str() != version.as_str()) {
        let old = target.join(old);
        fs::remove_dir_all(&old).map_err(at(&old, "remove"))?;
    }
    Ok(())
}

/// Links every top entry to `..data/<entry>`, and removes links to what is gone.
fn link_entries(target: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = target.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(at(&link, "link"))?;
        }
    }
    for entry in fs::read_dir(target).map_err(at(target, "list"))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            fs::remove_file(entry.path()).map_err(at(&entry.path(), "remove"))?;
        }
    }
    Ok(())
}

fn uuid_like() -> String {
    format!("{}_{:08x}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S"), rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::super::memory::{Tmpfs, is_root_or_skips};
    use super::super::payload::File;
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |text: &str| File { mode: 0o644, bytes: text.as_bytes().to_vec(), owner: None };
        files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    #[test]
    fn an_update_swaps_every_file_and_removes_the_old_ones() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("volume");
        write(&target, &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(target.join("d/b")).unwrap(), "2");
        write(&target, &payload(&[("a", "3"), ("c", "4")]), None).unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "3");
        assert_eq!(fs::read_to_string(target.join("c")).unwrap(), "4");
        assert!(!target.join("d").exists());
        let versions = fs::read_dir(&target).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
        assert_eq!(versions.filter(|e| !e.as_ref().unwrap().file_type().unwrap().is_symlink()).count(), 1);
    }

    #[test]
    fn the_group_of_a_volume_has_its_folders_and_reads_its_files() {
        if !is_root_or_skips() {
            return;
        }
        let shown = |path: &Path| {
            let about = fs::symlink_metadata(path).unwrap();
            (about.mode() & 0o7777, about.gid())
        };
        let directory = tempfile::tempdir().unwrap();
        let mut files = payload(&[("a", "1"), ("d/e/b", "2")]);
        files.get_mut("d/e/b").unwrap().mode = 0o400;
        let plain = directory.path().join("plain");
        write(&plain, &files, None).unwrap();
        for (path, mode) in [("", 0o777), ("..data/", 0o755), ("..data/d", 0o755), ("d/e/b", 0o400)] {
            assert_eq!(shown(&fs::canonicalize(plain.join(path)).unwrap()), (mode, 0), "{path}");
        }
        let given = directory.path().join("given");
        for _ in 0..2 {
            write(&given, &files, Some(7)).unwrap();
            for (path, mode) in [
                ("", 0o2777),
                ("..data/", 0o2755),
                ("..data/d", 0o2755),
                ("d/e", 0o2755),
                ("a", 0o644),
                ("d/e/b", 0o440),
            ] {
                assert_eq!(shown(&fs::canonicalize(given.join(path)).unwrap()), (mode, 7), "{path}");
            }
        }
        assert_eq!(fs::symlink_metadata(given.join("a")).unwrap().gid(), 7, "links, too");
    }

    #[test]
    fn a_volume_in_memory_is_as_everybodys_directory_for_short_lived_files() {
        if !is_root_or_skips() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let files = payload(&[("a", "1")]);
        for (name, group, mode) in [("plain", None, 0o1777), ("given", Some(7), 0o3777)] {
            let target = directory.path().join(name);
            assert!(Tmpfs::of(&files).ensure(&target).unwrap());
            write(&target, &files, group).unwrap();
            let about = fs::metadata(&target).unwrap();
            crate::volumes::removal::remove_pod(&target).unwrap();
            assert_eq!((about.mode() & 0o7777, about.gid()), (mode, group.unwrap_or(0)));
        }
    }
}
