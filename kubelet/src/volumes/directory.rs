//! emptyDir and hostPath volumes, and the removal of a pod's directory.
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use rustix::mount::{MountFlags, UnmountFlags};

use super::at;
use crate::resources;

/// Makes the directory once; `Memory` is a tmpfs.
pub(super) fn empty_dir(path: &Path, source: &EmptyDirVolumeSource, group: Option<u32>) -> io::Result<()> {
    let medium = source.medium.as_deref().unwrap_or_default();
    if !matches!(medium, "" | "Memory") {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("emptyDir medium {medium:?} is not supported on this node"),
        ));
    }
    let is_new = !path.exists();
    fs::create_dir_all(path).map_err(at(path, "create"))?;
    if medium == "Memory" && !is_mount(path)? {
        let size = source.size_limit.as_ref().and_then(resources::value);
        let options = size.map_or_else(|| "mode=0777".to_owned(), |size| format!("mode=0777,size={size}"));
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::empty(), options.as_c_str())
            .map_err(io::Error::from)
            .map_err(at(path, "mount tmpfs on"))?;
    } else if !is_new {
        return Ok(());
    }
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(at(path, "chown"))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at(path, "chmod"))
}

/// Checks (or, for the `OrCreate` types, makes) what the volume's type promises.
pub(super) fn check_host_path(path: &Path, kind: &str) -> io::Result<()> {
    let wrong = |what: &str| {
        let text = format!("hostPath type check failed: {} is not {what}", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    };
    let metadata = fs::metadata(path);
    let is = |check: fn(&fs::FileType) -> bool| metadata.as_ref().is_ok_and(|metadata| check(&metadata.file_type()));
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if metadata.is_err() => {
            fs::create_dir_all(path).map_err(at(path, "create"))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(at(path, "chmod"))
        }
        "FileOrCreate" if metadata.is_err() => {
            fs::write(path, []).map_err(at(path, "create"))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(at(path, "chmod"))
        }
        "Directory" | "DirectoryOrCreate" if !is(fs::FileType::is_dir) => wrong("a directory"),
        "File" | "FileOrCreate" if !is(fs::FileType::is_file) => wrong("a file"),
        "Socket" if !is(|kind| kind.is_socket()) => wrong("a socket file"),
        "CharDevice" if !is(|kind| kind.is_char_device()) => wrong("a character device"),
        "BlockDevice" if !is(|kind| kind.is_block_device()) => wrong("a block device"),
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice" | "BlockDevice" => Ok(()),
        other => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("unknown hostPath type {other:?}"))),
    }
}

/// Unmounts what is mounted below a pod's directory and removes it.
pub(super) fn remove_pod(directory: &Path) -> io::Result<()> {
    for path in mounts_below(directory)? {
        rustix::mount::unmount(&path, UnmountFlags::DETACH).map_err(io::Error::from).map_err(at(&path, "unmount"))?;
    }
    match fs::remove_dir_all(directory) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(at(directory, "remove")(err)),
        _ => Ok(()),
    }
}

fn is_mount(path: &Path) -> io::Result<bool> {
    Ok(mounts_below(path)?.iter().any(|mount| mount == path))
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
        empty_dir(&pod.join("volumes/a"), &EmptyDirVolumeSource::default(), None).unwrap();
        remove_pod(&pod).unwrap();
        remove_pod(&pod).unwrap();
        assert!(!pod.exists());
    }
}
