//! The addresses of a cluster of separate processes: what no other cluster on this machine has.

use std::process::Command;

use crate::command::Run as _;

pub(crate) const NODE_IP: &str = "10.195.0.1";
/// Of the second API server, where there is one.
pub(crate) const SECOND_IP: &str = "10.195.0.2";
pub(crate) const CLUSTER_CIDR: &str = "10.194.0.0/16";
pub(crate) const SERVICE_RANGE: &str = "10.196.0.0/16";
pub(crate) const DNS_SERVICE: &str = "10.196.0.10";
pub(crate) const BRIDGE: &str = "coracle-e2e1";
pub(crate) const PROXY_TABLE: &str = "coracle-e2e1-services";
pub(crate) const POLICY_TABLE: &str = "coracle-e2e1-policy";
/// The interface that carries the addresses.
const LINK: &str = "coracle-e2e1-n";

/// The node's address, and another one, on an interface of their own; dropping it removes all that a cluster made in the kernel.
pub(crate) struct Network;

impl Network {
    /// Makes the interface; what an earlier run left behind goes first.
    pub(crate) fn make() -> Self {
        clean();
        // A bridge without ports, which every kernel that can run pods has.
        ip(&["link", "add", LINK, "type", "bridge"]).ok();
        let network = Self;
        for address in [NODE_IP, SECOND_IP] {
            ip(&["address", "add", &format!("{address}/32"), "dev", LINK]).ok();
        }
        ip(&["link", "set", LINK, "up"]).ok();
        // This machine's own connections to a Service need a way out; the proxy's rules then send them on.
        ip(&["route", "add", SERVICE_RANGE, "dev", LINK, "src", NODE_IP]).ok();
        network
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        clean();
    }
}

/// Each command fails where there is nothing to remove.
fn clean() {
    for link in [LINK, BRIDGE] {
        ip(&["link", "delete", link]);
    }
    for family in ["ip", "ip6"] {
        for table in [PROXY_TABLE.to_owned(), POLICY_TABLE.to_owned(), format!("{BRIDGE}-pods")] {
            Command::new("nft").args(["delete", "table", family, &table]).run();
        }
    }
}

fn ip(arguments: &[&str]) -> crate::Output {
    Command::new("ip").args(arguments).run()
}
