//! Ranges of addresses and ports: what several blocks leave together when their exceptions are taken out, in the form that
//! sets of intervals have it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cidr;

/// Addresses of one family from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// Not after the last.
    pub first: IpAddr,
    /// Of the same family.
    pub last: IpAddr,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl Range {
    /// Whether an address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && (self.first..=self.last).contains(&address)
    }
}

/// Numbers of one family's addresses, or ports, in order and apart.
type Spans = Vec<(u128, u128)>;

/// The addresses of some blocks without the exceptions of each, in order, apart and as few as they can be. A block that is
/// no range, or has an exception that is none, has no addresses: what cannot be read allows nothing.
pub fn of_blocks<'a>(blocks: impl Iterator<Item = (&'a str, &'a [String])>) -> Vec<Range> {
    let (mut v4, mut v6) = (Spans::new(), Spans::new());
    for (block, except) in blocks {
        let Some((is_v4, span)) = span(block) else { continue };
        let excepted: Option<Vec<_>> = except.iter().map(|text| self::span(text)).collect();
        let Some(excepted) = excepted else { continue };
        let excepted = excepted.into_iter().filter(|(family, _)| *family == is_v4).map(|(_, span)| span).collect();
        let left = without(span, united(excepted));
        if is_v4 { v4.extend(left) } else { v6.extend(left) }
    }
    let ranges = |spans: Spans, address: fn(u128) -> IpAddr| {
        united(spans).into_iter().map(move |(first, last)| Range { first: address(first), last: address(last) })
    };
    ranges(v4, v4_of).chain(ranges(v6, |number| Ipv6Addr::from(number).into())).collect()
}

fn v4_of(number: u128) -> IpAddr {
    Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into()
}

/// The first and last address of a block, and whether it is of IPv4.
fn span(block: &str) -> Option<(bool, (u128, u128))> {
    let (address, bits) = cidr::parse(block)?;
    let (number, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let all = u128::MAX >> (128 - width);
    let host = all.checked_shr(u32::from(bits)).unwrap_or(0);
    Some((width == 32, (number & !host & all, number & !host & all | host)))
}

/// Spans that overlap or touch become one.
fn united(mut spans: Spans) -> Spans {
    spans.sort_unstable();
    let mut united = Spans::new();
    for (first, last) in spans {
        match united.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => united.push((first, last)),
        }
    }
    united
}

/// What is left of a span without others that are in order and apart.
fn without((mut first, last): (u128, u128), others: Spans) -> Spans {
    let mut left = Spans::new();
    for (from, to) in others {
        if from > first {
            left.push((first, (from - 1).min(last)));
        }
        let Some(next) = to.checked_add(1) else { return left };
        first = first.max(next);
        if first > last {
            return left;
        }
    }
    left.push((first, last));
    left
}

/// Ranges of ports that overlap or touch become one.
pub fn united_ports(ports: impl Iterator<Item = (u16, u16)>) -> Vec<(u16, u16)> {
    let port = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
    let spans = united(ports.map(|(first, last)| (first.into(), last.into())).collect());
    spans.into_iter().map(|(first, last)| (port(first), port(last))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(blocks: &[(&str, &[&str])], expected: &[&str]) {
        let owned: Vec<(&str, Vec<String>)> = blocks
            .iter()
            .map(|(block, except)| (*block, except.iter().map(|text| (*text).to_owned()).collect()))
            .collect();
        let found = of_blocks(owned.iter().map(|(block, except)| (*block, except.as_slice())));
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected, "{blocks:?}");
    }

    #[test]
    fn exceptions_are_taken_out_of_their_own_block_only() {
        check(&[("10.0.0.0/24", &[])], &["10.0.0.0-10.0.0.255"]);
        check(&[("10.0.0.7/24", &["10.0.0.0/25"])], &["10.0.0.128-10.0.0.255"]);
        check(&[("10.0.0.0/24", &["10.0.0.4/30", "10.0.0.0/30"])], &["10.0.0.8-10.0.0.255"]);
        check(&[("10.0.0.0/24", &["10.0.0.8/32"])], &["10.0.0.0-10.0.0.7", "10.0.0.9-10.0.0.255"]);
        check(&[("10.0.0.0/24", &["10.0.0.8/32"]), ("10.0.0.8/32", &[])], &["10.0.0.0-10.0.0.255"]);
        check(&[("10.0.0.0/24", &["10.0.0.0/8"])], &[]);
        check(&[("10.0.0.0/24", &["10.0.0.255/32", "192.0.2.0/24"])], &["10.0.0.0-10.0.0.254"]);
    }

    #[test]
    fn blocks_may_be_as_large_as_the_family_and_as_small_as_an_address() {
        check(&[("0.0.0.0/0", &[])], &["0.0.0.0-255.255.255.255"]);
        check(
            &[("0.0.0.0/0", &["0.0.0.0/1"]), ("::/0", &["8000::/1"])],
            &["128.0.0.0-255.255.255.255", "::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
        );
        check(&[("::/0", &[])], &["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
        check(&[("192.0.2.1/32", &[]), ("fd00::1/128", &[])], &["192.0.2.1", "fd00::1"]);
        check(&[("10.0.0.0/25", &[]), ("10.0.0.128/25", &[])], &["10.0.0.0-10.0.0.255"]);
    }

    #[test]
    fn what_cannot_be_read_allows_nothing() {
        check(&[("10.0.0.0", &[]), ("10.0.0.0/33", &[]), ("", &[])], &[]);
        check(&[("10.0.0.0/8", &["10.1.0.0/99"])], &[]);
    }

    #[test]
    fn ports_become_as_few_ranges_as_they_can_be() {
        let check = |ports: &[(u16, u16)], expected: &[(u16, u16)]| {
            assert_eq!(united_ports(ports.iter().copied()), expected);
        };
        check(&[(443, 443), (80, 81), (82, 90)], &[(80, 90), (443, 443)]);
        check(&[(0, 65535), (7, 8)], &[(0, 65535)]);
        check(&[], &[]);
    }
}
