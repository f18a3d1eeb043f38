//! The `proxy` binary: kube-proxy's place in a cluster.

use std::process::ExitCode;

use clap::Parser as _;

/// Keeps nftables equal to the cluster's Services.
#[derive(clap::Parser)]
#[command(name = "proxy", version = daemon::VERSION)]
struct Cli {
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    args: proxy::Args,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.args.cleanup {
        return daemon::once("proxy", &cli.common, async { Ok(proxy::cleanup(&cli.args.into_config()?.table).await?) });
    }
    daemon::main("proxy", cli.common, |process| async move {
        let kubeconfig = cli.args.kubeconfig.clone();
        let client = client::connect(kubeconfig.as_deref(), "kube-proxy").await?;
        anyhow::Ok(proxy::run(cli.args.into_config()?, client, process).await?)
    })
}
