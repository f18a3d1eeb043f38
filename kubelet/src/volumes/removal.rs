//! The removal of a pod's directory, and of everything that is mounted in it (upstream: removeOrphanedPodVolumeDirs of
//! pkg/kubelet).
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    fn a_pods_directory_is_removed_with_its_contents() {
        let directory = tempfile::tempdir().unwrap();
        let pod = directory.path().join("pod");
        fs::create_dir_all(pod.join("volumes/a")).unwrap();
        remove_pod(&pod).unwrap();
        remove_pod(&pod).unwrap();
        assert!(!pod.exists());
    }
}
