//! The controller manager as its own process.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Runs Coracle's controllers against an API server.
#[derive(Parser)]
#[command(name = "controller-manager", version = daemon::VERSION)]
struct Cli {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    controllers: controllers::Args,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    daemon::main("controller-manager", cli.common, move |process| async move {
        let config = cli.controllers.into_config()?;
        let agent = concat!("controller-manager/", env!("CARGO_PKG_VERSION"));
        let client = client::connect(cli.kubeconfig.as_deref(), agent).await?;
        controllers::run(config, client, process).await.map_err(anyhow::Error::from)
    })
}
