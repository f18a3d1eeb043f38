//! The command line of the `kubelet` process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use runtime::local::LocalRuntime;

/// Runs the pods of this node.
#[derive(Debug, clap::Parser)]
#[command(name = "kubelet")]
pub struct Command {
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    upstream: daemon::Upstream<Flags>,
    /// How to reach the API server
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Where images and containers are kept
    #[arg(long, default_value = "/var/lib/coracle/runtime")]
    runtime_root: PathBuf,
    /// Name of the network bridge of this node's pods
    #[arg(long, default_value = "coracle0")]
    bridge: String,
    /// Ranges to which pods keep their own address: the cluster's pods
    #[arg(long, value_delimiter = ',')]
    cluster_cidr: Vec<String>,
    /// Registries that are reached without TLS, as host:port
    #[arg(long, value_delimiter = ',')]
    insecure_registry: Vec<String>,
    #[command(flatten)]
    args: crate::Args,
}

/// The flags of upstream's kubelet that this process does not have.
struct Flags;

impl daemon::upstream::Table for Flags {
    const FLAGS: &'static str = include_str!("upstream_flags.txt");
}

impl Command {
    /// Runs the process.
    pub fn run(self) -> ExitCode {
        daemon::main("kubelet", self.common, |process| async move {
            self.upstream.warn();
            let client = client::connect(self.kubeconfig.as_deref(), "kubelet").await?;
            let network = runtime::local::NetworkConfig {
                table: format!("{}-pods", self.bridge),
                unmasqueraded: self.cluster_cidr,
                bridge: self.bridge.clone(),
                mtu: 0,
            };
            let runtime = LocalRuntime::open(runtime::local::Config {
                root: self.runtime_root,
                run: PathBuf::from("/run/coracle").join(&self.bridge),
                insecure_registries: self.insecure_registry,
                network,
                ..runtime::local::Config::new()?
            });
            let config = self.args.into_config(Arc::new(runtime.await?))?;
            anyhow::Ok(crate::run(config, client, process).await?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_upstream_is_known() {
        daemon::upstream::check::<Flags, Command>();
    }
}
