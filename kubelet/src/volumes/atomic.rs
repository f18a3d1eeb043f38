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

use super::payload::Payload;
use crate::files::at;

const DATA: &str = "..data";

/// Writes the files below `target`; `group` owns them if given.
pub(super) fn write(target: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(target).map_err(at(target, "create"))?;
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
        if group.is_some() || file.owner.is_some() {
            chown(&full, file.owner, group).map_err(at(&full, "chown"))?;
        }
        let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
        fs::set_permissions(&full, fs::Permissions::from_mode(mode)).map_err(at(&full, "chmod"))?;
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
}
