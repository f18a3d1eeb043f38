//! Addresses that load balancers can have, and who has which.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use client::ObjectKey;
use facts::cidr;

/// Addresses of one family from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// A text that is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} must be a range such as 192.0.2.0/28 or 192.0.2.10-192.0.2.20")]
pub struct NotARange(String);

impl FromStr for AddressRange {
    type Err = NotARange;

    /// Reads `192.0.2.0/28`, without its first and last address where those are the network's own and broadcast, or
    /// `192.0.2.10-192.0.2.20` with both ends. Addresses that can be nobody's are refused.
    fn from_str(text: &str) -> Result<Self, NotARange> {
        let bad = || NotARange(text.to_owned());
        let range = match text.trim().split_once('-') {
            Some((first, last)) => {
                let end = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| bad());
                Self { first: end(first)?, last: end(last)? }
            }
            None => of_block(text.trim()).ok_or_else(bad)?,
        };
        let same_family = range.first.is_ipv4() == range.last.is_ipv4();
        let usable = |address: IpAddr| !address.is_unspecified() && !address.is_loopback() && !address.is_multicast();
        let good = same_family && range.first <= range.last && usable(range.first) && usable(range.last);
        good.then_some(range).ok_or_else(bad)
    }
}

fn of_block(text: &str) -> Option<AddressRange> {
    let (address, bits) = cidr::parse(text)?;
    let host = |width: u8| u128::MAX.checked_shr(u32::from(128 - (width - bits))).unwrap_or(0);
    Some(match address {
        IpAddr::V4(address) => {
            let host = u32::try_from(host(32)).ok()?;
            let (first, last) = (address.to_bits() & !host, address.to_bits() | host);
            let own = u32::from(bits < 31);
            AddressRange { first: Ipv4Addr::from(first + own).into(), last: Ipv4Addr::from(last - own).into() }
        }
        IpAddr::V6(address) => {
            let host = host(128);
            let (first, last) = (address.to_bits() & !host, address.to_bits() | host);
            // The first is the routers' (RFC 4291, 2.6.1).
            let own = u128::from(bits < 127);
            AddressRange { first: Ipv6Addr::from(first + own).into(), last: Ipv6Addr::from(last).into() }
        }
    })
}

impl AddressRange {
    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    /// The blocks that it is made of, as address and length of the prefix.
    pub fn blocks(&self) -> Vec<(IpAddr, u8)> {
        let width = if self.first.is_ipv4() { 32 } else { 128 };
        let (mut first, last) = (number(self.first), number(self.last));
        let mut blocks = Vec::new();
        loop {
            // The largest block that begins here and does not reach beyond the end.
            let mut host = first.trailing_zeros().min(width);
            while host > 0 && (host >= 128 || last - first < (1 << host) - 1) {
                host -= 1;
            }
            blocks.push((address(first, self.first.is_ipv4()), u8::try_from(width - host).unwrap_or(128)));
            let size = 1_u128.checked_shl(host).unwrap_or(0);
            match first.checked_add(size) {
                Some(next) if size > 0 && next <= last => first = next,
                _ => return blocks,
            }
        }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let is_v4 = self.first.is_ipv4();
        (number(self.first)..=number(self.last)).map(move |number| address(number, is_v4))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(number: u128, is_v4: bool) -> IpAddr {
    if is_v4 { Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into() } else { Ipv6Addr::from(number).into() }
}

/// Why a Service gets no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("no address is free in the pool of load balancers")]
    Exhausted,
    #[error("{0} is not in the pool of load balancers")]
    Outside(String),
    #[error("{address} is the load balancer of {owner}")]
    Taken { address: IpAddr, owner: ObjectKey },
    #[error("the pool of load balancers has no addresses of the Service's families")]
    OtherFamily,
}

/// The pool, and who has which address of it.
#[derive(Debug, Default)]
pub(super) struct Pool {
    ranges: Vec<AddressRange>,
    taken: BTreeMap<IpAddr, ObjectKey>,
}

impl Pool {
    pub(super) fn new(ranges: Vec<AddressRange>) -> Self {
        Self { ranges, taken: BTreeMap::new() }
    }

