//! Which API servers share a store: each renews a lease there, and the Service `kubernetes` leads to those whose leases are
//! there (upstream's lease endpoint reconciler).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use api::ApiError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{ensure_one, objects};
use crate::core::Core;

/// How often a server says that it is there, and looks for the others.
const ROUND: Duration = Duration::from_secs(10);

/// Says that this server is there, and leads the Service to all that are.
pub(super) async fn round(core: &Core) -> Result<(), ApiError> {
    let Some(own) = objects::published(&core.config) else { return Ok(()) };
    core.registry.renew_lease(own).await?;
    publish(core, &core.registry.leases().await?).await
}

/// Does so until shutdown, and takes this server out then.
pub(crate) async fn follow(core: &Core, shutdown: &CancellationToken) {
    let Some(own) = objects::published(&core.config).filter(|_| core.config.shares_store) else { return };
    while shutdown.run_until_cancelled(sleep(ROUND)).await.is_some() {
        if let Err(err) = round(core).await {
            warn!(error = &err as &dyn std::error::Error, "the endpoints of the API servers are not kept up");
        }
    }
    // Whoever is left finds out by itself if this cannot be said any more.
    let left = async {
        core.registry.end_lease(own).await?;
        publish(core, &core.registry.leases().await?).await
    };
    match tokio::time::timeout(ROUND, left).await {
        Ok(Err(err)) => warn!(error = &err as &dyn std::error::Error, "this server is still among the endpoints"),
        Err(_) => warn!("this server is still among the endpoints: the store does not answer"),
        Ok(Ok(())) => {}
    }
}

/// Of no servers at all nothing is published: it cannot be true, as long as somebody asks.
async fn publish(core: &Core, servers: &BTreeSet<IpAddr>) -> Result<(), ApiError> {
    for object in objects::endpoints(&core.config, servers) {
        core.registry.freshen().await?;
        ensure_one(core, &object).await?;
    }
    Ok(())
}
