//! Configuration of the resolver.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use hickory_proto::rr::Name;

/// What the resolver works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The zone, `cluster.local.`
    pub domain: Name,
    /// Where to listen, over UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Servers for all other names; empty takes those of `resolv_conf`.
    pub upstreams: Vec<IpAddr>,
    /// The host's resolver configuration.
    pub resolv_conf: PathBuf,
}

impl Config {
    /// The zone of `domain`, at these addresses, asking the host's servers for other names.
    pub fn new(domain: &str, listen: Vec<SocketAddr>) -> anyhow::Result<Self> {
        let mut name = Name::from_ascii(domain).with_context(|| format!("cluster domain {domain:?}"))?;
        name.set_fqdn(true);
        Ok(Self { domain: name, listen, upstreams: Vec::new(), resolv_conf: PathBuf::from("/etc/resolv.conf") })
    }

    /// The upstream servers, without ourselves.
    pub(crate) fn upstream_servers(&self) -> Vec<IpAddr> {
        let own: Vec<IpAddr> = self.listen.iter().map(SocketAddr::ip).collect();
        let from_file = || {
            let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
            let servers = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("nameserver"))
                .filter_map(|server| server.trim().parse().ok());
            servers.collect::<Vec<IpAddr>>()
        };
        let servers = if self.upstreams.is_empty() { from_file() } else { self.upstreams.clone() };
        servers.into_iter().filter(|server| !own.contains(server)).collect()
    }
}

/// Flags of the `dns` binary.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Path of a kubeconfig file.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Domain of the cluster.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Addresses to listen on, over UDP and TCP.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:10053")]
    pub listen: Vec<SocketAddr>,
    /// Servers for names outside the cluster; by default those of --resolv-conf.
    #[arg(long, value_delimiter = ',')]
    pub upstream: Vec<IpAddr>,
    /// The host's resolver configuration.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
}

impl Args {
    /// Checks the flags.
    pub fn into_config(self) -> anyhow::Result<Config> {
        let config = Config::new(&self.cluster_domain, self.listen).context("--cluster-domain")?;
        Ok(Config { upstreams: self.upstream, resolv_conf: self.resolv_conf, ..config })
    }
}
