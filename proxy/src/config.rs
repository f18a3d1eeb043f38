//! Configuration of the proxy, with kube-proxy's flag names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::Context as _;

use crate::ruleset::Family;

/// What the proxy works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this node, for endpoints on it and for its zone.
    pub node_name: String,
    /// Ranges of pod addresses, at most one a family; traffic from elsewhere is masqueraded.
    pub cluster_cidrs: Vec<String>,
    /// Name of the nftables table.
    pub table: String,
    /// Where ports for health checks of Services open.
    pub health_check_address: IpAddr,
    pub(crate) families: Vec<Family>,
}

impl Config {
    /// A configuration for both families that this host has.
    pub fn new(node_name: String, cluster_cidrs: Vec<String>) -> Self {
        let families = Family::of_this_host();
        // With IPv6, its unspecified address stands for both families.
        let everywhere = match families.contains(&Family::V6) {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        Self { node_name, cluster_cidrs, table: "coracle-proxy".to_owned(), health_check_address: everywhere, families }
    }

    pub(crate) fn cluster_cidr(&self, family: Family) -> Option<&str> {
        self.cluster_cidrs.iter().map(String::as_str).find(|cidr| cidr.contains(':') == (family == Family::V6))
    }
}

/// Flags of the `proxy` binary.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Path of a kubeconfig file.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node; by default the host's name.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// Ranges of pod addresses, as comma-separated CIDRs (at most one for IPv4 and one for IPv6).
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<String>,
    /// Name of the nftables table.
    #[arg(long, default_value = "coracle-proxy")]
    pub table: String,
    /// Remove the proxy's rules and exit.
    #[arg(long)]
    pub cleanup: bool,
}

impl Args {
    /// Checks the flags.
    pub fn into_config(self) -> anyhow::Result<Config> {
        for cidr in &self.cluster_cidr {
            facts::cidr::parse(cidr)
                .with_context(|| format!("--cluster-cidr {cidr:?}: must be address/length, such as 10.244.0.0/16"))?;
        }
        let node_name = match self.hostname_override {
            Some(name) => name,
            None => std::fs::read_to_string("/proc/sys/kernel/hostname")
                .context("read the host's name (or give --hostname-override)")?
                .trim()
                .to_lowercase(),
        };
        anyhow::ensure!(
            self.table.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && self.table.starts_with(|first: char| first.is_ascii_alphabetic()),
            "--table {:?}: must be letters, digits, - and _, and begin with a letter",
            self.table
        );
        Ok(Config { table: self.table, ..Config::new(node_name, self.cluster_cidr) })
    }
}
