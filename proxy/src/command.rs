//! The command line of the `proxy` process.

use std::process::ExitCode;

/// Keeps nftables equal to the cluster's Services.
#[derive(Debug, clap::Parser)]
#[command(name = "proxy")]
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
            return daemon::once("proxy", &self.common, async {
                Ok(crate::cleanup(&self.args.into_config()?.table).await?)
            });
        }
        daemon::main("proxy", self.common, |process| async move {
            let client = client::connect(self.args.kubeconfig.as_deref(), "kube-proxy").await?;
            anyhow::Ok(crate::run(self.args.into_config()?, client, process).await?)
        })
    }
}
