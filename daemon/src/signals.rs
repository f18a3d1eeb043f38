//! SIGTERM and SIGINT.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first SIGTERM or SIGINT cancels; the second one ends the process with exit code 130.
///
/// Must be called within an async runtime.
pub fn shutdown_on_signal() -> CancellationToken {
    shutdown_with_last_words(|| {})
}

/// As [`shutdown_on_signal`]; at the second signal `last_words` are said before the process ends.
pub fn shutdown_with_last_words(last_words: impl FnOnce() + Send + 'static) -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    // Lives as long as the process: it is what a second Ctrl-C needs while the first is being worked off.
    tokio::spawn(async move {
        let Some(mut signals) = Signals::new() else { return };
        signals.next().await;
        tracing::info!("shutting down; a second signal ends the process at once");
        cancelled.cancel();
        signals.next().await;
        last_words();
        std::process::exit(130);
    });
    token
}

/// Both signals; one that comes while nobody waits is not lost.
struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    /// `None` where signals cannot be handled: the default action ends the process.
    fn new() -> Option<Self> {
        let (term, interrupt) = (signal(SignalKind::terminate()).ok()?, signal(SignalKind::interrupt()).ok()?);
        Some(Self { term, interrupt })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for one SIGTERM or SIGINT.
pub async fn term_requested() {
    match Signals::new() {
        Some(mut signals) => signals.next().await,
        None => std::future::pending().await,
    }
}
