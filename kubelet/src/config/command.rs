//! The command line of the `kubelet` process (upstream: cmd/kubelet/app).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use runtime::local::LocalRuntime;

use crate::hollow;

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
    /// How to ask for credentials when there is no --kubeconfig yet: it is made then
    #[arg(long)]
    bootstrap_kubeconfig: Option<PathBuf>,
    /// What runs containers: local, or fake, which only says that they run: hollow nodes, to see a cluster grow
    #[arg(long, value_enum, default_value_t)]
    runtime: Kind,
    #[command(flatten)]
    hollow: hollow::Flags,
    /// Where images and containers are kept
    #[arg(long, default_value = "/var/lib/coracle/runtime")]
    runtime_root: PathBuf,
    /// Name of the network bridge of this node's pods
    #[arg(long, default_value = "coracle0")]
    bridge: String,
    /// Directory with a network configuration by which CNI plugins connect pods, such as /etc/cni/net.d, instead of the bridge
    #[arg(long)]
    cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are
    #[arg(long, value_delimiter = ',', default_value = runtime::local::CniConfig::USUAL_BIN_DIRS)]
    cni_bin_dir: Vec<PathBuf>,
    /// Ranges to which pods keep their own address: the cluster's pods
    #[arg(long, value_delimiter = ',')]
    cluster_cidr: Vec<String>,
    /// Registries that are reached without TLS, as host:port, or host for all its ports. Only these may be on the node
    /// itself
    #[arg(long, value_delimiter = ',')]
    insecure_registry: Vec<String>,
    /// What is done about system calls that containers have little reason for: off, audit or enforce
    #[arg(long, default_value_t)]
    syscall_policy: runtime::SyscallPolicy,
    #[command(flatten)]
    args: crate::Args,
}

/// What runs the containers of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// This machine.
    #[default]
    Local,
    /// Nothing does: see [`hollow`].
    Fake,
}

/// The flags of upstream's kubelet that this process does not have.
struct Flags;

impl daemon::upstream::Table for Flags {
    const FLAGS: &'static str = include_str!("upstream_flags.txt");
    const NOT_COMMON: &'static [&'static str] = &["tls-cipher-suites", "tls-min-version"];
}

impl Command {
    /// Runs the process.
    pub fn run(mut self) -> ExitCode {
        // A file that cannot be read is reported when the process runs.
        if let Ok(settings) = self.args.settings() {
            settings.set_logs(&mut self.common.logs);
            self.common.endpoint.address = settings.healthz_bind_address.unwrap_or(self.common.endpoint.address);
            if self.common.endpoint.port == 0 {
                self.common.endpoint.port = settings.healthz_port.unwrap_or(0);
            }
        }
        daemon::main("kubelet", self.common, |process| async move {
            self.upstream.warn();
            if self.runtime == Kind::Fake {
                anyhow::ensure!(
                    self.bootstrap_kubeconfig.is_none(),
                    "--bootstrap-kubeconfig: hollow nodes need --kubeconfig"
                );
                return hollow::run(&self.args, &self.hollow, self.kubeconfig, process).await;
            }
            self.hollow.check_absent()?;
            let credentials = self.args.credentials(self.kubeconfig, self.bootstrap_kubeconfig)?;
            let Some((client, kept)) = credentials.connect(&process.shutdown).await? else { return Ok(()) };
            let network = runtime::local::NetworkConfig {
                table: format!("{}-pods", self.bridge),
                unmasqueraded: self.cluster_cidr,
                bridge: self.bridge.clone(),
                mtu: 0,
                cni: self
                    .cni_conf_dir
                    .map(|conf_dir| runtime::local::CniConfig { conf_dir, bin_dirs: self.cni_bin_dir }),
            };
            let runtime = LocalRuntime::open(runtime::local::Config {
                root: self.runtime_root,
                run: PathBuf::from("/run/coracle").join(&self.bridge),
                insecure_registries: self.insecure_registry,
                syscall_policy: self.syscall_policy,
                network,
                ..runtime::local::Config::new()?
            });
            let mut config = self.args.into_config(Arc::new(runtime.await?))?;
            config.certificates.client = kept;
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
