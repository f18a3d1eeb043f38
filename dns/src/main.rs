//! The `dns` binary: the cluster's name server.

use std::process::ExitCode;

use clap::Parser as _;

/// Answers DNS questions about Services and pods, and forwards all others.
#[derive(clap::Parser)]
#[command(name = "dns", version = daemon::VERSION)]
struct Cli {
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    args: dns::Args,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    daemon::main("dns", cli.common, |process| async move {
        let client = client::connect(cli.args.kubeconfig.as_deref(), "coracle-dns").await?;
        anyhow::Ok(dns::run(cli.args.into_config()?, client, process).await?)
    })
}
