//! What goes on beside requests: services are asked how they are, and the file is looked at, if it may change.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{AtRest, Providers};

/// A new file waits for its services at least so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often they are asked meanwhile.
const AGAIN: Duration = Duration::from_millis(100);

impl AtRest {
    /// Keeps services fresh and follows the file, until shutdown.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let providers = self.providers();
            let fresh = async {
                join_all(providers.services.iter().map(|service| service.keep_fresh())).await;
                // Without a service there is nothing to do.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = fresh => {}
                providers = self.changed(&providers) => self.set(providers),
            }
        }
    }

    /// Waits for a file that says something else, and can be used.
    async fn changed(&self, now: &Providers) -> Providers {
        loop {
            if !self.config.reload {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(self.config.poll).await;
            match self.reread(now).await {
                Ok(Some(providers)) => return providers,
                Ok(None) => {}
                Err(why) => {
                    self.metrics.file.reloaded(false);
                    tracing::error!(%why, "error processing encryption config file, the one before goes on");
                }
            }
        }
    }

    async fn reread(&self, now: &Providers) -> Result<Option<Providers>, String> {
        let Some(path) = &self.config.file else { return Ok(None) };
        let text = tokio::fs::read_to_string(path).await.map(Zeroizing::new).map_err(|err| err.to_string())?;
        if hash(&text) == now.hash {
            return Ok(None);
        }
        let providers = Providers::read(path, &text).map_err(|why| format!("error while parsing file: {why}"))?;
        providers.become_well().await?;
        Ok(Some(providers))
    }

    fn set(&self, providers: Providers) {
        self.metrics.file.reloaded(true);
        self.metrics.file.applied(&providers.hash);
        tracing::info!(hash = %providers.hash, "the encryption configuration is a new one");
        *self.providers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(providers);
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Providers {
    /// Waits until all services are well, but not for ever: an ill one must not replace one that works.
    async fn become_well(&self) -> Result<(), String> {
        let patience: Duration = self.services.iter().map(|service| 2 * service.timeout()).sum();
        let deadline = tokio::time::Instant::now() + patience.max(PATIENCE);
        loop {
            let Err(why) = self.check().await else { return Ok(()) };
            if tokio::time::Instant::now() >= deadline {
                return Err(format!("health check for new transformers failed: {why}"));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// `sha256:` and the digest of a file, as upstream shows it in metrics.
pub(super) fn hash(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}
