//! Addresses that lead to this machine, or to whoever is near it.

use std::net::{IpAddr, UdpSocket};

/// Whether an address is of another machine, as far as an address tells: a global one, or one of a private network; not
/// loopback, unspecified, link-local, multicast or broadcast (upstream's `IsProxyableIP`). Whom a stranger's word leads
/// somewhere is led there only.
pub fn is_elsewhere(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            !(address.is_unspecified()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast())
        }
        IpAddr::V6(address) => {
            !(address.is_unspecified()
                || address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_multicast())
        }
    }
}

/// The name of this machine, as the kernel tells it.
pub fn name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The address that this machine has for others, as far as its routes tell: the source of what it would send by its default
/// route, of IPv4 before IPv6 (upstream's `ChooseHostInterface`). Nothing is sent.
pub fn of_default_route() -> Option<IpAddr> {
    of_default_route_in(true).or_else(|| of_default_route_in(false))
}

/// The same of one family.
pub fn of_default_route_in(ipv4: bool) -> Option<IpAddr> {
    // Addresses of documentation (RFC 5737, RFC 3849), which no route but the default one leads to.
    let (own, other) = if ipv4 { ("0.0.0.0:0", "192.0.2.1:9") } else { ("[::]:0", "[2001:db8::1]:9") };
    let socket = UdpSocket::bind(own).ok()?;
    socket.connect(other).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| is_elsewhere(*address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_to_the_machine_itself_or_its_link() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            assert!(!is_elsewhere(address.parse().unwrap()), "{address}");
        }
        for address in ["10.0.0.1", "192.168.0.1", "172.16.0.1", "8.8.8.8", "2600::1", "fd00::1"] {
            assert!(is_elsewhere(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn the_default_route_is_not_that_of_loopback() {
        // Some machines have none.
        assert!(of_default_route().is_none_or(is_elsewhere));
    }
}
