//! Makes what is taken agree with the Services that there are (upstream: `ipallocator/controller.RepairIPAddress`).
//!
//! What no Service needs may have been taken by a server that is about to create one. So where several servers share a
//! store, it is given back only if it is still there, and untouched, after a while.

use std::collections::HashMap;
use std::time::Duration;

use api::ApiError;
use store::Revision;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Allocator, Held, PORT_PREFIX, key_of, service};
use crate::store_error::unavailable;
use crate::watch_cache::{freshen, read_all};

const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// Upstream's repair interval.
const ROUND: Duration = Duration::from_secs(180);

/// What is taken and needed by no Service, with the revisions at which it was taken.
#[derive(Debug, Default)]
pub struct Leftovers(HashMap<Held, Revision>);

impl Allocator {
    /// Repairs now and then, until shutdown.
    pub(crate) async fn look_after(&self, shutdown: CancellationToken) {
        let rounds = async {
            loop {
                let left = self.repair().await;
                sleep(ROUND).await;
                let collected = match left {
                    Ok(left) => self.collect(left).await,
                    Err(err) => Err(err),
                };
                if let Err(err) = collected {
                    let error = &err as &dyn std::error::Error;
                    tracing::warn!(error, "addresses and ports of Services not repaired");
                }
            }
        };
        shutdown.run_until_cancelled(rounds).await;
    }

    /// Takes again what is missing, and tells what a crash left behind, or another server has just taken.
    pub async fn repair(&self) -> Result<Leftovers, ApiError> {
        let services = self.resource(self.services.as_ref())?;
        let mut needed = HashMap::new();
        for cached in services.snapshot().objects.values() {
            let object = cached.object();
            for held in service::held(&object) {
                needed.insert(key_of(&held), (held, object.clone()));
            }
        }
        let mut left = HashMap::new();
        let addresses = self.resource(self.addresses.as_ref())?;
        for cached in addresses.snapshot().objects.values() {
            let ours = cached.labels.get(MANAGED_BY) == Some("ipallocator.k8s.io");
            if needed.remove(&*cached.key).is_none() && ours {
                left.extend(cached.name().parse().map(|address| (Held::Address(address), cached.revision)));
            }
        }
        let (_, ports) = read_all(&self.store, PORT_PREFIX, None).await.map_err(|err| unavailable(&err))?;
        for entry in ports {
            if needed.remove(&*entry.key).is_none() {
                left.extend(entry.key[PORT_PREFIX.len()..].parse().map(|port| (Held::Port(port), entry.mod_revision)));
            }
        }
        for (held, object) in needed.values() {
            self.take(held, object).await.map_err(|err| unavailable(&err))?;
        }
        Ok(Leftovers(left))
    }

    /// Gives back what was left behind, if it still is.
    pub async fn collect(&self, before: Leftovers) -> Result<(), ApiError> {
        if before.0.is_empty() {
            return Ok(());
        }
        freshen(&self.store, &self.cache).await?;
        let now = self.repair().await?;
        for (held, revision) in before.0.into_iter().filter(|(held, revision)| now.0.get(held) == Some(revision)) {
            match self.store.delete(&key_of(&held), revision).await {
                // Somebody has just taken it.
                Ok(_) | Err(store::Error::Conflict { .. }) => {}
                Err(err) => tracing::warn!(?held, error = &err as &dyn std::error::Error, "not given back"),
            }
        }
        Ok(())
    }
}
