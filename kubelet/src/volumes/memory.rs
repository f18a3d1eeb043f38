//! Volumes in memory: a tmpfs for each, so that no disk ever holds what is in them.
//!
//! As upstream, secret, projected and downwardAPI volumes are such ones, and emptyDir volumes of medium `Memory`.
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::payload::Payload;
use crate::files::at;

/// Permissions of the root of a tmpfs, where nobody says so (as the kernel has it, and upstream).
pub(super) const MODE: u32 = 0o1777;

/// A tmpfs as it shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tmpfs {
    /// Bytes that it may hold; `None` for half of the node's memory.
    pub(super) size: Option<u64>,
    /// Permissions of its root.
    pub(super) mode: u32,
    /// Whether programs in it may be run.
    pub(super) executable: bool,
}

impl Tmpfs {
    /// For these files and nothing more. Only an executable one makes it one to run programs from: charts keep scripts
    /// in Secrets.
    pub(super) fn of(payload: &Payload) -> Self {
        let executable = payload.values().any(|file| file.mode & 0o111 != 0);
        Self { size: Some(room(payload)), mode: MODE, executable }
    }

    /// Mounts it at `path`, unless something is mounted there already. Says whether it did.
    pub(super) fn ensure(self, path: &Path) -> io::Result<bool> {
        fs::create_dir_all(path).map_err(at(path, "create"))?;
        if is_mount(path)? {
            return Ok(false);
        }
        let mounted =
            self.with_options(self.size, |flags, options| rustix::mount::mount("tmpfs", path, "tmpfs", flags, options));
        mounted.map_err(at(path, "mount tmpfs on"))?;
        Ok(true)
    }

    /// Makes room for its size beside what it holds now: old and new files are there together for a moment.
    pub(super) fn grow(self, path: &Path) -> io::Result<()> {
        let Some(more) = self.size else { return Ok(()) };
        let space = rustix::fs::statvfs(path).map_err(io::Error::from).map_err(at(path, "look at"))?;
        let used = space.f_blocks.saturating_sub(space.f_bfree).saturating_mul(space.f_frsize);
        let size = Some(used.saturating_add(more));
        let resized = self.with_options(size, |flags, options| rustix::mount::mount_remount(path, flags, options));
        resized.map_err(at(path, "resize tmpfs on"))
    }

    /// Mounts (again) with the flags and options that it shall have.
    fn with_options(
        self,
        size: Option<u64>,
        mount: impl Fn(MountFlags, &CStr) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        let no_programs = if self.executable { MountFlags::empty() } else { MountFlags::NOEXEC };
        let flags = MountFlags::NOSUID | MountFlags::NODEV | no_programs;
        let size = size.map(|size| format!(",size={size}")).unwrap_or_default();
        let plain = format!("mode={:04o}{size}", self.mode);
        let mount = |options: String| mount(flags, &CString::new(options).map_err(|_| Errno::INVAL)?);
        match mount(format!("{plain},noswap")) {
            // Before Linux 6.4 there is no such option.
            Err(Errno::INVAL) => Ok(mount(plain)?),
            mounted => Ok(mounted?),
        }
    }
}

/// What the files take at most: each begins a page, of 64 KiB on some machines.
fn room(payload: &Payload) -> u64 {
    const PAGE: u64 = 64 << 10;
    let of = |length: usize| u64::try_from(length).unwrap_or(u64::MAX).div_ceil(PAGE).saturating_mul(PAGE);
    // One page more, because a size of zero is no limit.
    payload.values().map(|file| of(file.bytes.len())).fold(PAGE, u64::saturating_add)
}

/// A tmpfs is a device of its own, unlike the directory that it is mounted in.
pub(super) fn is_mount(path: &Path) -> io::Result<bool> {
    let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev()).map_err(at(path, "look at"));
    match path.parent() {
        Some(parent) => Ok(device(path)? != device(parent)?),
        None => Ok(true),
    }
}

/// Whether a test may mount.
#[cfg(test)]
pub(super) fn is_root_or_skips() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "this test needs root");
        eprintln!("SKIP: this test needs root");
    }
    root
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::super::{atomic, removal};
    use super::*;

    fn payload(files: &[(&str, usize, u32)]) -> Payload {
        let file = |length, mode| File { mode, bytes: vec![b's'; length], owner: None };
        files.iter().map(|(path, length, mode)| ((*path).to_owned(), file(*length, *mode))).collect()
    }

    /// The mount's options, as the kernel tells them.
    fn options(path: &Path) -> String {
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        let of = |line: &str| line.split(' ').nth(1) == Some(path.to_str().unwrap());
        table.lines().find(|line| of(line)).unwrap_or_default().split(' ').nth(3).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_volume_has_room_for_its_files_and_programs_only_where_one_is_executable() {
        let plain = Tmpfs::of(&payload(&[("a", 1, 0o644), ("b", 65_537, 0o400)]));
        assert_eq!((plain.size, plain.executable), (Some((1 + 1 + 2) * 65_536), false));
        assert!(Tmpfs::of(&payload(&[("run.sh", 1, 0o755)])).executable);
        assert_eq!(Tmpfs::of(&Payload::new()).size, Some(65_536));
    }

    #[test]
    fn secrets_are_written_into_memory_and_nothing_is_left_of_them() {
        if !is_root_or_skips() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let pod = directory.path().join("pod");
        let volume = pod.join("volumes/kubernetes.io~secret/s");
        let first = payload(&[("key", 1 << 20, 0o644)]);
        assert!(Tmpfs::of(&first).ensure(&volume).unwrap());
        assert!(!Tmpfs::of(&first).ensure(&volume).unwrap());
        atomic::write(&volume, &first, None).unwrap();
        let flags = options(&volume);
        for wanted in ["nosuid", "nodev", "noexec", "size="] {
            assert!(flags.contains(wanted), "{wanted} in {flags}");
        }
        // A new version that is larger than all the room there was.
        let second = payload(&[("key", 3 << 20, 0o644), ("d/more", 1 << 20, 0o600)]);
        Tmpfs::of(&second).grow(&volume).unwrap();
        atomic::write(&volume, &second, Some(7)).unwrap();
        assert_eq!(fs::read(volume.join("key")).unwrap().len(), 3 << 20);
        assert!(options(&volume).contains("noexec"), "{}", options(&volume));
        removal::remove_pod(&pod).unwrap();
        assert!(!pod.exists());
    }
}
