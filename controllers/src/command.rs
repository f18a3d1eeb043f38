//! The command line of the `controller-manager` process.

use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the controllers.
#[derive(Debug, clap::Parser)]
#[command(name = "controller-manager", version = daemon::VERSION)]
pub struct Command {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    args: crate::Args,
}

impl Command {
    /// Runs the process.
    pub fn run(self) -> ExitCode {
        daemon::main("controller-manager", self.common, |process| async move {
            let config = self.args.into_config()?;
            let client = client::connect(self.kubeconfig.as_deref(), "kube-controller-manager").await?;
            anyhow::Ok(crate::run(config, client, process).await?)
        })
    }
}