    /// Gives a Service what it has by its status, as far as the pool has it and nobody else holds it.
    pub(super) fn adopt(&mut self, key: &ObjectKey, addresses: &[IpAddr]) {
        for address in addresses {
            if self.has(*address) {
                self.taken.entry(*address).or_insert_with(|| key.clone());
            }
        }
    }

    /// The addresses that a Service shall have: one of each family that it and the pool have, in the Service's order. It
    /// keeps those that it holds, unless it asks for another; what it holds beside them is free again.
    pub(super) fn assign(
        &mut self,
        key: &ObjectKey,
        families: &[bool],
        wanted: Option<&str>,
    ) -> Result<Vec<IpAddr>, Refused> {
        let wanted = wanted.map(|text| self.wanted(key, text)).transpose()?;
        let mut chosen = Vec::new();
        for is_v4 in families {
            if !self.ranges.iter().any(|range| range.first.is_ipv4() == *is_v4) {
                continue;
            }
            let held = self.taken.iter().find(|(address, owner)| *owner == key && address.is_ipv4() == *is_v4);
            let one = match wanted.filter(|address| address.is_ipv4() == *is_v4) {
                Some(address) => address,
                None => match held {
                    Some((address, _)) => *address,
                    None => self.free(*is_v4).ok_or(Refused::Exhausted)?,
                },
            };
            chosen.push(one);
        }
        let missing = wanted.is_some_and(|address| !chosen.contains(&address));
        if chosen.is_empty() || missing {
            return Err(Refused::OtherFamily);
        }
        self.release(key);
        self.taken.extend(chosen.iter().map(|address| (*address, key.clone())));
        Ok(chosen)
    }

    /// Takes from a Service what it holds; true when that was something.
    pub(super) fn release(&mut self, key: &ObjectKey) -> bool {
        let before = self.taken.len();
        self.taken.retain(|_, owner| owner != key);
        self.taken.len() < before
    }

