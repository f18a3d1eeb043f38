//! Masquerading and host ports, as an nftables table for each family; they are replaced in one transaction.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use host::nft::Family;

use super::{HostPorts, NetworkConfig, Subnet};
use crate::Error;

/// What has a loopback address on the wire is forged: `route_localnet`, which host ports on 127.0.0.1 need, would let it
/// reach services that listen on the node's loopback only (CVE-2020-8558). Looked at before any translation, so what is
/// translated to such an address later passes.
const GUARD: &str = " chain guard {\n  type filter hook prerouting priority -300;\n  \
                     iifname != \"lo\" ip daddr 127.0.0.0/8 drop\n  iifname != \"lo\" ip saddr 127.0.0.0/8 drop\n }\n";

/// Where packets to everybody near go, who must see the pod's own address.
const MULTICAST: [(Family, &str); 2] = [(Family::V4, "224.0.0.0/4"), (Family::V6, "ff00::/8")];

/// A pod is never told of a shorter way to another (RFC 4861, section 8): its answers would pass by the node, which knows
/// what they were translated from. The setting that IPv4 has for this is missing in IPv6.
const NO_REDIRECTS: &str = "  icmpv6 type nd-redirect drop\n";

/// The script that makes the family's table what it should be.
pub(super) fn table<'a>(
    config: &NetworkConfig,
    subnet: Subnet,
    pods: impl Iterator<Item = &'a HostPorts> + Clone,
) -> Result<String, Error> {
    let (table, bridge) = (&config.table, &config.bridge);
    let family = family(subnet);
    let (ip, _) = family.words();
    let mut keep = vec![subnet.to_string()];
    keep.extend(MULTICAST.iter().filter(|(of, _)| *of == family).map(|(_, range)| (*range).to_owned()));
    keep.extend(config.unmasqueraded.iter().filter(|range| range.contains(':') != subnet.is_ipv4()).cloned());
    let mut text = removal_of(table, family) + &format!("table {ip} {table} {{\n");
    match family {
        Family::V4 => text.push_str(GUARD),
        Family::V6 => {
            let _ = write!(
                text,
                " chain quiet {{\n  type filter hook output priority 0;\n  oifname != \"{bridge}\" return\n{NO_REDIRECTS} }}\n"
            );
        }
    }
    text.push_str(" chain postrouting {\n  type nat hook postrouting priority srcnat;\n");
    let addresses = || pods.clone().flat_map(|pod| pod.addresses.iter()).filter(|address| family.has(**address));
    for address in addresses() {
        let _ = writeln!(text, "  ct status dnat {ip} saddr {address} {ip} daddr {address} masquerade");
    }
    if family == Family::V4 {
        let _ = writeln!(text, "  oifname \"{bridge}\" ip saddr 127.0.0.0/8 masquerade");
    }
    for destination in keep {
        let _ = writeln!(text, "  {ip} saddr {subnet} {ip} daddr {destination} return");
    }
    let _ = writeln!(text, "  {ip} saddr {subnet} masquerade\n }}");
    let mut rules = String::new();
    for pod in pods.clone() {
        for address in pod.addresses.iter().filter(|address| family.has(**address)) {
            for mapping in &pod.mappings {
                rules.push_str(&rule(*address, mapping)?);
            }
        }
    }
    let local = "fib daddr type local jump ports";
    let _ = write!(
        text,
        " chain ports {{\n{rules} }}\n \
         chain prerouting {{\n  type nat hook prerouting priority dstnat;\n  {local}\n }}\n \
         chain output {{\n  type nat hook output priority -100;\n  {local}\n }}\n}}\n"
    );
    Ok(text)
}

fn family(subnet: Subnet) -> Family {
    if subnet.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn rule(pod: IpAddr, mapping: &crate::PortMapping) -> Result<String, Error> {
    let protocol = match mapping.protocol.as_str() {
        "" | "TCP" => "tcp",
        "UDP" => "udp",
        "SCTP" => "sctp",
        other => return Err(Error::Invalid { field: "hostPort", reason: format!("protocol {other:?}") }),
    };
    let invalid = || Error::Invalid { field: "hostIP", reason: format!("{:?} is no address", mapping.host_ip) };
    let at = match mapping.host_ip.as_str() {
        "" | "0.0.0.0" | "::" => String::new(),
        text => match text.parse::<IpAddr>().map_err(|_| invalid())? {
            address @ IpAddr::V4(_) if pod.is_ipv4() => format!("ip daddr {address} "),
            address @ IpAddr::V6(_) if pod.is_ipv6() => format!("ip6 daddr {address} "),
            // A rule of the other family.
            _ => return Ok(String::new()),
        },
    };
    let (from, to) = (mapping.host_port, SocketAddr::new(pod, mapping.container_port));
    Ok(format!("  {at}{protocol} dport {from} dnat to {to}\n"))
}

/// The script that removes the tables of both families, as far as this machine has them.
pub(super) fn removal(table: &str) -> String {
    Family::of_this_host().into_iter().map(|family| removal_of(table, family)).collect()
}

fn removal_of(table: &str, family: Family) -> String {
    let (ip, _) = family.words();
    format!("add table {ip} {table}\ndelete table {ip} {table}\n")
}
