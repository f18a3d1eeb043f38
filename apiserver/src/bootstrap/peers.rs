//! Which API servers share a store: each keeps a key there that ends with it, and the Service `kubernetes` leads to those
//! whose keys are there (upstream's lease endpoint reconciler, whose keys these are).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use api::{ApiError, Object};
use bytes::Bytes;
use serde_json::json;
use store::Expected;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{ensure_one, objects};
use crate::registry::unavailable;
use crate::server::Core;
use crate::watch_cache::{read_all, stored_bytes};

const PREFIX: &str = "/registry/masterleases/";
/// A server that is not heard of for so long is gone.
const LIFE: Duration = Duration::from_secs(15);
/// How often a server says that it is there, and looks for the others.
const ROUND: Duration = Duration::from_secs(10);
/// Attempts to write a key that is changed meanwhile: only a server of the same address does that.
const ATTEMPTS: usize = 5;

/// Says that this server is there, and leads the Service to all that are.
pub(super) async fn round(core: &Core) -> Result<(), ApiError> {
    let Some(own) = objects::published(&core.config) else { return Ok(()) };
    renew(core, own).await?;
    publish(core, &servers(core).await?).await
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
        retire(core, own).await?;
        publish(core, &servers(core).await?).await
    };
    match tokio::time::timeout(ROUND, left).await {
        Ok(Err(err)) => warn!(error = &err as &dyn std::error::Error, "this server is still among the endpoints"),
        Err(_) => warn!("this server is still among the endpoints: the store does not answer"),
        Ok(Ok(())) => {}
    }
}

fn key(address: IpAddr) -> String {
    format!("{PREFIX}{address}")
}

/// Writes the key of a server, which then lives for another while.
async fn renew(core: &Core, own: IpAddr) -> Result<(), ApiError> {
    let (store, key) = (core.registry.store(), key(own));
    for _ in 0..ATTEMPTS {
        let entry = store.get(&key).await.map_err(|err| unavailable(&err))?;
        let expected = entry.map_or(Expected::Absent, |entry| Expected::Revision(entry.mod_revision));
        match store.put(&key, Bytes::from(stored_bytes(&lease(own))), expected, Some(LIFE)).await {
            Err(store::Error::Conflict { .. }) => {}
            outcome => return outcome.map(|_| ()).map_err(|err| unavailable(&err)),
        }
    }
    Err(ApiError::internal(format!("{key} is changed all the time: does another server have this address?")))
}

async fn retire(core: &Core, own: IpAddr) -> Result<(), ApiError> {
    let (store, key) = (core.registry.store(), key(own));
    let Some(entry) = store.get(&key).await.map_err(|err| unavailable(&err))? else { return Ok(()) };
    match store.delete(&key, entry.mod_revision).await {
        Ok(_) | Err(store::Error::Conflict { .. }) => Ok(()),
        Err(err) => Err(unavailable(&err)),
    }
}

/// What lies at a key, as upstream has it.
fn lease(own: IpAddr) -> Object {
    let tree = json!({
        "kind": "Endpoints", "apiVersion": "v1", "metadata": {},
        "subsets": [{"addresses": [{"ip": own.to_string()}]}],
    });
    Object::from_value(tree).expect("the tree is an object")
}

/// The addresses of the servers that there are. Keys say all that values do.
async fn servers(core: &Core) -> Result<BTreeSet<IpAddr>, ApiError> {
    let (_, entries) = read_all(core.registry.store(), PREFIX, None).await.map_err(|err| unavailable(&err))?;
    Ok(entries.iter().filter_map(|entry| entry.key[PREFIX.len()..].parse().ok()).collect())
}

/// Of no servers at all nothing is published: it cannot be true, as long as somebody asks.
async fn publish(core: &Core, servers: &BTreeSet<IpAddr>) -> Result<(), ApiError> {
    for object in objects::endpoints(&core.config, servers) {
        core.registry.freshen().await?;
        ensure_one(core, &object).await?;
    }
    Ok(())
}
