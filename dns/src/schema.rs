//! What a DNS name in the cluster's domain asks for: the schema of "DNS-Based Service Discovery" 1.1.0
//! (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A name below the cluster domain, taken apart. All text is lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The domain itself, `svc.`, `pod.`: names that exist and have no addresses.
    Branch,
    /// `dns-version`.
    Version,
    /// `<namespace>.svc` or `<namespace>.pod`.
    Namespace { namespace: String },
    /// `<service>.<namespace>.svc`.
    Service { namespace: String, service: String },
    /// `_<port>._<protocol>.<service>.<namespace>.svc`.
    Port { namespace: String, service: String, port: String, protocol: String },
    /// `<hostname or address>.<service>.<namespace>.svc`.
    Endpoint { namespace: String, service: String, host: String },
    /// `<address>.<namespace>.pod`.
    Pod { namespace: String, address: IpAddr },
    /// Nothing that the schema knows.
    Nothing,
}

/// Takes apart the labels left of the cluster domain, the leftmost first.
pub(crate) fn parse(labels: &[String]) -> Asked {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        [] | ["svc" | "pod"] => Asked::Branch,
        ["dns-version"] => Asked::Version,
        [namespace, "svc" | "pod"] => Asked::Namespace { namespace: (*namespace).to_owned() },
        [service, namespace, "svc"] => {
            Asked::Service { namespace: (*namespace).to_owned(), service: (*service).to_owned() }
        }
        [address, namespace, "pod"] => match dashed_address(address) {
            Some(address) => Asked::Pod { namespace: (*namespace).to_owned(), address },
            None => Asked::Nothing,
        },
        [host, service, namespace, "svc"] => Asked::Endpoint {
            namespace: (*namespace).to_owned(),
            service: (*service).to_owned(),
            host: (*host).to_owned(),
        },
        [port, protocol, service, namespace, "svc"] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
            (Some(port), Some(protocol)) => Asked::Port {
                namespace: (*namespace).to_owned(),
                service: (*service).to_owned(),
                port: port.to_owned(),
                protocol: protocol.to_owned(),
            },
            _ => Asked::Nothing,
        },
        _ => Asked::Nothing,
    }
}

/// An address as one label: dots and colons are dashes.
pub(crate) fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The address that a label stands for. A label of three dashes is read as IPv4 first.
fn dashed_address(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for; labels from the left, the domain included.
pub(crate) fn reverse_address(labels: &[String]) -> Option<IpAddr> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        [d, c, b, a, "in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse().ok().map(IpAddr::V4),
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let digits: String = nibbles.iter().rev().copied().collect();
            let all_single = nibbles.iter().all(|nibble| nibble.len() == 1);
            u128::from_str_radix(&digits, 16).ok().filter(|_| all_single).map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str) -> Vec<String> {
        name.split('.').filter(|label| !label.is_empty()).map(str::to_owned).collect()
    }

    fn check(name: &str, want: Asked) {
        assert_eq!(parse(&labels(name)), want, "{name}");
    }

    #[test]
    fn names_follow_the_schema() {
        let (namespace, service) = ("d".to_owned(), "web".to_owned());
        check("", Asked::Branch);
        check("d.svc", Asked::Namespace { namespace: namespace.clone() });
        check("web.d.svc", Asked::Service { namespace: namespace.clone(), service: service.clone() });
        check(
            "web-0.web.d.svc",
            Asked::Endpoint { namespace: namespace.clone(), service: service.clone(), host: "web-0".into() },
        );
        check(
            "_http._tcp.web.d.svc",
            Asked::Port { namespace: namespace.clone(), service, port: "http".into(), protocol: "tcp".into() },
        );
        check("10-0-0-1.d.pod", Asked::Pod { namespace, address: [10, 0, 0, 1].into() });
        check("http._tcp.web.d.svc", Asked::Nothing);
        check("a.b.c.d.e.f", Asked::Nothing);
    }

    #[test]
    fn reverse_names_are_read_in_both_families() {
        assert_eq!(reverse_address(&labels("1.0.96.10.in-addr.arpa")), Some([10, 96, 0, 1].into()));
        let name = format!("1.{}ip6.arpa", "0.".repeat(31));
        assert_eq!(reverse_address(&labels(&name)), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(reverse_address(&labels("x.0.96.10.in-addr.arpa")), None);
    }
}
