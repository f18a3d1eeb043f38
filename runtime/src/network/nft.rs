//! Masquerading and host ports, as one nftables table that is replaced in one transaction.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{HostPorts, NetworkConfig, Subnet};
use crate::Error;

/// What has a loopback address on the wire is forged: `route_localnet`, which host ports on 127.0.0.1 need, would let it
/// reach services that listen on the node's loopback only (CVE-2020-8558). Looked at before any translation, so what is
/// translated to such an address later passes.
const GUARD: &str = " chain guard {\n  type filter hook prerouting priority -300;\n  \
                     iifname != \"lo\" ip daddr 127.0.0.0/8 drop\n  iifname != \"lo\" ip saddr 127.0.0.0/8 drop\n }\n";

/// The script that makes the table what it should be.
pub(super) fn table<'a>(
    config: &NetworkConfig,
    subnet: Subnet,
    pods: impl Iterator<Item = &'a HostPorts> + Clone,
) -> Result<String, Error> {
    let (table, bridge) = (&config.table, &config.bridge);
    let mut keep = vec![subnet.to_string(), "224.0.0.0/4".to_owned()];
    keep.extend(config.unmasqueraded.iter().cloned());
    let mut text = format!("add table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n");
    text.push_str(GUARD);
    text.push_str(" chain postrouting {\n  type nat hook postrouting priority srcnat;\n");
    for pod in pods.clone() {
        let address = pod.address;
        let _ = writeln!(text, "  ct status dnat ip saddr {address} ip daddr {address} masquerade");
    }
    let _ = writeln!(text, "  oifname \"{bridge}\" ip saddr 127.0.0.0/8 masquerade");
    for destination in keep {
        let _ = writeln!(text, "  ip saddr {subnet} ip daddr {destination} return");
    }
    let _ = writeln!(text, "  ip saddr {subnet} masquerade\n }}");
    let mut rules = String::new();
    for pod in pods {
        for mapping in &pod.mappings {
            rules.push_str(&rule(pod, mapping)?);
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

fn rule(pod: &HostPorts, mapping: &crate::PortMapping) -> Result<String, Error> {
    let protocol = match mapping.protocol.as_str() {
        "" | "TCP" => "tcp",
        "UDP" => "udp",
        "SCTP" => "sctp",
        other => return Err(Error::Invalid { field: "hostPort", reason: format!("protocol {other:?}") }),
    };
    let invalid = || Error::Invalid { field: "hostIP", reason: format!("{:?} is no address", mapping.host_ip) };
    let at = match mapping.host_ip.as_str() {
        "" | "0.0.0.0" | "::" => String::new(),
        text => match text.parse().map_err(|_| invalid())? {
            IpAddr::V4(address) => format!("ip daddr {address} "),
            // The pod has no address of this family.
            IpAddr::V6(_) => return Ok(String::new()),
        },
    };
    let (from, to) = (mapping.host_port, mapping.container_port);
    Ok(format!("  {at}{protocol} dport {from} dnat to {}:{to}\n", pod.address))
}

pub(super) fn removal(table: &str) -> String {
    format!("add table ip {table}\ndelete table ip {table}\n")
}
