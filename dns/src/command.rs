//! The command line of the `dns` process.

use std::process::ExitCode;

/// Answers DNS questions about Services and pods, and forwards all others.
#[derive(Debug, clap::Parser)]
#[command(name = "dns")]
pub struct Command {
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    args: crate::Args,
}

impl Command {
    /// Runs the process.
    pub fn run(self) -> ExitCode {
        daemon::main("dns", self.common, |process| async move {
            let client = client::connect(self.args.kubeconfig.as_deref(), "coracle-dns").await?;
            anyhow::Ok(crate::run(self.args.into_config()?, client, process).await?)
        })
    }
}
