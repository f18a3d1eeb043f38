//! Bridge and table come back when somebody removes them. The kernel tells of changes; while there are none, nothing runs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use host::{LinkWatch, TableWatch};
use tokio::time::Instant;

use super::{Network, watching};
use crate::Error;

/// What is removed is made again so much later, since whoever removes one thing often removes another. Twice that after a
/// repair that failed or was undone soon, doubled each time up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// A repair that has held for so long is forgotten.
const CALM: Duration = Duration::from_secs(10);

/// Where the kernel tells of changes of the pod network.
pub(super) struct Watches {
    pub(super) table: TableWatch,
    pub(super) links: LinkWatch,
}

impl Watches {
    async fn readable(&self) -> std::io::Result<()> {
        tokio::select! {
            heard = self.table.readable() => heard,
            heard = self.links.readable() => heard,
        }
    }
}

impl Network {
    /// Begins to hear of changes; what it returns repairs them for as long as the network lives. Needs an async runtime.
    pub(crate) async fn keep(self: &Arc<Self>) -> Result<impl Future<Output = ()> + Send + use<>, Error> {
        let table = TableWatch::new(&self.config.table).map_err(watching)?;
        let links = LinkWatch::new().map_err(watching)?;
        let watches = Arc::new(Watches { table, links });
        self.change.lock().await.watches = Some(Arc::clone(&watches));
        Ok(keep(Arc::downgrade(self), watches))
    }

    /// Makes again what is gone, or everything when `surely` something is; true when something was.
    async fn repair(&self, watches: &Watches, surely: bool) -> Result<bool, Error> {
        let change = self.change.lock().await;
        let (subnets, index) = {
            let state = self.lock();
            (state.subnets(), state.bridge_index)
        };
        // Both are read in any case: what is left unread would wake us at once.
        let touched = watches.table.read().map_err(watching)?;
        let harmed = watches.links.harmed(index.unwrap_or(0)).map_err(watching)?;
        if subnets.is_empty() || index.is_none() {
            return Ok(false);
        }
        if !(surely || harmed || touched.times > 0 || touched.unknown) {
            return Ok(false);
        }
        tracing::warn!(bridge = self.config.bridge, "the pod network was changed from outside: it is made again");
        self.make(&subnets, &change).await?;
        Ok(true)
    }
}

async fn keep(network: Weak<Network>, watches: Arc<Watches>) {
    let mut repairs = Repairs::default();
    let mut failed = false;
    loop {
        if !failed && let Err(err) = watches.readable().await {
            tracing::warn!(error = &err as &dyn std::error::Error, "no longer hears of changes of the pod network");
            return;
        }
        tokio::time::sleep(repairs.pause()).await;
        let Some(network) = network.upgrade() else { return };
        let result = network.repair(&watches, failed).await;
        drop(network);
        failed = result.is_err();
        if let Err(err) = &result {
            tracing::warn!(error = err as &dyn std::error::Error, "the pod network could not be repaired");
        }
        if !matches!(result, Ok(false)) {
            repairs.note();
        }
    }
}

/// The repairs of late.
#[derive(Debug, Default)]
struct Repairs {
    last: Option<Instant>,
    count: u32,
}

impl Repairs {
    /// How long the next one has to wait.
    fn pause(&mut self) -> Duration {
        if self.last.is_none_or(|last| last.elapsed() >= CALM) {
            self.count = 0;
        }
        PAUSE.0.saturating_mul(2_u32.saturating_pow(self.count)).min(PAUSE.1)
    }

    fn note(&mut self) {
        (self.last, self.count) = (Some(Instant::now()), self.count.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_repair_is_made_soon_and_those_that_are_undone_ever_later() {
        let mut repairs = Repairs::default();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pauses.push(repairs.pause().as_millis());
            repairs.note();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 2000, 2000]);
        tokio::time::advance(CALM).await;
        assert_eq!(repairs.pause().as_millis(), 200);
    }
}
