//! Configuration of the routes between nodes.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use facts::cidr::Cidr;
use host::nft::Family;

/// The UDP port of tunnels, as flannel has it on Linux.
pub const TUNNEL_PORT: u16 = 8472;

/// What the routes are made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this node.
    pub node_name: String,
    /// The ranges of pod addresses of the cluster: no node has pods elsewhere.
    pub cluster_cidrs: Vec<Cidr>,
    /// Length of the prefix of a node's range, of IPv4 and of IPv6: no node has a larger one.
    pub node_bits: [u8; 2],
    /// Ranges beside those of pods in which no node can be, such as the Services'.
    pub not_nodes: Vec<Cidr>,
    /// Name of the tunnel's interface, at most 15 characters; made when a node is not on a link of this one. That of IPv6 ends
    /// with a 6.
    pub tunnel: String,
    /// Number of the tunnel's network (VNI), below 2^24; the same on all nodes.
    pub tunnel_id: u32,
    /// UDP port of the tunnel; the same on all nodes.
    pub tunnel_port: u16,
}

impl Config {
    /// The families that pods have, the first one first.
    pub(crate) fn families(&self) -> Vec<Family> {
        let of = |range: &Cidr| if range.is_ipv4() { Family::V4 } else { Family::V6 };
        let mut families: Vec<Family> = self.cluster_cidrs.iter().map(of).take(1).collect();
        families.extend(self.cluster_cidrs.iter().map(of).find(|family| !families.contains(family)));
        families
    }

    /// The least length of the prefix of a node's range.
    pub(crate) fn node_bits(&self, family: Family) -> u8 {
        self.node_bits[usize::from(family == Family::V6)]
    }

    /// The name of the tunnel's interface.
    pub(crate) fn tunnel(&self, family: Family) -> String {
        match family {
            Family::V4 => self.tunnel.clone(),
            Family::V6 => self.tunnel.chars().take(14).chain(['6']).collect(),
        }
    }

    /// The names of both interfaces, whichever of them there are.
    pub(crate) fn tunnels(&self) -> [String; 2] {
        [Family::V4, Family::V6].map(|family| self.tunnel(family))
    }
}

/// Flags of the `network` binary.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Path of a kubeconfig file.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node; by default the host's name.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// Ranges of pod addresses of the cluster, as comma-separated CIDRs.
    #[arg(long, value_delimiter = ',', required = true)]
    pub cluster_cidr: Vec<Cidr>,
    /// The prefix length of a node's range of IPv4.
    #[arg(long, default_value_t = 24)]
    pub node_cidr_mask_size: u8,
    /// The prefix length of a node's range of IPv6.
    #[arg(long, default_value_t = 64)]
    pub node_cidr_mask_size_ipv6: u8,
    /// Ranges of Service addresses, in which no node can be.
    #[arg(long, value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<Cidr>,
    /// Name of the interface of tunnels to nodes on other links.
    #[arg(long, default_value = "coracle0-vxlan")]
    pub tunnel: String,
    /// Number of the tunnel's network (VNI).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    pub tunnel_id: u32,
    /// UDP port of the tunnel.
    #[arg(long, default_value_t = TUNNEL_PORT)]
    pub tunnel_port: u16,
    /// Remove the routes and the tunnel, and exit.
    #[arg(long)]
    pub cleanup: bool,
}

impl Args {
    /// Checks the flags.
    pub fn into_config(self) -> anyhow::Result<Config> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
        let is_name = (1..=15).contains(&self.tunnel.len())
            && self.tunnel.chars().all(plain)
            && self.tunnel.starts_with(|first: char| first.is_ascii_alphabetic());
        ensure!(
            is_name,
            "--tunnel {:?}: must be 1 to 15 letters, digits, - _ and ., and begin with a letter",
            self.tunnel
        );
        ensure!(
            self.tunnel.len() < 15 || !self.tunnel.ends_with('6'),
            "--tunnel {:?}: that of IPv6 has this name",
            self.tunnel
        );
        let node_name = match self.hostname_override {
            Some(name) => name,
            None => host::name().context("read the host's name (or give --hostname-override)")?.to_lowercase(),
        };
        Ok(Config {
            node_name,
            cluster_cidrs: self.cluster_cidr,
            node_bits: [self.node_cidr_mask_size, self.node_cidr_mask_size_ipv6],
            not_nodes: self.service_cluster_ip_range,
            tunnel: self.tunnel,
            tunnel_id: self.tunnel_id,
            tunnel_port: self.tunnel_port,
        })
    }
}
