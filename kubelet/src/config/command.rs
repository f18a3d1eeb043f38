//! The command line of the `kubelet` process (upstream: cmd/kubelet/app).

use std::path::{Path, PathBuf};
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
    /// How to ask for credentials when there is no --kubeconfig yet, which this kubelet cannot
    #[arg(long)]
    bootstrap_kubeconfig: Option<PathBuf>,
    /// Where images and containers are kept
    #[arg(long, default_value = "/var/lib/coracle/runtime")]
    runtime_root: PathBuf,
    /// Name of the network bridge of this node's pods
    #[arg(long, default_value = "coracle0")]
    bridge: String,
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
            check_credentials(self.kubeconfig.as_deref(), self.bootstrap_kubeconfig.as_deref())?;
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
                syscall_policy: self.syscall_policy,
                network,
                ..runtime::local::Config::new()?
            });
            let config = self.args.into_config(Arc::new(runtime.await?))?;
            anyhow::Ok(crate::run(config, client, process).await?)
        })
    }
}

/// As upstream, asks for no credentials where there are some.
fn check_credentials(kubeconfig: Option<&Path>, bootstrap: Option<&Path>) -> anyhow::Result<()> {
    let Some(bootstrap) = bootstrap else { return Ok(()) };
    anyhow::ensure!(
        kubeconfig.is_some_and(Path::exists),
        "--bootstrap-kubeconfig {} is not supported without credentials in --kubeconfig: this kubelet asks for none",
        bootstrap.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_must_be_there_already() {
        let here = tempfile::NamedTempFile::new().unwrap();
        assert!(check_credentials(Some(here.path()), Some(Path::new("b"))).is_ok());
        assert!(check_credentials(None, None).is_ok());
        assert!(check_credentials(Some(Path::new("/nowhere")), Some(Path::new("b"))).is_err());
    }

    #[test]
    fn every_flag_of_upstream_is_known() {
        daemon::upstream::check::<Flags, Command>();
    }
}
