//! Bridge and table come back when somebody removes them. The kernel tells of changes; while there are none, nothing runs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use host::{LinkWatch, TableWatch};

use super::{Network, watching};
use crate::Error;

/// What is removed is made again so much later: whoever removes one thing often removes another.
const PAUSE: Duration = Duration::from_millis(200);
/// The next look after a repair, which may have failed or been undone.
const AGAIN: Duration = Duration::from_secs(2);

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
    let mut failed = false;
    loop {
        if !failed && let Err(err) = watches.readable().await {
            tracing::warn!(error = &err as &dyn std::error::Error, "no longer hears of changes of the pod network");
            return;
        }
        tokio::time::sleep(PAUSE).await;
        let Some(network) = network.upgrade() else { return };
        let result = network.repair(&watches, failed).await;
        drop(network);
        failed = result.is_err();
        if let Err(err) = &result {
            tracing::warn!(error = err as &dyn std::error::Error, "the pod network could not be repaired");
        }
        if !matches!(result, Ok(false)) {
            tokio::time::sleep(AGAIN).await;
        }
    }
}
