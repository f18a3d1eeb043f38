//! emptyDir and hostPath volumes, and the removal of a pod's directory.
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use runtime::FileKind;
use runtime::beneath::{self, Directory, Links};
use rustix::mount::UnmountFlags;

use super::memory::Tmpfs;
use crate::files::at;

/// Makes the directory once; with `memory` it is a tmpfs.
pub(super) fn empty_dir(
    path: &Path,
    source: &EmptyDirVolumeSource,
    group: Option<u32>,
    memory: Option<Tmpfs>,
) -> io::Result<()> {
    let medium = source.medium.as_deref().unwrap_or_default();
    if !matches!(medium, "" | "Memory") {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("emptyDir medium {medium:?} is not supported on this node"),
        ));
    }
    let mut is_new = !path.exists();
    fs::create_dir_all(path).map_err(at(path, "create"))?;
    if let Some(memory) = memory {
        is_new = memory.ensure(path)?;
    }
    if !is_new {
        return Ok(());
    }
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(at(path, "chown"))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at(path, "chmod"))
}

/// Checks (or, for the `OrCreate` types, makes) what the volume's type promises; returns what must be there when it is
/// mounted, which the runtime checks again on what it mounts.
pub(super) fn check_host_path(path: &Path, kind: &str) -> io::Result<Option<FileKind>> {
    let (wanted, make) = match kind {
        "" => return Ok(None),
        "DirectoryOrCreate" => (FileKind::Directory, true),
        "Directory" => (FileKind::Directory, false),
        "FileOrCreate" => (FileKind::File, true),
        "File" => (FileKind::File, false),
        "Socket" => (FileKind::Socket, false),
        "CharDevice" => (FileKind::CharDevice, false),
        "BlockDevice" => (FileKind::BlockDevice, false),
        other => return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("unknown hostPath type {other:?}"))),
    };
    let found = if make {
        let node = Directory::open(Path::new("/"), Links::Anywhere)?;
        match wanted {
            FileKind::File => node.find_or_make_file(path),
            _ => node.find_or_make(path, 0o755),
        }
        .map_err(at(path, "create"))
    } else {
        beneath::find_on_node(path)
    };
    match found.and_then(beneath::kind) {
        Ok(Some(found)) if found == wanted => Ok(Some(wanted)),
        Err(err) if make => Err(err),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, wanted.mismatch(path))),
    }
}

/// Unmounts what is mounted below a pod's directory and removes it.
pub(super) fn remove_pod(directory: &Path) -> io::Result<()> {
    unmount_below(directory)?;
    runtime::tree::remove(directory).map_err(at(directory, "remove"))
}

/// Unmounts everything at or below a directory.
pub(super) fn unmount_below(directory: &Path) -> io::Result<()> {
    for path in mounts_below(directory)? {
        rustix::mount::unmount(&path, UnmountFlags::DETACH).map_err(io::Error::from).map_err(at(&path, "unmount"))?;
    }
    Ok(())
}

/// Mount points at or below a directory, deepest first.
fn mounts_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(directory)).collect();
    below.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    Ok(below)
}

/// The mount table writes blanks as octal numbers.
fn unescape(text: &str) -> PathBuf {
    PathBuf::from(text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_checked_by_type() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        assert!(check_host_path(&file, "File").is_err());
        assert!(check_host_path(&file, "FileOrCreate").is_ok());
        assert!(check_host_path(&file, "File").is_ok());
        assert!(check_host_path(&file, "Directory").is_err());
        assert!(check_host_path(&file, "Socket").is_err());
        assert!(check_host_path(&directory.path().join("d/e"), "DirectoryOrCreate").is_ok());
        assert!(check_host_path(directory.path(), "Color").is_err());
    }

    #[test]
    fn a_pods_directory_is_removed_with_its_contents() {
        let directory = tempfile::tempdir().unwrap();
        let pod = directory.path().join("pod");
        empty_dir(&pod.join("volumes/a"), &EmptyDirVolumeSource::default(), None, None).unwrap();
        remove_pod(&pod).unwrap();
        remove_pod(&pod).unwrap();
        assert!(!pod.exists());
    }
}
