//! Makes what is taken agree with the Services that there are.

use std::collections::HashMap;

use api::ApiError;

use super::{Freed, Held, PORT_PREFIX, key_of, service, take};
use crate::registry::Registry;
use crate::watch_cache::read_all;

const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";

pub(super) async fn repair(registry: &Registry) -> Result<(), ApiError> {
    let unavailable = |err: store::Error| ApiError::internal(err);
    let services = registry.named("", "services")?;
    let mut needed = HashMap::new();
    for cached in services.snapshot().objects.values() {
        let object = cached.object();
        for held in service::held(&object) {
            needed.insert(key_of(&held), (held, object.clone()));
        }
    }
    let mut stale = Vec::new();
    let addresses = registry.named("networking.k8s.io", "ipaddresses")?;
    for cached in addresses.snapshot().objects.values() {
        let ours = cached.labels.get(MANAGED_BY) == Some("ipallocator.k8s.io");
        if needed.remove(&*cached.key).is_none() && ours {
            stale.extend(cached.name().parse().map(Held::Address));
        }
    }
    let (_, ports) = read_all(registry.store(), PORT_PREFIX, None).await.map_err(unavailable)?;
    for entry in ports {
        if needed.remove(&*entry.key).is_none() {
            stale.extend(entry.key[PORT_PREFIX.len()..].parse().map(Held::Port));
        }
    }
    for (held, object) in needed.values() {
        take(registry, held, object).await.map_err(unavailable)?;
    }
    registry.allocator().free(registry, Freed(stale)).await;
    Ok(())
}
