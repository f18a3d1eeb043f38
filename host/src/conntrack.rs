//! Forgetting connections that the kernel tracks, so that datagrams find their way anew: nf_conntrack_netlink's dump and
//! delete (`linux/netfilter/nfnetlink_conntrack.h`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use crate::netlink::{HEADER, Message, attribute, i32_at, messages};

/// The numbers of protocols of IP.
pub const TCP: u8 = 6;
/// The same.
pub const UDP: u8 = 17;
/// The same.
pub const SCTP: u8 = 132;
/// Connections that are forgotten with one look at the table; what is more is found by the next.
const AT_ONCE: usize = 16 * 1024;
/// Looks at the table: enough for one as large as kernels make it by default.
const LOOKS: usize = 16;
/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(5);
const DATAGRAM: usize = 64 * 1024;

/// `NFNL_SUBSYS_CTNETLINK`, as the upper byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST`, `NLM_F_ACK` and `NLM_F_DUMP`.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// `struct nfgenmsg`.
const NFGENMSG: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`, `CTA_STATUS`, `CTA_ID`, `CTA_ZONE`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// `IPS_SEEN_REPLY`.
const ANSWERED: u32 = 1 << 1;

/// A tracked connection, as its first packet had it, and where answers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The protocol's number.
    pub protocol: u8,
    /// Where the first packet was sent.
    pub to: IpAddr,
    /// The port it was sent to.
    pub port: u16,
    /// Who answers: another than `to` where the address was translated.
    pub answers: IpAddr,
    /// Whether anything came back.
    pub answered: bool,
}

/// Forgets the connections of one address family, in this thread's network namespace, that are stale; says how many there
/// were. Blocks.
pub fn forget(ipv6: bool, stale: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    let mut forgotten = 0;
    for _ in 0..LOOKS {
        let found = find(ipv6, &stale)?;
        for request in &found {
            forgotten += usize::from(delete(ipv6, request)?);
        }
        if found.len() < AT_ONCE {
            break;
        }
    }
    Ok(forgotten)
}

/// What names the stale connections to the kernel.
fn find(ipv6: bool, stale: impl Fn(&Flow) -> bool) -> io::Result<Vec<Vec<u8>>> {
    let socket = open()?;
    send(&socket, &request(GET, REQUEST | DUMP, ipv6, &[]), SendFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; DATAGRAM];
    let mut end = None;
    while end.is_none() {
        let (length, _) = recv(&socket, &mut *buffer, RecvFlags::empty())?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        messages(&buffer[..length], &mut |Message { kind, body }| match kind {
            DONE => end = Some(Ok(())),
            ERROR => end = Some(outcome(body)),
            NEW if found.len() < AT_ONCE && flow(body).is_some_and(|flow| stale(&flow)) => found.push(named(body)),
            _ => {}
        });
    }
    end.unwrap_or(Ok(())).map(|()| found)
}

/// False when it was gone already.
fn delete(ipv6: bool, name: &[u8]) -> io::Result<bool> {
    let socket = open()?;
    send(&socket, &request(DELETE, REQUEST | ACK, ipv6, name), SendFlags::empty())?;
    let mut buffer = vec![0; DATAGRAM];
    let (length, _) = recv(&socket, &mut *buffer, RecvFlags::empty())?;
    let mut end = Ok(());
    messages(&buffer[..length], &mut |Message { kind, body }| {
        if kind == ERROR {
            end = outcome(body);
        }
    });
    match end {
        Ok(()) => Ok(true),
        Err(err) if err.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(false),
        Err(err) => Err(err),
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// An acknowledgement is an error of number 0.
fn outcome(body: &[u8]) -> io::Result<()> {
    match i32_at(body, 0) {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(number.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn request(kind: u16, flags: u16, ipv6: bool, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + NFGENMSG + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Number and sender: one request a socket needs none.
    bytes.extend([0; 8]);
    let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
    bytes.push(u8::try_from(family.as_raw()).unwrap_or(0));
    bytes.extend([0; NFGENMSG - 1]);
    bytes.extend(attributes);
    bytes
}

/// The attributes that name one connection: those it came with. The id keeps a newer one of the same addresses.
fn named(body: &[u8]) -> Vec<u8> {
    let mut name = Vec::new();
    for (kind, nested) in [(ORIGINAL, NESTED), (ID, 0), (ZONE, 0)] {
        let Some(value) = attribute(body, NFGENMSG, kind) else { continue };
        name.extend(u16::try_from(value.len() + 4).unwrap_or(u16::MAX).to_ne_bytes());
        name.extend((kind | nested).to_ne_bytes());
        name.extend(value);
        name.resize(name.len().next_multiple_of(4), 0);
    }
    name
}

fn flow(body: &[u8]) -> Option<Flow> {
    let (original, reply) = (attribute(body, NFGENMSG, ORIGINAL)?, attribute(body, NFGENMSG, REPLY)?);
    let protocol = attribute(original, 0, 2)?;
    Some(Flow {
        protocol: *attribute(protocol, 0, 1)?.first()?,
        to: address(original, 2, 4)?,
        port: u16::from_be_bytes(attribute(protocol, 0, 3)?.try_into().ok()?),
        answers: address(reply, 1, 3)?,
        answered: u32::from_be_bytes(attribute(body, NFGENMSG, STATUS)?.try_into().ok()?) & ANSWERED != 0,
    })
}

/// An address of a tuple, by the kinds that it has in the two families.
fn address(tuple: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    let addresses = attribute(tuple, 0, 1)?;
    if let Some(value) = attribute(addresses, 0, v4) {
        return Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into());
    }
    let value = attribute(addresses, 0, v6)?;
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(of: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, value) in of {
            bytes.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn tuple(source: [u8; 4], destination: [u8; 4], port: u16) -> Vec<u8> {
        let addresses = attributes(&[(1, &source), (2, &destination)]);
        let protocol = attributes(&[(1, &[UDP]), (2, &[1, 2]), (3, &port.to_be_bytes())]);
        attributes(&[(NESTED | 1, &addresses), (NESTED | 2, &protocol)])
    }

    fn tracked() -> Vec<u8> {
        let original = tuple([10, 0, 0, 9], [10, 96, 0, 10], 53);
        let reply = tuple([10, 244, 0, 2], [10, 0, 0, 9], 4000);
        let rest = attributes(&[
            (NESTED | ORIGINAL, &original),
            (NESTED | REPLY, &reply),
            (STATUS, &[0, 0, 0, 0x0a]),
            (ID, &[1, 2, 3, 4]),
        ]);
        [&[2, 0, 0, 0][..], &rest].concat()
    }

    #[test]
    fn a_connection_is_read_and_named_again() {
        let body = tracked();
        let (to, answers) = ([10, 96, 0, 10].into(), [10, 244, 0, 2].into());
        assert_eq!(flow(&body), Some(Flow { protocol: UDP, to, port: 53, answers, answered: true }));
        let name = named(&body);
        assert_eq!(attribute(&name, 0, ORIGINAL), attribute(&body, NFGENMSG, ORIGINAL));
        assert_eq!(attribute(&name, 0, ID), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(&name, 0, ZONE), None);
    }

    #[test]
    fn no_bytes_whatsoever_are_read_beyond_their_end() {
        let body = tracked();
        for end in 0..body.len() {
            let mut cut = body[..end].to_vec();
            for value in [0, 3, 4, 5, 255] {
                if let Some(last) = cut.last_mut() {
                    *last = value;
                }
                let _read = (flow(&cut), named(&cut));
            }
        }
    }

    /// Root, a kernel that tracks connections, and something that makes it do so are needed.
    #[test]
    fn a_tracked_datagram_is_forgotten_when_it_is_stale() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = here.local_addr().unwrap().port();
        socket.send_to(b"x", ("127.0.0.1", port)).unwrap();
        let ours = |flow: &Flow| flow.protocol == UDP && flow.port == port && flow.to.is_loopback() && !flow.answered;
        let Ok(found) = find(false, ours) else { return eprintln!("SKIP: connections cannot be listed here") };
        if found.is_empty() {
            return eprintln!("SKIP: this kernel does not track connections on loopback");
        }
        assert_eq!(forget(false, |_| false).unwrap(), 0);
        assert_eq!(forget(false, ours).unwrap(), 1);
        assert!(find(false, ours).unwrap().is_empty());
    }
}
