//! The command line of the `announce` process.

use std::process::ExitCode;

/// Answers on this node's link for addresses of load balancers.
#[derive(Debug, clap::Parser)]
#[command(name = "announce")]
pub struct Command {
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    args: crate::Args,
}

impl Command {
    /// Runs the process.
    pub fn run(self) -> ExitCode {
        daemon::main("announce", self.common, |process| async move {
            let client = client::connect(self.args.kubeconfig.as_deref(), "coracle-announce").await?;
            anyhow::Ok(crate::run(self.args.into_config()?, client, process).await?)
        })
    }
}
