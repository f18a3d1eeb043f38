//! Configuration of the announcements.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use facts::cidr::Cidr;

/// What is announced, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this node.
    pub node_name: String,
    /// This node's addresses: their links are answered on.
    pub node_ips: Vec<IpAddr>,
    /// The addresses that load balancers can have. Nothing else is ever announced.
    pub pool: Vec<Cidr>,
}

/// Flags of the `announce` binary.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Path of a kubeconfig file.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node; by default the host's name.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// Addresses of this node, on whose links load balancers are announced.
    #[arg(long, value_delimiter = ',', required = true)]
    pub node_ip: Vec<IpAddr>,
    /// Ranges of the addresses that load balancers can have, as comma-separated CIDRs.
    #[arg(long, value_delimiter = ',', required = true)]
    pub load_balancer_pool: Vec<Cidr>,
}

impl Args {
    /// Checks the flags.
    pub fn into_config(self) -> anyhow::Result<Config> {
        let node_name = match self.hostname_override {
            Some(name) => name,
            None => host::name().context("read the host's name (or give --hostname-override)")?.to_lowercase(),
        };
        Ok(Config { node_name, node_ips: self.node_ip, pool: self.load_balancer_pool })
    }
}
