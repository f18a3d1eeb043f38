//! The `load` binary.

use std::error::Error as _;
use std::io::Write as _;
use std::process::ExitCode;

use bench::{Error, Options, run};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    // An error says that a provider is installed already.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let interrupted = CancellationToken::new();
    let watching = tokio::spawn(cancel_on_signal(interrupted.clone()));
    let (table, result) = run::run(&options, &interrupted).await;
    watching.abort();
    let result = result.and(write(&options, &table));
    // A reader that has gone has seen enough.
    let _closed = write!(std::io::stdout(), "{table}");
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("load: {}", chain(&err));
            ExitCode::FAILURE
        }
    }
}

fn write(options: &Options, table: &bench::table::Table) -> Result<(), Error> {
    let Some(path) = &options.json else { return Ok(()) };
    std::fs::write(path, format!("{:#}\n", table.json())).map_err(|source| Error::Write { path: path.clone(), source })
}

async fn cancel_on_signal(interrupted: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    interrupted.cancel();
    // A second signal must still be able to end a run whose cleaning up hangs.
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    std::process::exit(130);
}

fn chain(err: &Error) -> String {
    let mut text = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
