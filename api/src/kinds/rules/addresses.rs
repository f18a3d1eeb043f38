//! Rules for IP addresses and ranges of them.
//!
//! Go was once generous about leading zeros and about IPv4 addresses written as IPv6 ones. What it took for an address
//! is told apart here from what is none at all, since the API says so, too.

use std::net::{IpAddr, Ipv4Addr};

use facts::cidr::Cidr;

use super::tree::{Errors, Node};

const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Why this is not an address.
pub(crate) fn ip(text: &str) -> Vec<String> {
    let why = match (generous(text), text.parse::<IpAddr>()) {
        (None, _) => ADDRESS,
        (Some(_), Err(_)) => "must not have leading 0s",
        (Some(_), Ok(address)) if is_mapped(address) => "must not be an IPv4-mapped IPv6 address",
        _ => return Vec::new(),
    };
    vec![why.to_owned()]
}

/// As [`ip`], for fields that take one spelling of an address only.
pub(crate) fn canonical_ip(text: &str) -> Vec<String> {
    let mut wrong = ip(text);
    if let Some(address) = generous(text).filter(|address| wrong.is_empty() && address.to_string() != text) {
        wrong.push(format!("must be in canonical form (\"{address}\")"));
    }
    wrong
}

/// Why this is not a range.
pub(crate) fn cidr(text: &str) -> Vec<String> {
    let Some((address, length)) = parse_cidr(text) else { return vec![RANGE.to_owned()] };
    let (written, digits) = text.split_once('/').unwrap_or((text, ""));
    let why = if written.parse::<IpAddr>().is_err() || digits != length.to_string() {
        "must not have leading 0s in IP or prefix length"
    } else if is_mapped(address) {
        "must not have an IPv4-mapped IPv6 address"
    } else if Cidr::new(address, length).base() != address {
        "must not have bits set beyond the prefix length"
    } else {
        return Vec::new();
    };
    vec![why.to_owned()]
}

/// As [`cidr`], for fields that take one spelling of a range only.
pub(crate) fn canonical_cidr(text: &str) -> Vec<String> {
    let mut wrong = cidr(text);
    if let Some((address, length)) = parse_cidr(text).filter(|_| wrong.is_empty()) {
        let canonical = format!("{address}/{length}");
        if canonical != text {
            wrong.push(format!("must be in canonical form (\"{canonical}\")"));
        }
    }
    wrong
}

/// What a client is told of an address that is fine but spelled in an unusual way.
pub(crate) fn ip_warning(at: &crate::Path, text: &str) -> Option<String> {
    let address = generous(text)?;
    if text.parse::<IpAddr>().is_err() || is_mapped(address) {
        let canonical = unmapped(address);
        return Some(format!(
            "{at}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use \"{canonical}\""
        ));
    }
    (address.is_ipv6() && address.to_string() != text)
        .then(|| format!("{at}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")"))
}

/// As [`ip_warning`], for a range.
pub(crate) fn cidr_warnings(at: &crate::Path, text: &str) -> Vec<String> {
    let Some((address, length)) = parse_cidr(text) else { return Vec::new() };
    let (first, most) = (Cidr::new(address, length).base(), if address.is_ipv4() { 32 } else { 128 });
    let mut texts = Vec::new();
    if first != address {
        texts.push(format!(
            "{at}: CIDR value {text:?} is ambiguous in this context (should be \"{first}/{length}\" or \"{address}/{most}\"?)"
        ));
    }
    let plain = text
        .split_once('/')
        .is_some_and(|(address, digits)| address.parse::<IpAddr>().is_ok() && digits == length.to_string());
    if !plain || is_mapped(address) {
        texts.push(format!(
            "{at}: non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use \"{first}/{length}\""
        ));
    }
    let canonical = format!("{address}/{length}");
    if texts.is_empty() && address.is_ipv6() && canonical != text {
        texts.push(format!("{at}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})"));
    }
    texts
}

/// Splits `10.9.8.0/24`, with as many leading zeros as there are; `None` when it is no such thing.
pub(crate) fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, digits) = text.split_once('/')?;
    let address = generous(address)?;
    Some((address, facts::cidr::length(digits, address)?))
}

/// Whether an address lies in the range of this address and length.
pub(crate) fn contains(range: IpAddr, length: u8, address: IpAddr) -> bool {
    Cidr::new(range, length).contains(address)
}

