//! Addresses that lead to this machine, or to whoever is near it.

use std::net::IpAddr;

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
}
