//! Ranges of addresses (upstream: Go's `net.IPNet`, and k8s.io/utils/net).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Splits `10.9.8.7/24` into its address, which may be any of the range, and the length of the prefix.
pub fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    Some((address, length(bits, address)?))
}

/// The length of a prefix of addresses like `address`.
pub fn length(digits: &str, address: IpAddr) -> Option<u8> {
    let bits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
    (bits <= width(address)).then_some(bits)
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address range such as `10.96.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

/// A text that is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address range such as 10.96.0.0/16")]
pub struct NotACidr(String);

impl Cidr {
    /// The range of `base` with a prefix of `bits`; bits below the prefix are dropped.
    pub fn new(base: IpAddr, bits: u8) -> Self {
        let bits = bits.min(width(base));
        let mask = u128::MAX.checked_shl((width(base) - bits).into()).unwrap_or(0);
        Self { base: from_number(number(base) & mask, base.is_ipv4()), bits }
    }

    /// Its first address.
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// The length of its prefix.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The `n`th of the ranges with a prefix of `bits` that it is cut into.
    pub fn part(&self, n: u32, bits: u8) -> Self {
        let offset = u128::from(n).checked_shl(width(self.base).saturating_sub(bits).into()).unwrap_or(0);
        Self::new(from_number(number(self.base).wrapping_add(offset), self.is_ipv4()), bits)
    }

    /// Whether it holds IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.base.is_ipv4()
    }

    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        if self.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// How many addresses it holds, as far as Services are concerned.
    pub fn size(&self) -> u64 {
        1_u64 << (width(self.base) - self.bits).min(62)
    }

    /// Its `n`th address.
    pub fn nth(&self, n: u64) -> IpAddr {
        from_number(number(self.base).wrapping_add(u128::from(n)), self.is_ipv4())
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.bits) == *self
    }

    /// Whether a Service may have an address: neither the network's own nor the broadcast address.
    pub fn offers(&self, address: IpAddr) -> bool {
        let last = if self.is_ipv4() { self.size() - 1 } else { self.size() };
        self.contains(address) && address != self.base && (self.size() <= 2 || address != self.nth(last))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn from_number(number: u128, v4: bool) -> IpAddr {
    if v4 {
        let low = u32::try_from(number & u128::from(u32::MAX)).expect("masked to 32 bits");
        return IpAddr::V4(Ipv4Addr::from(low));
    }
    IpAddr::V6(Ipv6Addr::from(number))
}

impl FromStr for Cidr {
    type Err = NotACidr;

    /// Reads a range of a cluster: all addresses together are none.
    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let (base, bits) = parse(text.trim()).filter(|(_, bits)| *bits > 0).ok_or_else(|| NotACidr(text.to_owned()))?;
        Ok(Self::new(base, bits))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_know_their_addresses() {
        let range: Cidr = "10.96.3.0/16".parse().unwrap();
        assert_eq!(range.to_string(), "10.96.0.0/16");
        assert_eq!(range.nth(1).to_string(), "10.96.0.1");
        assert!(range.offers("10.96.255.254".parse().unwrap()));
        for outside in ["10.96.0.0", "10.96.255.255", "10.97.0.1", "fd00::1"] {
            assert!(!range.offers(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in ["10.0.0.0", "x/8", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "fd00::/129", "10.0.0.0/0"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert_eq!(
            parse("10.0.0.1/0").map(|(address, bits)| Cidr::new(address, bits).to_string()).as_deref(),
            Some("0.0.0.0/0")
        );
    }

    #[test]
    fn ranges_are_cut_into_parts() {
        let part = |range: &str, n, bits| range.parse::<Cidr>().unwrap().part(n, bits).to_string();
        assert_eq!(part("10.244.0.0/16", 0, 24), "10.244.0.0/24");
        assert_eq!(part("10.244.0.0/16", 255, 24), "10.244.255.0/24");
        assert_eq!(part("fd00::/56", 1, 64), "fd00:0:0:1::/64");
        let range: Cidr = "fd00::/56".parse().unwrap();
        assert!(range.contains("fd00:0:0:ff::1".parse().unwrap()) && !range.contains("10.0.0.1".parse().unwrap()));
    }
}
