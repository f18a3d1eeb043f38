//! What every process of Coracle needs around its one component: logs, signals, readiness, health and metrics
//! endpoints, and a supervisor that owns the tasks.
//!
//! Invariant: knows no component, and of Kubernetes no more than its version and how its components read flags.
#![forbid(unsafe_code)]

mod config_file;
mod endpoint;
mod features;
mod given;
mod http;
mod leader;
pub mod listen;
mod live;
mod logs;
mod metrics;
pub mod pflag;
mod process;
mod resources;
mod rounds;
mod secure;
mod serve_tls;
mod signals;
mod subject;
mod supervisor;
mod tls;
mod token_key;
mod unverified;
pub mod upstream;
mod version;
mod words;

#[doc(hidden)]
pub use mimalloc::MiMalloc;

pub use config_file::{ConfigFile, ConfigFileError};
pub use endpoint::{Endpoint, EndpointError};
pub use features::{FeatureGateError, FeatureGates, check_feature};
pub use given::GivenFlags;
pub use http::serve_http;
pub use leader::LeaderElectionArgs;
pub use live::{LiveIdentity, LiveIdentityError};
pub use logs::{LogArgs, LogFormat};
pub use metrics::{MEDIA_TYPE as METRICS_MEDIA_TYPE, Metrics};
pub use process::{Process, Ready, ReadyWatch};
pub use rounds::Rounds;
pub use secure::{Caller, Door, Gate, Refusal, Secure, SecureArgs, SecureError};
pub use serve_tls::{
    Identity, PeerCertificate, ServerTlsError, certificates_from, keep_self_signed, live_server_config, serve_tls,
    server_config,
};
pub use signals::{shutdown_on_signal, shutdown_with_last_words, term_requested};
pub use subject::{Names, names_of};
pub use supervisor::Supervisor;
pub use tls::{CipherSuite, MinVersion, TlsOptions};
pub use token_key::{SignError, TokenKey, sign_detached};
pub use unverified::{unverified_tls, unverified_tls_as};
pub use upstream::{Upstream, parse};
pub use version::{KUBERNETES_VERSION, VersionFlag, full_version, reported_version};
pub use words::in_words;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The version of Coracle.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Chooses the allocator of a binary: objects are trees of small pieces, made on one thread and freed on another. For the
/// root of a binary only, since who links a library may have an allocator of their own.
#[macro_export]
macro_rules! allocator {
    () => {
        #[global_allocator]
        static ALLOCATOR: $crate::MiMalloc = $crate::MiMalloc;
    };
}

/// Flags that every binary takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    #[command(flatten)]
    pub logs: LogArgs,
    #[command(flatten)]
    pub endpoint: Endpoint,
    #[command(flatten)]
    pub features: FeatureGates,
    #[command(flatten)]
    pub version: VersionFlag,
}

/// Runs one component as a process: starts logging, the async runtime and the health endpoint, runs `component`
/// until it ends or SIGTERM/SIGINT asks it to, and turns an error into one readable line and exit code 1.
/// Asked for its version, it prints that instead.
/// A second signal ends the process at once.
pub fn main<F, Fut, E>(name: &'static str, common: Common, component: F) -> ExitCode
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<anyhow::Error>,
{
    main_with_delay(name, common, Duration::ZERO, component)
}

/// As [`main`], for a component that goes on serving for a while after it was asked to end: [`Process::stopping`] tells
/// it at once, [`Process::shutdown`] after `delay`.
pub fn main_with_delay<F, Fut, E>(name: &'static str, common: Common, delay: Duration, component: F) -> ExitCode
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<anyhow::Error>,
{
    if let Some(version) = common.version.text() {
        println!("{version}");
        return ExitCode::SUCCESS;
    }
    common.version.report();
    common.logs.init();
    host::descriptors::raise();
    install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name(name).build() {
        Ok(runtime) => runtime,
        Err(err) => return failed(name, &err.into()),
    };
    let outcome = runtime.block_on(async {
        let process = Process::stopping_before(shutdown_on_signal(), delay);
        process.metrics.register(|registry| registry.register_collector(Box::new(resources::Resources)));
        let mut tasks = Supervisor::new(process.shutdown.clone());
        let endpoint = common.endpoint.clone();
        let (metrics, ready) = (process.metrics.clone(), process.ready.watch());
        if let Some(listener) = endpoint.bind().await? {
            tasks.add("health endpoint", move |shutdown| endpoint.serve(listener, metrics, ready, shutdown));
        }
        tasks.add(name, move |shutdown| component(Process { shutdown, ..process }));
        tasks.run().await
    });
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => failed(name, &err),
    }
}

/// Runs a task that ends by itself, with the same logging and error report as [`main`].
pub fn once(name: &str, common: &Common, task: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    task_with(name, &common.logs, tokio::runtime::Builder::new_current_thread(), task)
}

/// Runs a task on all cores; it watches for signals itself, if it must ([`shutdown_on_signal`]).
pub fn task(name: &str, logs: &LogArgs, task: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    task_with(name, logs, tokio::runtime::Builder::new_multi_thread(), task)
}

fn task_with(
    name: &str,
    logs: &LogArgs,
    mut runtime: tokio::runtime::Builder,
    task: impl Future<Output = anyhow::Result<()>>,
) -> ExitCode {
    logs.init();
    host::descriptors::raise();
    install_crypto_provider();
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => return failed(name, &err.into()),
    };
    let outcome = runtime.block_on(task);
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => failed(name, &err),
    }
}

/// Chooses the TLS implementation of this process. Must run before the first TLS connection; repeating it is fine.
pub fn install_crypto_provider() {
    // An error says that a provider is installed already: ours, from an earlier call.
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// A process token for tests: never cancelled by a signal.
pub fn detached() -> Process {
    Process::new(CancellationToken::new())
}

fn failed(name: &str, err: &anyhow::Error) -> ExitCode {
    eprintln!("{name}: {}", in_words(err.as_ref()));
    ExitCode::FAILURE
}
