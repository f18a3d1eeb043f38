//! The shim's program, held in a way in which nobody who finds it in `/proc` can change it (CVE-2019-5736).
//!
//! Processes of the shim are seen by containers for a moment, and some containers may open `/proc/PID/exe`. Theirs is a
//! mount of the program's file that is read-only and that no namespace holds: it costs no copy, its pages are shared with
//! everybody else's, and a descriptor of it stays read-only for ever. Where the kernel does not give such a mount, it is a
//! sealed copy in memory, made once.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, MemfdFlags, SealFlags};
use rustix::mount::OpenTreeFlags;

use crate::Error;
use crate::disk::io_error;
use crate::sys::{MountAttributes, mount_setattr};

/// A program that can be run and not changed.
pub(super) struct Sealed(OwnedFd);

impl Sealed {
    /// Takes hold of the program at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        match read_only_mount(path) {
            Ok(mount) => Ok(Self(mount)),
            Err(err) => {
                let error = &err as &dyn std::error::Error;
                tracing::warn!(error, "no read-only mount of this program: shims run from a copy in memory");
                copy(path).map(Self)
            }
        }
    }

    /// Where this process finds it, and a child of this process until it has become it.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

fn read_only_mount(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, path, flags)?;
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    mount_setattr(mount.as_fd(), MountAttributes { set, ..MountAttributes::default() })?;
    Ok(mount)
}

fn copy(path: &Path) -> Result<OwnedFd, Error> {
    let failed = |operation| io_error(operation, path);
    let sealed = rustix::fs::memfd_create("coracle-shim", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|err| failed("make a copy in memory of")(err.into()))?;
    let mut file = File::from(sealed);
    let mut source = File::open(path).map_err(failed("open"))?;
    std::io::copy(&mut source, &mut file).map_err(failed("copy"))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(|err| failed("seal the copy of")(err.into()))?;
    // What is open for writing cannot be run.
    let sealed = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(failed("open the copy of"))?;
    Ok(sealed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs it, and tries to write to it.
    fn check(sealed: &Sealed) {
        let output = std::process::Command::new(sealed.path()).arg("hello").output().unwrap();
        assert_eq!(output.stdout, b"hello\n");
        let again = std::fs::OpenOptions::new().write(true).open(sealed.path());
        let kept = again.map_or(true, |mut file| std::io::Write::write(&mut file, b"x").is_err());
        assert!(kept, "it was written");
    }

    #[test]
    fn a_copy_runs_and_cannot_be_written() {
        check(&Sealed(copy(Path::new("/bin/echo")).unwrap()));
    }

    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        assert!(root || std::env::var_os("E2E_REQUIRED").is_none(), "this test needs root");
        if !root {
            eprintln!("SKIP: this test needs root");
        }
        root
    }

    #[test]
    fn a_mount_runs_and_cannot_be_written() {
        if is_root() {
            check(&Sealed(read_only_mount(Path::new("/bin/echo")).unwrap()));
        }
    }

    #[test]
    fn a_program_whose_file_was_replaced_meanwhile_is_still_mounted() {
        if !is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("echo");
        std::fs::copy("/bin/echo", &path).unwrap();
        let running = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let link = format!("/proc/self/fd/{}", running.as_raw_fd());
        check(&Sealed::open(Path::new(&link)).unwrap());
        // This program by its own link, as nodes have it.
        read_only_mount(Path::new("/proc/self/exe")).unwrap();
    }
}
