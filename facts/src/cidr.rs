//! Ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

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
        let width = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.min(width);
        let mask = if bits == 0 { 0 } else { u128::MAX << (width - bits) };
        Self { base: from_number(number(base) & mask, base.is_ipv4()), bits }
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
        let width = if self.is_ipv4() { 32 } else { 128 };
        1_u64 << (width - self.bits).min(62)
    }

    /// Its `n`th address.
    pub fn nth(&self, n: u64) -> IpAddr {
        from_number(number(self.base).wrapping_add(u128::from(n)), self.is_ipv4())
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4()
            && number(address) >= number(self.base)
            && number(address) - number(self.base) < u128::from(self.size())
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

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let bad = || NotACidr(text.to_owned());
        let (base, bits) = text.trim().split_once('/').ok_or_else(bad)?;
        let base: IpAddr = base.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        if bits == 0 || bits > width { Err(bad()) } else { Ok(Self::new(base, bits)) }
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
        assert!("10.0.0.0".parse::<Cidr>().is_err() && "x/8".parse::<Cidr>().is_err());
    }
}
