//! The `apiserver` binary.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use apiserver::{ApiServer, Args};
use clap::Parser;
use daemon::{Common, Process};
use store::Store;

/// A Kubernetes API server.
#[derive(Debug, Parser)]
#[command(name = "apiserver", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    daemon::main("apiserver", cli.common, |process| run(cli.args, process))
}

async fn run(args: Args, process: Process) -> anyhow::Result<()> {
    let store = open(&args).await?;
    let server = ApiServer::new(args.into_config()?, store, process)?;
    let listener = server.bind().await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    tokio::try_join!(server.run(), server.serve(listener))?;
    Ok(())
}

async fn open(args: &Args) -> anyhow::Result<Arc<dyn Store>> {
    let store = &args.store;
    anyhow::ensure!(store.etcd_servers.is_empty(), "--etcd-servers: the etcd backend is not built in");
    let options = store::embedded::Options::at(&store.data_dir);
    let opened = tokio::task::spawn_blocking(move || store::embedded::EmbeddedStore::open(options)).await?;
    let hint = || format!("open the store in {} (give a --data-dir that can be written)", store.data_dir.display());
    Ok(Arc::new(opened.with_context(hint)?))
}
