//! The command line of the `apiserver` process.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use daemon::{GivenFlags, Process};
use store::Store;
use store::embedded::EmbeddedStore;
use store::etcd::EtcdStore;

use crate::ApiServer;
use crate::Args;
use crate::Config;
use crate::StoreArgs;

/// Serves the Kubernetes API.
#[derive(Debug, clap::Parser)]
#[command(name = "apiserver")]
pub struct Command {
    #[command(flatten)]
    given: daemon::GivenFlags,
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    upstream: daemon::Upstream<Flags>,
    #[command(flatten)]
    args: Args,
}

/// The flags of kube-apiserver that this process does not have.
struct Flags;

impl daemon::upstream::Table for Flags {
    const FLAGS: &'static str = include_str!("upstream_flags.txt");
    const NOT_COMMON: &'static [&'static str] = &["tls-cipher-suites", "tls-min-version"];
}

impl Command {
    /// Runs the process.
    pub fn run(self) -> ExitCode {
        let delay = self.args.config.shutdown_delay_duration;
        daemon::main_with_delay("apiserver", self.common, delay, |process| {
            self.upstream.warn();
            run(self.args, self.given, process)
        })
    }
}

async fn run(args: Args, given: GivenFlags, process: Process) -> anyhow::Result<()> {
    let store = open(&args.store).await?;
    let outcome = serve(args, given, store.clone(), process).await;
    // Nothing is left in a log that a copy of the files would lack, even if serving failed.
    let closed = store.close().await.context("close the store");
    outcome.and(closed)
}

async fn serve(args: Args, given: GivenFlags, store: Arc<dyn Store>, process: Process) -> anyhow::Result<()> {
    let config = Config { flags: given.0, ..args.into_config()? };
    let server = ApiServer::new(config, store, process)?;
    let listener = server.bind().await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    tokio::try_join!(server.run(), server.serve(listener))?;
    Ok(())
}

async fn open(args: &StoreArgs) -> anyhow::Result<Arc<dyn Store>> {
    if !args.etcd.etcd_servers.is_empty() {
        anyhow::ensure!(
            args.etcd_prefix == "/registry",
            "--etcd-prefix {:?} is not supported: keys are below /registry",
            args.etcd_prefix
        );
        let connected = EtcdStore::open(args.etcd.options()?).await;
        return Ok(Arc::new(
            connected.with_context(|| format!("connect to etcd at {}", args.etcd.etcd_servers.join(", ")))?,
        ));
    }
    let options = store::embedded::Options::at(&args.data_dir);
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(options)).await?;
    let hint = || format!("open the store in {} (give a --data-dir that can be written)", args.data_dir.display());
    Ok(Arc::new(opened.with_context(hint)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_upstream_is_known() {
        daemon::upstream::check::<Flags, Command>();
    }

    #[test]
    fn files_for_etcd_are_refused_where_there_is_no_etcd() {
        let read = |flags: &[&str]| {
            let line = ["apiserver"].iter().chain(flags).map(Into::into);
            daemon::pflag::try_parse_from::<Command>(line).map(|_| ()).map_err(|err| err.to_string())
        };
        assert!(read(&["--etcd-cafile=/x"]).unwrap_err().contains("--etcd-servers"));
        assert_eq!(read(&["--etcd-cafile=/x", "--etcd-servers=https://e:2379"]), Ok(()));
    }
}
