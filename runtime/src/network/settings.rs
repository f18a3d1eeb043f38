//! What the kernel must be told so that it forwards the packets of pods (upstream: documentation of kubeadm, "prerequisites").

use std::path::Path;

use super::{Subnet, write_setting};
use crate::Error;

/// Sets up forwarding between the bridge and the world, in the families that pods have.
pub(super) fn apply(bridge: &str, subnets: &[Subnet]) -> Result<(), Error> {
    if subnets.iter().any(|subnet| subnet.is_ipv4()) {
        write_setting("net/ipv4/ip_forward", "1")?;
        for (setting, value) in [("send_redirects", "0"), ("route_localnet", "1"), ("rp_filter", "0")] {
            write_setting(&format!("net/ipv4/conf/{bridge}/{setting}"), value)?;
        }
    }
    if subnets.iter().any(|subnet| !subnet.is_ipv4()) {
        // No pod is this node's router.
        for setting in ["accept_ra", "accept_redirects"] {
            write_setting(&format!("net/ipv6/conf/{bridge}/{setting}"), "0")?;
        }
        forward_ipv6()?;
    }
    Ok(())
}

/// A machine that forwards IPv6 takes itself for a router, and no longer listens to those of its links: it would lose its
/// default route. Where it did listen, it goes on to (`accept_ra` 2).
fn forward_ipv6() -> Result<(), Error> {
    const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
    if setting(FORWARDING).as_deref() == Some("1") {
        return Ok(());
    }
    let interfaces = std::fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten();
    for name in interfaces.filter_map(|entry| entry.file_name().into_string().ok()) {
        let accept = format!("net/ipv6/conf/{name}/accept_ra");
        if name != "all" && setting(&accept).as_deref() == Some("1") {
            write_setting(&accept, "2")?;
        }
    }
    write_setting(FORWARDING, "1")
}

fn setting(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(text.trim().to_owned())
}
