//! The `scheduler` binary: kube-scheduler's place in a cluster.

use std::process::ExitCode;

use clap::Parser as _;

/// Finds nodes for pods.
#[derive(clap::Parser)]
#[command(name = "scheduler", version = daemon::VERSION)]
struct Cli {
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    args: scheduler::Args,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    daemon::main("scheduler", cli.common, |process| async move {
        let (config, kubeconfig) = cli.args.into_config()?;
        let client = client::connect(kubeconfig.as_deref(), "kube-scheduler").await?;
        anyhow::Ok(scheduler::run(config, client, process).await?)
    })
}
