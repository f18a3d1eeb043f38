//! SIGTERM and SIGINT.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first SIGTERM or SIGINT cancels; the second one ends the process with exit code 130.
///
/// Must be called within an async runtime.
pub fn shutdown_on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    // Lives as long as the process: it is what a second Ctrl-C needs while the first is being worked off.
    tokio::spawn(async move {
        term_requested().await;
        tracing::info!("shutting down; a second signal ends the process at once");
        cancelled.cancel();
        term_requested().await;
        std::process::exit(130);
    });
    token
}

/// Waits for one SIGTERM or SIGINT.
pub async fn term_requested() {
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // No signal handling on this system: the default action ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}
