//! The command line of the `network` process.

use std::process::ExitCode;

/// Keeps the routes of this node to the pods of the others.
#[derive(Debug, clap::Parser)]
#[command(name = "network")]
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
            return daemon::once("network", &self.common, async {
                Ok(crate::cleanup(&self.args.into_config()?).await?)
            });
        }
        daemon::main("network", self.common, |process| async move {
            let client = client::connect(self.args.kubeconfig.as_deref(), "coracle-network").await?;
            anyhow::Ok(crate::run(self.args.into_config()?, client, process).await?)
        })
    }
}
