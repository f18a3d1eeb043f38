//! The kubelet as a process of its own; called as `kubelet shim` it is the shim of one pod.
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use runtime::local::LocalRuntime;

/// The node agent of Coracle
#[derive(Parser)]
#[command(name = "kubelet", version = daemon::VERSION)]
struct Command {
    #[command(flatten)]
    common: daemon::Common,
    /// How to reach the API server
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    args: kubelet::Args,
}

fn main() -> ExitCode {
    // A shim must fork while it has one thread: this comes before everything else.
    if std::env::args().nth(1).as_deref() == Some("shim") {
        return runtime::shim::main();
    }
    let command = Command::parse();
    daemon::main("kubelet", command.common, async move |process| run(command.kubeconfig, command.args, process).await)
}

async fn run(kubeconfig: Option<PathBuf>, args: kubelet::Args, process: daemon::Process) -> anyhow::Result<()> {
    let client = client::connect(kubeconfig.as_deref(), "coracle-kubelet").await?;
    let runtime = LocalRuntime::open(runtime::local::Config::new()?).await?;
    let config = args.into_config(Arc::new(runtime))?;
    Ok(kubelet::run(config, client, process).await?)
}
