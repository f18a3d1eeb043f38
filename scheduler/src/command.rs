//! The command line of the `scheduler` process.

use std::process::ExitCode;

/// Finds nodes for pods.
#[derive(Debug, clap::Parser)]
#[command(name = "scheduler", version = daemon::VERSION)]
pub struct Command {
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    args: crate::Args,
}

impl Command {
    /// Runs the process.
    pub fn run(self) -> ExitCode {
        daemon::main("scheduler", self.common, |process| async move {
            let (config, kubeconfig) = self.args.into_config()?;
            let client = client::connect(kubeconfig.as_deref(), "kube-scheduler").await?;
            anyhow::Ok(crate::run(config, client, process).await?)
        })
    }
}