    fn has(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    fn wanted(&self, key: &ObjectKey, text: &str) -> Result<IpAddr, Refused> {
        let address = text.parse().ok().filter(|address| self.has(*address));
        let address = address.ok_or_else(|| Refused::Outside(text.to_owned()))?;
        match self.taken.get(&address).filter(|owner| *owner != key) {
            Some(owner) => Err(Refused::Taken { address, owner: owner.clone() }),
            None => Ok(address),
        }
    }

    /// The lowest address that nobody has: looked at are no more than are taken.
    fn free(&self, is_v4: bool) -> Option<IpAddr> {
        let ranges = self.ranges.iter().filter(|range| range.first.is_ipv4() == is_v4);
        ranges.flat_map(AddressRange::addresses).find(|address| !self.taken.contains_key(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(ranges: &[&str]) -> Pool {
        Pool::new(ranges.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("d", name)
    }

    const V4: &[bool] = &[true];

    #[test]
    fn ranges_are_read_and_what_is_none_is_refused() {
        for (text, first, last) in [
            ("192.0.2.16/28", "192.0.2.17", "192.0.2.30"),
            ("192.0.2.16/31", "192.0.2.16", "192.0.2.17"),
            ("192.0.2.16/32", "192.0.2.16", "192.0.2.16"),
            (" 192.0.2.3 - 192.0.2.5", "192.0.2.3", "192.0.2.5"),
            ("fd00::/126", "fd00::1", "fd00::3"),
        ] {
            let range: AddressRange = text.parse().unwrap();
            assert_eq!(
                (range.first.to_string(), range.last.to_string()),
                (first.to_owned(), last.to_owned()),
                "{text}"
            );
        }
        for bad in [
            "",
            "192.0.2.1",
            "192.0.2.5-192.0.2.3",
            "192.0.2.1-fd00::1",
            "127.0.0.0/8",
            "224.0.0.0/24",
            "0.0.0.0-1.0.0.0",
            "a-b",
        ] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_is_made_of_as_few_blocks_as_it_can_be() {
        let check = |text: &str, expected: &[&str]| {
            let blocks = text.parse::<AddressRange>().unwrap().blocks();
            assert_eq!(blocks.iter().map(|(address, bits)| format!("{address}/{bits}")).collect::<Vec<_>>(), expected);
        };
        check("192.0.2.3-192.0.2.8", &["192.0.2.3/32", "192.0.2.4/30", "192.0.2.8/32"]);
        check("192.0.2.0-192.0.2.255", &["192.0.2.0/24"]);
        check("255.255.255.254-255.255.255.255", &["255.255.255.254/31"]);
        check("fd00::1-fd00::3", &["fd00::1/128", "fd00::2/127"]);
    }

    #[test]
    fn a_service_keeps_its_address_and_gives_it_back() {
        let mut pool = pool(&["192.0.2.1-192.0.2.2"]);
        let one = pool.assign(&key("a"), V4, None).unwrap();
        assert_eq!(pool.assign(&key("a"), V4, None).unwrap(), one);
        assert_ne!(pool.assign(&key("b"), V4, None).unwrap(), one);
        assert_eq!(pool.assign(&key("c"), V4, None), Err(Refused::Exhausted));
        assert!(pool.release(&key("a")) && !pool.release(&key("a")));
        assert_eq!(pool.assign(&key("c"), V4, None).unwrap(), one);
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_if_it_is_there_and_free() {
        let mut pool = pool(&["192.0.2.1-192.0.2.9"]);
        let text = |addresses: Vec<IpAddr>| addresses[0].to_string();
        assert_eq!(text(pool.assign(&key("a"), V4, Some("192.0.2.7")).unwrap()), "192.0.2.7");
        assert_eq!(
            pool.assign(&key("b"), V4, Some("192.0.2.7")).unwrap_err().to_string(),
            "192.0.2.7 is the load balancer of d/a"
        );
        for outside in ["192.0.3.1", "fd00::1", "x"] {
            assert_eq!(pool.assign(&key("b"), V4, Some(outside)), Err(Refused::Outside(outside.to_owned())));
        }
        // Another wish, another address; the old one is free.
        assert_eq!(text(pool.assign(&key("a"), V4, Some("192.0.2.8")).unwrap()), "192.0.2.8");
        assert_eq!(text(pool.assign(&key("b"), V4, Some("192.0.2.7")).unwrap()), "192.0.2.7");
    }

    #[test]
    fn of_two_that_show_one_address_the_first_has_it() {
        let mut pool = pool(&["192.0.2.1-192.0.2.9"]);
        let shown = ["192.0.2.5".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        pool.adopt(&key("a"), &shown);
        pool.adopt(&key("b"), &shown);
        assert_eq!(pool.assign(&key("a"), V4, None).unwrap(), [shown[0]]);
        assert_ne!(pool.assign(&key("b"), V4, None).unwrap(), [shown[0]]);
    }

    #[test]
    fn families_of_the_service_that_the_pool_has_get_an_address_each() {
        let mut both = pool(&["192.0.2.1-192.0.2.9", "fd00::1-fd00::9"]);
        let found = both.assign(&key("a"), &[false, true], None).unwrap();
        assert_eq!(found, ["fd00::1".parse::<IpAddr>().unwrap(), "192.0.2.1".parse().unwrap()]);
        assert_eq!(pool(&["192.0.2.1-192.0.2.9"]).assign(&key("a"), &[false, true], None).unwrap().len(), 1);
        assert_eq!(pool(&["192.0.2.1-192.0.2.9"]).assign(&key("a"), &[false], None), Err(Refused::OtherFamily));
        assert_eq!(both.assign(&key("b"), V4, Some("fd00::3")), Err(Refused::OtherFamily));
    }
}
