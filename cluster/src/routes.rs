//! Which routes of this machine lie in ranges that the cluster takes: what is there could not be reached any more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use facts::cidr::Cidr;

/// A range of addresses.
pub(crate) type Range = (IpAddr, u8);

/// A route of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) range: Range,
    pub(crate) interface: String,
}

/// Whether two ranges have an address in common.
pub(crate) fn overlap(one: Range, other: Range) -> bool {
    let length = one.1.min(other.1);
    Cidr::new(one.0, length) == Cidr::new(other.0, length)
}

/// The routes that the kernel has now, but for default routes and those of loopback.
pub(crate) fn of_this_machine() -> Vec<Route> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = read("/proc/net/route");
    let v6 = read("/proc/net/ipv6_route");
    let all = v4.lines().filter_map(v4_route).chain(v6.lines().filter_map(v6_route));
    all.filter(|route| route.range.1 > 0 && route.interface != "lo").collect()
}

/// A line of `/proc/net/route`: interface, address and, as the eighth, mask, as numbers in memory's order.
fn v4_route(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let (address, mask) = (number(1)?.to_ne_bytes(), number(7)?);
    let length = u8::try_from(mask.count_ones()).ok()?;
    Some(Route { range: (Ipv4Addr::from(address).into(), length), interface: fields.first()?.to_string() })
}

/// A line of `/proc/net/ipv6_route`: address, length and, as the last, interface.
fn v6_route(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = Ipv6Addr::from_bits(u128::from_str_radix(fields.first()?, 16).ok()?);
    let length = u8::from_str_radix(fields.get(1)?, 16).ok()?;
    // Addresses of the machine itself, and what every interface has, are no places to go to.
    let local = length == 128 || address.is_unicast_link_local() || address.is_multicast();
    (!local).then(|| Route { range: (address.into(), length), interface: fields[fields.len() - 1].to_owned() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn range(text: &str) -> Range {
        let (address, length) = text.split_once('/').unwrap();
        (address.parse().unwrap(), length.parse().unwrap())
    }

    #[test]
    fn ranges_overlap_when_one_is_in_the_other() {
        let check = |one: &str, other: &str, expected: bool| {
            assert_eq!(overlap(range(one), range(other)), expected, "{one} {other}");
            assert_eq!(overlap(range(other), range(one)), expected, "{other} {one}");
        };
        check("10.244.0.0/16", "10.244.3.0/24", true);
        check("10.0.0.0/8", "10.244.0.0/16", true);
        check("10.244.0.0/16", "10.245.0.0/16", false);
        check("0.0.0.0/0", "10.245.0.0/16", true);
        check("10.245.0.1/32", "10.245.0.1/32", true);
        check("fd00::/64", "fd00::1:0/112", true);
        check("fd00::/64", "fd00:0:0:1::/64", false);
        check("::/0", "10.0.0.0/8", false);
    }

    #[test]
    fn lines_of_the_kernels_tables_are_read() {
        let line = "eth0\t0000F40A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0";
        let found = v4_route(line).unwrap();
        assert_eq!(found.interface, "eth0");
        if cfg!(target_endian = "little") {
            assert_eq!(found.range, range("10.244.0.0/16"));
        }
        assert_eq!(v4_route("Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU"), None);
        let line = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth1";
        assert_eq!(v6_route(line), Some(Route { range: range("fd00::/64"), interface: "eth1".to_owned() }));
        let line = "fe800000000000000000000000000000 40 0 0 0 0 0 0 0 eth1";
        assert_eq!(v6_route(line), None);
    }
}
