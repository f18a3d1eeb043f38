//! Kernel parameters of a pod: only those of its own namespaces, opened beneath `/proc/sys` and nowhere else.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::{Error, NamespaceOptions};

/// Refuses what is not the pod's own: setting it would change the node.
pub(crate) fn check(name: &str, namespaces: NamespaceOptions) -> Result<(), Error> {
    let refused = |why: &str| Error::Invalid { field: "securityContext.sysctls", reason: format!("{name:?} {why}") };
    if path(name).is_none() {
        return Err(refused("is no sysctl name"));
    }
    let ipc = name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
    match (name.starts_with("net."), ipc) {
        (true, _) if namespaces.host_network => Err(refused("is the node's: the pod is on the host network")),
        (_, true) if namespaces.host_ipc => Err(refused("is the node's: the pod shares its IPC namespace")),
        (false, false) => Err(refused("is not namespaced")),
        _ => Ok(()),
    }
}

/// Sets a parameter in the namespaces of this process.
pub(crate) fn set(name: &str, value: &str) -> io::Result<()> {
    let path = path(name).ok_or(io::ErrorKind::InvalidInput)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/proc/sys", flags, Mode::empty())?;
    open_beneath(root, &path)?.write_all(value.as_bytes())
}

fn open_beneath(root: impl std::os::fd::AsFd, path: &Path) -> io::Result<File> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?.into())
}

/// Where it is below `/proc/sys`: dots part the name, and a slash stands for a dot inside a part, as in
/// `net.ipv4.conf.eth0/1.forwarding`.
fn path(name: &str) -> Option<PathBuf> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '_' | '-');
    let part = |part: &str| {
        let is_plain = part.chars().all(plain) && part.chars().any(|letter| letter != '/');
        is_plain.then(|| part.replace('/', "."))
    };
    name.split('.').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_of_the_node_and_ways_out_of_proc_sys_are_refused() {
        let pod = NamespaceOptions::default();
        for name in ["net.core.somaxconn", "kernel.shmmax", "fs.mqueue.msg_max", "kernel.sem"] {
            assert!(check(name, pod).is_ok(), "{name}");
        }
        let tries = [
            "kernel.panic",
            "vm.swappiness",
            "net...",
            "net/../kernel/panic",
            "net..kernel",
            "",
            "net.//.kernel.panic",
            "net./.x",
            "/proc/sys/net",
            "net.\0",
            "net.core.somaxconn\n",
            "kernel.core_pattern",
            "kernel.sem_x",
        ];
        let taken = tries.iter().filter(|name| check(name, pod).is_ok()).count();
        faults::Attack::new("runtime: sysctls of the node and ways out of /proc/sys")
            .tried(tries.len() as u64, taken as u64)
            .record();
        let host = NamespaceOptions { host_network: true, ..pod };
        assert!(check("net.core.somaxconn", host).is_err());
        let host = NamespaceOptions { host_ipc: true, ..pod };
        assert!(check("kernel.sem", host).is_err());
    }

    #[test]
    fn a_slash_stands_for_a_dot_in_the_name_of_an_interface() {
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding"), Some("net/ipv4/conf/eth0.1/forwarding".into()));
    }

    #[test]
    fn what_leads_out_of_the_directory_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("sys");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(directory.path().join("outside"), "").unwrap();
        std::fs::write(root.join("inside"), "").unwrap();
        std::os::unix::fs::symlink("../outside", root.join("link")).unwrap();
        std::os::unix::fs::symlink("inside", root.join("near")).unwrap();
        let open = |path: &str| open_beneath(File::open(&root).unwrap(), Path::new(path));
        assert!(open("inside").is_ok());
        for path in ["../outside", "link", "near", "/etc/hostname", "x/../../outside"] {
            assert!(open(path).is_err(), "{path}");
        }
    }
}
