//! Packets of ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861). Pure; whatever comes, nothing is read beyond its end.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// `ETH_P_ARP`.
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
const BROADCAST: Mac = [0xff; 6];
/// Hardware Ethernet, protocol IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Options of a link-layer address: of the source, of the target.
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;
/// Flags of an advertisement: it was asked for; it takes the place of what was known.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// What an ARP packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arp {
    pub(crate) is_request: bool,
    pub(crate) sender: Mac,
    /// Unspecified in a probe.
    pub(crate) sender_ip: Ipv4Addr,
    pub(crate) target_ip: Ipv4Addr,
}

impl Arp {
    /// Reads an Ethernet frame.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(14..42)?;
        let operation = u16::from_be_bytes([packet[6], packet[7]]);
        let is_known = frame[12..14] == ETHERTYPE_ARP.to_be_bytes() && packet[..6] == ETHERNET_IPV4;
        let address =
            |at: usize| -> Option<Ipv4Addr> { Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into()) };
        (is_known && [REQUEST, REPLY].contains(&operation)).then_some(Self {
            is_request: operation == REQUEST,
            sender: packet[8..14].try_into().ok()?,
            sender_ip: address(14)?,
            target_ip: address(24)?,
        })
    }
}

fn arp(to: Mac, own: Mac, operation: u16, sender_ip: Ipv4Addr, target: Mac, target_ip: Ipv4Addr) -> Vec<u8> {
    let operation = operation.to_be_bytes();
    let (sender, receiver) = (sender_ip.octets(), target_ip.octets());
    [&to[..], &own, &ETHERTYPE_ARP.to_be_bytes(), &ETHERNET_IPV4, &operation, &own, &sender, &target, &receiver]
        .concat()
}

/// The answer to who asked for an address: it is at `own`.
pub(crate) fn arp_reply(own: Mac, asked: &Arp) -> Vec<u8> {
    arp(asked.sender, own, REPLY, asked.target_ip, asked.sender, asked.sender_ip)
}

/// Tells everybody that an address is at `own` (RFC 5227, section 3: a request, which all systems heed).
pub(crate) fn arp_announcement(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp(BROADCAST, own, REQUEST, address, [0; 6], address)
}

/// Asks who has an address, without saying anything of the asker (RFC 5227, section 2.1.1).
pub(crate) fn arp_question(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp(BROADCAST, own, REQUEST, Ipv4Addr::UNSPECIFIED, [0; 6], address)
}

/// What a message of neighbour discovery says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Neighbour {
    /// Who has this address?
    Solicitation(Ipv6Addr),
    /// Somebody has this address, at a hardware address if it is told.
    Advertisement(Ipv6Addr, Option<Mac>),
}

impl Neighbour {
    /// Reads an ICMPv6 message.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let target = Ipv6Addr::from(<[u8; 16]>::try_from(message.get(8..24)?).ok()?);
        match (message[0], message[1]) {
            (SOLICITATION, 0) => Some(Self::Solicitation(target)),
            (ADVERTISEMENT, 0) => Some(Self::Advertisement(target, option(&message[24..], TARGET_LINK))),
            _ => None,
        }
    }
}

/// The hardware address in the first option of a kind.
fn option(mut options: &[u8], kind: u8) -> Option<Mac> {
    loop {
        let (found, length) = (*options.first()?, usize::from(*options.get(1)?) * 8);
        if found == kind && length == 8 {
            return options.get(2..8)?.try_into().ok();
        }
        options = options.get(length..).filter(|_| length > 0)?;
    }
}

fn neighbour(kind: u8, flags: u8, target: Ipv6Addr, link: Option<(u8, Mac)>) -> Vec<u8> {
    let link = link.map(|(kind, mac)| [&[kind, 1][..], &mac].concat()).unwrap_or_default();
    // The kernel fills in the checksum.
    [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &target.octets(), &link].concat()
}

/// Says that an address is at `own`, to whoever asked or to everybody.
pub(crate) fn advertisement(own: Mac, address: Ipv6Addr, was_asked: bool) -> Vec<u8> {
    let flags = if was_asked { SOLICITED | OVERRIDE } else { OVERRIDE };
    neighbour(ADVERTISEMENT, flags, address, Some((TARGET_LINK, own)))
}

/// Asks who has an address.
pub(crate) fn solicitation(own: Mac, address: Ipv6Addr) -> Vec<u8> {
    neighbour(SOLICITATION, 0, address, Some((SOURCE_LINK, own)))
}

/// The group in which questions for an address are asked (RFC 4291, section 2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | address.to_bits() & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];

    #[test]
    fn a_question_is_read_and_answered_to_whoever_asked() {
        let address = Ipv4Addr::new(192, 0, 2, 9);
        let mut frame = arp([0xff; 6], [2, 0, 0, 0, 0, 7], REQUEST, Ipv4Addr::new(192, 0, 2, 7), [0; 6], address);
        let asked = Arp::read(&frame).unwrap();
        assert!(asked.is_request && asked.target_ip == address);
        let reply = arp_reply(OWN, &asked);
        let read = Arp::read(&reply).unwrap();
        assert_eq!((reply[..6].to_vec(), read.sender, read.sender_ip), (vec![2, 0, 0, 0, 0, 7], OWN, address));
        assert!(!read.is_request && read.target_ip == Ipv4Addr::new(192, 0, 2, 7));
        frame[13] = 0;
        assert_eq!(Arp::read(&frame), None);
        let told = Arp::read(&arp_announcement(OWN, address)).unwrap();
        assert_eq!((told.sender_ip, told.target_ip), (address, address));
        assert_eq!(Arp::read(&arp_question(OWN, address)).unwrap().sender_ip, Ipv4Addr::UNSPECIFIED);
    }

    #[test]
    fn neighbours_are_asked_for_and_found_with_their_hardware_address() {
        let address: Ipv6Addr = "fd00::1:2:304".parse().unwrap();
        assert_eq!(solicited_node(address).to_string(), "ff02::1:ff02:304");
        assert_eq!(Neighbour::read(&solicitation(OWN, address)), Some(Neighbour::Solicitation(address)));
        for was_asked in [true, false] {
            let told = Neighbour::read(&advertisement(OWN, address, was_asked));
            assert_eq!(told, Some(Neighbour::Advertisement(address, Some(OWN))));
        }
    }

    #[test]
    fn no_bytes_whatsoever_are_read_beyond_their_end() {
        let address = Ipv4Addr::new(192, 0, 2, 9);
        for whole in [arp_announcement(OWN, address), advertisement(OWN, "fd00::1".parse().unwrap(), true)] {
            for end in 0..whole.len() {
                for value in [0, 1, 2, 8, 136, 255] {
                    let mut cut = whole[..end].to_vec();
                    if let Some(last) = cut.last_mut() {
                        *last = value;
                    }
                    Arp::read(&cut);
                    Neighbour::read(&cut);
                }
            }
        }
        assert_eq!(option(&[9, 0, 2, 1], TARGET_LINK), None, "an option without length ends the search");
    }
}
