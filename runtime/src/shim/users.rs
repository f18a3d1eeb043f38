//! Making a pod's user namespace, and the namespaces that it owns.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use rustix::thread::{Gid, Uid};

use super::{Error, during, process};
use crate::IdMap;
use crate::sys::{self, Child, CloneFlags};

/// Makes a user namespace and, owned by it, others (`flags`); this process joins these and stays who it is. `prepare`
/// runs as the root of the new ones.
///
/// ```text
/// shim --fork, new namespaces--> first
/// shim: write the maps --"m"--> first: become root, prepare --"" or the error--> shim: join
/// ```
pub(super) fn make(map: IdMap, flags: CloneFlags, prepare: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let (near, far) = during(UnixStream::pair(), "make a channel")?;
    match during(sys::fork(flags | libc::CLONE_NEWUSER), "make a user namespace")? {
        None => {
            drop(near);
            first(far, prepare)
        }
        Some(child) => {
            drop(far);
            let joined = join(near, &child, map, flags);
            // It has ended, or ends because nobody listens any more.
            process::reap(&child);
            joined
        }
    }
}

fn join(mut near: UnixStream, child: &Child, map: IdMap, flags: CloneFlags) -> Result<(), Error> {
    let text = format!("0 {} {}", map.host, map.length);
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{}/{file}", child.pid.as_raw_nonzero());
        // In one write: the kernel takes only one.
        let written = File::options().write(true).open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        during(written, format!("write {path} ({text})"))?;
    }
    during(near.write_all(b"m"), "go on")?;
    let mut said = [0; 1024];
    let count = during(near.read(&mut said), "prepare the namespaces")?;
    match &said[..count] {
        [READY] => during(sys::setns(child.pidfd.as_fd(), flags), "join the namespaces"),
        [] => during(Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)), "prepare the namespaces"),
        words => Err(Error::Said(String::from_utf8_lossy(words).into_owned())),
    }
}

const READY: u8 = 0;

/// The first process in the namespaces, which go on without it.
fn first(mut far: UnixStream, prepare: impl FnOnce() -> Result<(), Error>) -> ! {
    let mut byte = [0];
    if far.read_exact(&mut byte).is_err() {
        std::process::exit(1);
    }
    let prepared = become_root().and_then(|()| prepare());
    let said = prepared.map_or_else(|err| err.to_string().into_bytes(), |()| vec![READY]);
    // The shim must have joined before this ends; its end of the channel says so.
    let _ = far.write_all(&said).and_then(|()| far.read(&mut byte));
    std::process::exit(0)
}

fn become_root() -> Result<(), Error> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    during(rustix::thread::set_thread_groups(&[]), "leave groups")?;
    during(rustix::thread::set_thread_res_gid(gid, gid, gid), "become root's group")?;
    during(rustix::thread::set_thread_res_uid(uid, uid, uid), "become root")
}
