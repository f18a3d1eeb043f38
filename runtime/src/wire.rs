//! The shim's protocol: JSON frames over a Unix socket, each after its length as four little-endian bytes; descriptors
//! travel beside them.
//!
//! A connection carries one request and its reply. After a reply to [`Request::Exec`] comes [`Reply::ExecExited`];
//! after [`Request::Subscribe`] comes a [`Reply::Exited`] for every container that has ended and will end, and
//! [`Reply::Watched`] now and then.

use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::container::spec::ExecSpec;
use crate::{Exit, IdMap, LogLimits, WatchedCalls};

/// No frame is longer.
const MAX_FRAME: usize = 1 << 20;
/// No message carries more descriptors.
const MAX_DESCRIPTORS: usize = 4;

/// What a shim is told at its start, on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShimConfig {
    pub(crate) directory: PathBuf,
    pub(crate) socket: PathBuf,
    /// `None` keeps the node's.
    pub(crate) hostname: Option<String>,
    pub(crate) new_network: bool,
    pub(crate) new_ipc: bool,
    pub(crate) shared_pid: bool,
    pub(crate) sysctls: Vec<(String, String)>,
    /// The ids of the pod's user namespace, if it has one.
    pub(crate) users: Option<IdMap>,
}

/// What a shim is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Forks the init process of a container; its sealed specification comes as a descriptor.
    Create(CreateRequest),
    Start {
        container: String,
    },
    Kill {
        container: String,
        signal: i32,
    },
    /// Runs a process in a container; stdin, stdout and stderr come as descriptors, in this order, where said so.
    Exec {
        container: String,
        spec: ExecSpec,
        stdio: [bool; 3],
    },
    /// Copies a container's output to the descriptors that come with it: stdout, stderr. The reply brings stdin.
    Attach {
        container: String,
    },
    ReopenLog {
        container: String,
    },
    /// Forgets a container that has ended.
    Remove {
        container: String,
    },
    /// Connects to a port on the loopback address.
    Connect {
        port: u16,
    },
    Subscribe,
    /// Kills every container and ends the shim.
    Shutdown,
}

/// A container to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CreateRequest {
    pub(crate) container: String,
    pub(crate) directory: PathBuf,
    pub(crate) log_path: PathBuf,
    pub(crate) log_limits: LogLimits,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) pid_namespace: PidNamespace,
    /// Where its memory events are counted.
    pub(crate) memory_cgroup: Option<PathBuf>,
    /// Where its processes are listed.
    pub(crate) process_cgroup: Option<PathBuf>,
    /// How its system calls are judged, if they are watched.
    pub(crate) watch: Option<WatchRequest>,
}

/// How system calls are judged.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct WatchRequest {
    /// Unusual ones fail.
    pub(crate) enforce: bool,
    /// After this time without such a call a process or a container is quiet.
    pub(crate) quiet: Duration,
    /// A bit per capability that the container has.
    pub(crate) capabilities: u64,
}

/// Where a container's processes are numbered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PidNamespace {
    /// Its own: its processes end with its first.
    Own,
    /// The one that the containers of the pod share, or the node's.
    Pod,
    /// That of another container.
    Of(String),
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    /// A process was made. With a terminal, its master comes along.
    Process {
        pid: u32,
    },
    ExecExited {
        code: i32,
    },
    Exited {
        container: String,
        exit: Exit,
    },
    /// System calls of a container that are watched.
    Watched {
        container: String,
        calls: WatchedCalls,
    },
    /// The container's program could not be started.
    StartFailed {
        reason: String,
    },
    Failed {
        reason: String,
    },
}

/// Sends bytes, and descriptors beside the first of them.
pub(crate) fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(|fd| fd.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = rustix::net::sendmsg(stream, &[io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    let mut stream = stream;
    stream.write_all(&bytes[sent..])
}

/// Receives some bytes, and the descriptors beside them. No bytes mean that the other end is closed.
pub(crate) fn receive(stream: &UnixStream, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [io::IoSliceMut::new(bytes)];
    let received = rustix::net::recvmsg(stream, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(received.bytes)
}

/// Sends one frame.
pub(crate) fn send_frame(stream: &UnixStream, message: &impl Serialize, descriptors: &[OwnedFd]) -> io::Result<()> {
    send(stream, &frame(message)?, descriptors)
}

fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).map_err(|_| io::ErrorKind::InvalidInput)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Receives one frame; `None` when the other end is closed.
pub(crate) fn receive_frame<T: DeserializeOwned>(mut stream: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let (mut descriptors, mut length, mut have) = (Vec::new(), [0; 4], 0);
    while have < length.len() {
        match receive(stream, &mut length[have..], &mut descriptors)? {
            0 if have == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => have += count,
        }
    }
    let length = checked_length(length)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

fn checked_length(length: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame of {length} bytes")));
    }
    Ok(length)
}

/// Receives one frame without descriptors, waiting in tokio; `None` when the other end is closed.
pub(crate) async fn next_frame<T: DeserializeOwned>(stream: &mut tokio::net::UnixStream) -> io::Result<Option<T>> {
    use tokio::io::AsyncReadExt as _;
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let mut body = vec![0; checked_length(length)?];
    stream.read_exact(&mut body).await?;
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_arrives_with_its_descriptors() {
        let (near, far) = UnixStream::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send_frame(&near, &Request::Connect { port: 80 }, &[write]).unwrap();
        let (request, mut descriptors) = receive_frame::<Request>(&far).unwrap().unwrap();
        assert!(matches!(request, Request::Connect { port: 80 }));
        std::fs::File::from(descriptors.remove(0)).write_all(b"hi").unwrap();
        let mut text = [0; 2];
        std::fs::File::from(read).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hi");
    }

    #[test]
    fn a_frame_too_long_is_refused_before_any_memory_is_taken() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(receive_frame::<Request>(&far).is_err());
    }

    #[test]
    fn a_closed_connection_is_no_frame() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(near);
        assert!(receive_frame::<Request>(&far).unwrap().is_none());
    }
}
