//! The command line of the `controller-manager` process.

use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the controllers.
#[derive(Debug, clap::Parser)]
#[command(name = "controller-manager")]
pub struct Command {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    upstream: daemon::Upstream<Flags>,
    #[command(flatten)]
    args: crate::Args,
}

/// The flags of kube-controller-manager that this process does not have.
struct Flags;

impl daemon::upstream::Table for Flags {
    const FLAGS: &'static str = include_str!("upstream_flags.txt");
}

impl Command {
    /// Runs the process.
    pub fn run(self) -> ExitCode {
        daemon::main("controller-manager", self.common, |process| async move {
            self.upstream.warn();
            let config = self.args.into_config()?;
            let client = client::connect(self.kubeconfig.as_deref(), "kube-controller-manager").await?;
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
