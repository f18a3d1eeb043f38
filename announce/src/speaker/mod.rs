//! One link: questions are heard on it, answers and announcements sent.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6, UdpSocket};

use runtime::packet;
use rustix::net::sockopt::{
    set_ipv6_add_membership, set_ipv6_drop_membership, set_ipv6_multicast_hops, set_ipv6_multicast_if,
    set_ipv6_multicast_loop, set_ipv6_unicast_hops,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use crate::frames::{self, Arp, ETHERTYPE_ARP, Neighbour};
use crate::links::Link;
use crate::standing::{Send, Standings};

/// The longest packet that is looked at: questions and answers are short.
const PACKET: usize = 512;
/// Packets that are read at a time, so that a flood does not keep this from ticking.
const AT_ONCE: usize = 256;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// What comes over a router has less (RFC 4861, section 7.1).
const HOPS: u8 = 255;

/// Speaks on one link.
pub(crate) struct Speaker {
    link: Link,
    /// A packet socket in truth: reading and writing are the same system calls, and tokio waits for it without unsafe code.
    arp: tokio::net::UdpSocket,
    /// A raw socket of ICMPv6 in truth; `None` without IPv6.
    neighbours: Option<tokio::net::UdpSocket>,
    /// The groups that were joined for addresses.
    groups: BTreeSet<Ipv6Addr>,
}

impl Speaker {
    /// Opens its sockets in this thread's network namespace. Needs an async runtime, and the right to send raw packets.
    pub(crate) fn open(link: Link) -> io::Result<Self> {
        let arp = waiting(packet::socket(link.index, ETHERTYPE_ARP)?)?;
        let has_ipv6 = link.subnets.iter().any(|subnet| !subnet.is_ipv4());
        let neighbours = has_ipv6.then(|| neighbours(link.index)).transpose()?;
        Ok(Self { link, arp, neighbours, groups: BTreeSet::new() })
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Hears questions for these addresses.
    pub(crate) fn hear_of(&mut self, addresses: impl Iterator<Item = IpAddr>) -> io::Result<()> {
        let Some(socket) = &self.neighbours else { return Ok(()) };
        let v6 = addresses.filter_map(|address| match address {
            IpAddr::V6(address) => Some(frames::solicited_node(address)),
            IpAddr::V4(_) => None,
        });
        let wanted: BTreeSet<Ipv6Addr> = v6.collect();
        for group in wanted.difference(&self.groups) {
            set_ipv6_add_membership(socket, group, self.link.index)?;
        }
        for group in self.groups.difference(&wanted) {
            set_ipv6_drop_membership(socket, group, self.link.index)?;
        }
        self.groups = wanted;
        Ok(())
    }

    /// Waits until there is something for [`Self::listen`].
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.neighbours {
            None => self.arp.readable().await,
            Some(neighbours) => tokio::select! {
                heard = self.arp.readable() => heard,
                heard = neighbours.readable() => heard,
            },
        }
    }

    /// Answers what was asked; answers the addresses that somebody else has said to have.
    pub(crate) fn listen(&self, standings: &Standings) -> io::Result<Vec<IpAddr>> {
        let mut heard = Vec::new();
        let mut bytes = [0; PACKET];
        for _ in 0..AT_ONCE {
            let Some(length) = received(self.arp.try_recv(&mut bytes))? else { break };
            heard.extend(self.arp_heard(&bytes[..length], standings));
        }
        let Some(neighbours) = &self.neighbours else { return Ok(heard) };
        for _ in 0..AT_ONCE {
            let Some((length, from)) = received(neighbours.try_recv_from(&mut bytes))? else { break };
            let std::net::SocketAddr::V6(from) = from else { continue };
            heard.extend(self.neighbour_heard(&bytes[..length], from, standings));
        }
        Ok(heard)
    }

    fn arp_heard(&self, frame: &[u8], standings: &Standings) -> Option<IpAddr> {
        let arp = Arp::read(frame).filter(|arp| arp.sender != self.link.mac)?;
        if arp.is_request && standings.answers(arp.target_ip.into()) && arp.sender_ip != arp.target_ip {
            self.send_frame(&frames::arp_reply(self.link.mac, &arp));
        }
        (!arp.sender_ip.is_unspecified()).then_some(arp.sender_ip.into())
    }

    fn neighbour_heard(&self, message: &[u8], from: SocketAddrV6, standings: &Standings) -> Option<IpAddr> {
        match Neighbour::read(message)? {
            Neighbour::Solicitation(target) => {
                let is_near = from.ip().is_unspecified() || self.is_near(*from.ip());
                if standings.answers(target.into()) && is_near {
                    // Who only looks whether an address is free has none yet, and is told with all others.
                    let was_asked = !from.ip().is_unspecified();
                    let to = if was_asked { *from.ip() } else { ALL_NODES };
                    self.send_message(&frames::advertisement(self.link.mac, target, was_asked), to);
                }
                None
            }
            Neighbour::Advertisement(_, Some(mac)) if mac == self.link.mac => None,
            Neighbour::Advertisement(target, _) => Some(target.into()),
        }
    }

    /// Whether an address lies in a subnet of this link.
    pub(crate) fn is_link_of(&self, address: IpAddr) -> bool {
        self.link.subnets.iter().any(|subnet| subnet.contains(address))
    }

    /// Whether an address is of this link, as far as an address tells.
    fn is_near(&self, address: Ipv6Addr) -> bool {
        address.is_unicast_link_local() || self.is_link_of(address.into())
    }

    /// Sends a question or an announcement. What is lost is sent again, or asked again.
    pub(crate) fn send(&self, what: Send) {
        let mac = self.link.mac;
        match what {
            Send::Question(IpAddr::V4(address)) => self.send_frame(&frames::arp_question(mac, address)),
            Send::Announcement(IpAddr::V4(address)) => self.send_frame(&frames::arp_announcement(mac, address)),
            Send::Question(IpAddr::V6(address)) => {
                self.send_message(&frames::solicitation(mac, address), frames::solicited_node(address));
            }
            Send::Announcement(IpAddr::V6(address)) => {
                self.send_message(&frames::advertisement(mac, address, false), ALL_NODES);
            }
        }
    }

    fn send_frame(&self, frame: &[u8]) {
        if let Err(err) = self.arp.try_send(frame) {
            tracing::debug!(error = &err as &dyn std::error::Error, "an ARP packet is not sent");
        }
    }

    fn send_message(&self, message: &[u8], to: Ipv6Addr) {
        let Some(socket) = &self.neighbours else { return };
        let to = SocketAddrV6::new(to, 0, 0, self.link.index);
        if let Err(err) = socket.try_send_to(message, to.into()) {
            tracing::debug!(error = &err as &dyn std::error::Error, "a message to neighbours is not sent");
        }
    }
}

/// What was received; `None` when that was all. A link that was stopped says so once, and nothing is lost by that.
fn received<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(received) => Ok(Some(received)),
        Err(err) if err.kind() == io::ErrorKind::WouldBlock || err.kind() == io::ErrorKind::NetworkDown => Ok(None),
        Err(err) => Err(err),
    }
}

fn neighbours(index: u32) -> io::Result<tokio::net::UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET6, SocketType::RAW, flags, Some(ipproto::ICMPV6))?;
    set_ipv6_unicast_hops(&socket, Some(HOPS))?;
    set_ipv6_multicast_hops(&socket, HOPS.into())?;
    set_ipv6_multicast_if(&socket, index)?;
    set_ipv6_multicast_loop(&socket, false)?;
    // Answers to everybody.
    set_ipv6_add_membership(&socket, &ALL_NODES, index)?;
    waiting(socket)
}

fn waiting(socket: std::os::fd::OwnedFd) -> io::Result<tokio::net::UdpSocket> {
    tokio::net::UdpSocket::from_std(UdpSocket::from(socket))
}

#[cfg(test)]
mod tests;
