//! The command line of the `network-policy` process.

use std::process::ExitCode;

/// Keeps nftables equal to the cluster's NetworkPolicies.
#[derive(Debug, clap::Parser)]
#[command(name = "network-policy")]
pub struct Command {
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    args: crate::Args,
}

impl Command {
    /// Runs the process.
    pub fn run(self) -> ExitCode {
        if self.args.cleanup {
            return daemon::once("network-policy", &self.common, async {
                Ok(crate::cleanup(&self.args.into_config()?.table).await?)
            });
        }
        daemon::main("network-policy", self.common, |process| async move {
            let client = client::connect(self.args.kubeconfig.as_deref(), "coracle-network-policy").await?;
            anyhow::Ok(crate::run(self.args.into_config()?, client, process).await?)
        })
    }
}
