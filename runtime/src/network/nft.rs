//! Masquerading and host ports, as one nftables table that is replaced in one transaction.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{HostPorts, NetworkConfig, Subnet};
use crate::Error;

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

/// Runs a script with the `nft` program.
pub(super) async fn run(script: &str) -> Result<(), Error> {
    let failed = |reason: String| Error::Network { reason: format!("nft: {reason}") };
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|err| failed(format!("{err} (is the package nftables installed?)")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await.map_err(|err| failed(err.to_string()))?;
    }
    let output = child.wait_with_output().await.map_err(|err| failed(err.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
