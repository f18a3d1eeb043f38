//! The removal of a pod's directory, and of everything that is mounted in it (upstream: removeOrphanedPodVolumeDirs of
//! pkg/kubelet).
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use runtime::mount_table::unescape;
use rustix::mount::UnmountFlags;

use crate::files::at;

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
pub fn mounts_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    // The table has no path with links.
    let directory = match fs::canonicalize(directory) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(&directory)).collect();
    below.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    Ok(below)
}

#[cfg(test)]
mod tests {
    use rustix::mount::MountFlags;

    use super::super::memory::is_root_or_skips;
    use super::*;

    #[test]
    fn what_is_mounted_is_found_behind_a_link() {
        if !is_root_or_skips() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::create_dir_all(real.join("pod/volumes/a")).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        rustix::mount::mount("x", link.join("pod/volumes/a"), "tmpfs", MountFlags::empty(), c"").unwrap();
        remove_pod(&link.join("pod")).unwrap();
        assert!(!real.join("pod").exists());
    }

    #[test]
    fn a_pods_directory_is_removed_with_its_contents() {
        let directory = tempfile::tempdir().unwrap();
        let pod = directory.path().join("pod");
        fs::create_dir_all(pod.join("volumes/a")).unwrap();
        remove_pod(&pod).unwrap();
        remove_pod(&pod).unwrap();
        assert!(!pod.exists());
    }
}