/// Whether two ranges, or addresses, are of the two families.
pub(crate) fn is_dual<'t>(
    mut texts: impl Iterator<Item = &'t str>,
    parse: impl Fn(&str) -> Option<IpAddr>,
) -> Option<bool> {
    let families = texts.try_fold((false, false), |(v4, v6), text| {
        let is_v4 = parse(text)?.is_ipv4();
        Some((v4 || is_v4, v6 || !is_v4))
    })?;
    Some(families.0 && families.1)
}

/// An address as Go once read it, octets with leading zeros included.
pub(crate) fn generous(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let octets: Vec<u8> = text.split('.').map(octet).collect::<Option<_>>()?;
    Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)))
}

fn octet(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let significant = text.trim_start_matches('0');
    if digits && significant.is_empty() { Some(0) } else { significant.parse().ok().filter(|_| digits) }
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Addresses that traffic can be sent to: neither unspecified, nor this machine, nor this link.
pub(crate) fn ordinary_address(at: &Node<'_, '_>, errors: &mut Errors) {
    let Some(address) = generous(at.text()) else {
        errors.invalid_value(at, at.text(), "must be a valid IP address");
        return;
    };
    if address.is_unspecified() {
        errors.invalid(at, &format!("may not be unspecified ({})", at.text()));
    }
    if address.is_loopback() {
        errors.invalid(at, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[0] == 224 && v4.octets()[1] == 0 && v4.octets()[2] == 0),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if unicast {
        errors.invalid(at, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errors.invalid(at, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_in_the_usual_way() {
        for (text, want) in [
            ("10.0.0.1", None),
            ("::1", None),
            ("2001:DB8::1", None),
            ("010.0.0.1", Some("must not have leading 0s")),
            ("::ffff:10.0.0.1", Some("must not be an IPv4-mapped IPv6 address")),
            ("10.0.0.256", Some(ADDRESS)),
            ("10.0.0", Some(ADDRESS)),
            ("10.0.0.1/8", Some(ADDRESS)),
            ("fe80::1%eth0", Some(ADDRESS)),
            ("", Some(ADDRESS)),
        ] {
            assert_eq!(ip(text).first().map(String::as_str), want, "{text}");
        }
        assert_eq!(canonical_ip("2001:DB8::1"), ["must be in canonical form (\"2001:db8::1\")"]);
        assert_eq!(canonical_ip("01.2.3.4"), ["must not have leading 0s"]);
    }

    #[test]
    fn ranges_begin_with_their_first_address() {
        for (text, want) in [
            ("10.0.0.0/8", None),
            ("0.0.0.0/0", None),
            ("2001:db8::/64", None),
            ("10.0.0.1/8", Some("must not have bits set beyond the prefix length")),
            ("10.0.0.0/08", Some("must not have leading 0s in IP or prefix length")),
            ("010.0.0.0/8", Some("must not have leading 0s in IP or prefix length")),
            ("::ffff:10.0.0.0/104", Some("must not have an IPv4-mapped IPv6 address")),
            ("10.0.0.0/33", Some(RANGE)),
            ("10.0.0.0/+8", Some(RANGE)),
            ("10.0.0.0", Some(RANGE)),
        ] {
            assert_eq!(cidr(text).first().map(String::as_str), want, "{text}");
        }
        assert_eq!(canonical_cidr("2001:DB8::/64"), ["must be in canonical form (\"2001:db8::/64\")"]);
    }

    #[test]
    fn unusual_spellings_are_told() {
        let at = crate::Path::new("spec").child("ip");
        let warning = |text| ip_warning(&at, text).unwrap_or_default();
        assert_eq!(warning("10.0.0.1"), "");
        assert_eq!(
            warning("010.0.0.1"),
            "spec.ip: non-standard IP address \"010.0.0.1\" will be considered invalid in a future Kubernetes release: use \"10.0.0.1\""
        );
        assert_eq!(
            warning("2001:DB8::1"),
            "spec.ip: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")"
        );
        assert_eq!(
            cidr_warnings(&at, "10.0.0.1/8"),
            [
                "spec.ip: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
            ]
        );
        assert!(cidr_warnings(&at, "10.0.0.0/8").is_empty());
    }
}
