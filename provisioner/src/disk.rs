//! The directories of volumes. Pods write into them, so that nothing in one is followed or trusted.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The folder of all volumes.
#[derive(Clone, Debug)]
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Makes the folder, which is the node's alone: pods see their own volumes by mounts.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Makes the directory of a volume, for every user of its pods. One that is there stays as it is.
    pub(crate) fn make(&self, volume: &str) -> io::Result<()> {
        let path = self.path(volume)?;
        match std::fs::create_dir(&path) {
            // Not by mkdir's mode, which the umask may narrow.
            Ok(()) => std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists && is_directory(&path)? => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Removes the directory of a volume with all that is in it. One that is gone is fine.
    pub(crate) fn remove(&self, volume: &str) -> io::Result<()> {
        runtime::tree::remove(&self.path(volume)?)
    }

    /// How many bytes the disk has in all, used or not.
    pub(crate) fn size(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.0)?;
        Ok(space.f_blocks.saturating_mul(space.f_frsize))
    }

    /// A volume's directory is named as the volume: nothing else of the disk can be meant.
    fn path(&self, volume: &str) -> io::Result<PathBuf> {
        let plain = volume.starts_with(crate::plan::PREFIX)
            && volume.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if plain { Ok(self.0.join(volume)) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not our volume")) }
    }
}

fn is_directory(path: &Path) -> io::Result<bool> {
    Ok(std::fs::symlink_metadata(path)?.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_a_size() {
        let place = tempfile::tempdir().unwrap();
        assert!(Disk::open(place.path()).unwrap().size().unwrap() > 1 << 20);
    }

    #[test]
    fn directories_come_and_go_by_their_names_only() {
        let place = tempfile::tempdir().unwrap();
        let disk = Disk::open(&place.path().join("volumes")).unwrap();
        disk.make("pvc-1").unwrap();
        let directory = place.path().join("volumes/pvc-1");
        assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o7777, 0o777);
        std::fs::write(directory.join("data"), "kept").unwrap();
        disk.make("pvc-1").unwrap();
        assert_eq!(std::fs::read_to_string(directory.join("data")).unwrap(), "kept");
        let outside = place.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, directory.join("link")).unwrap();
        for _ in 0..2 {
            disk.remove("pvc-1").unwrap();
        }
        assert!(!directory.exists() && outside.exists());
        for name in ["../outside", "pvc-../outside", "pvc-1/..", "", "other", "/etc"] {
            assert!(disk.remove(name).is_err() && disk.make(name).is_err(), "{name}");
        }
        std::os::unix::fs::symlink(&outside, place.path().join("volumes/pvc-2")).unwrap();
        assert!(disk.make("pvc-2").is_err(), "a link is no volume");
    }
}
