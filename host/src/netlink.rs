//! What the kernel tells of changes, netlink(7).

use std::io;
use std::net::UdpSocket;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, bind, socket_with};

/// The kernel packs no more messages than this into one datagram.
const DATAGRAM: usize = 64 * 1024;
/// Datagrams that are read at a time: what comes after them is read the next time.
const AT_ONCE: usize = 4096;
/// `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// A socket that hears of changes.
#[derive(Debug)]
pub(crate) struct Changes {
    /// A netlink socket in truth: reading from it is the same system call, and tokio waits for it without unsafe code.
    socket: tokio::net::UdpSocket,
}

/// One message: its type, and what follows the header.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) body: &'a [u8],
}

impl Changes {
    /// Listens in this thread's network namespace to groups, as a mask. Needs an async runtime.
    pub(crate) fn of(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { socket: tokio::net::UdpSocket::from_std(UdpSocket::from(socket))? })
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Reads what has come; true when the kernel had to leave something out.
    pub(crate) fn read(&self, mut each: impl FnMut(Message<'_>)) -> io::Result<bool> {
        let mut buffer = vec![0; DATAGRAM];
        let mut lost = false;
        for _ in 0..AT_ONCE {
            match self.socket.try_recv(&mut buffer) {
                Ok(length) => messages(&buffer[..length], &mut each),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) if err.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => lost = true,
                Err(err) => return Err(err),
            }
        }
        Ok(lost)
    }
}

/// Tells of every message of a datagram.
pub(crate) fn messages(mut datagram: &[u8], each: &mut impl FnMut(Message<'_>)) {
    while let (Some(length), Some(kind)) = (u32_at(datagram, 0), u16_at(datagram, 4)) {
        let length = length as usize;
        let Some(body) = datagram.get(HEADER..length) else { return };
        each(Message { kind, body });
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// The value of the first attribute of a kind, after a body's fixed part.
pub(crate) fn attribute(body: &[u8], fixed: usize, kind: u16) -> Option<&[u8]> {
    let mut rest = body.get(fixed..)?;
    loop {
        let (length, found) = (u16_at(rest, 0)? as usize, u16_at(rest, 2)? & 0x3fff);
        let value = rest.get(4..length)?;
        if found == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    u32_at(bytes, at).map(u32::cast_signed)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn every_message_of_a_datagram_is_read_and_its_attributes_are_found() {
        let body = [&[9, 9, 9, 9][..], &[6, 0, 3, 0, 1, 2, 0, 0], &[8, 0, 1, 0x80, b'a', b'b', b'c', 0]].concat();
        let datagram = [message(17, &[1]), message(20, &body)].concat();
        let mut seen = Vec::new();
        messages(&datagram, &mut |message| seen.push((message.kind, message.body.to_vec())));
        assert_eq!(seen, [(17, vec![1]), (20, body.clone())]);
        assert_eq!(attribute(&body, 4, 3), Some(&[1, 2][..]));
        assert_eq!(attribute(&body, 4, 1), Some(&b"abc\0"[..]), "flags of the kind do not count");
        assert_eq!(attribute(&body, 4, 2), None);
    }

    #[test]
    fn no_bytes_whatsoever_are_read_beyond_their_end() {
        let whole = [message(17, &[0; 40]), message(20, &[255; 40])].concat();
        for end in 0..whole.len() {
            for value in [0, 1, 15, 16, 17, 255] {
                let mut cut = whole[..end].to_vec();
                if let Some(last) = cut.last_mut() {
                    *last = value;
                }
                messages(&cut, &mut |message| {
                    attribute(message.body, 4, 1);
                });
            }
        }
    }
}
