//! What admission knows of namespaces: the watch cache, made to catch up before a namespace counts as missing.

use std::sync::Arc;
use std::time::Duration;

use store::Store;

use crate::watch_cache::{Behind, Cached, ResourceCache, WatchCache};

/// How long a request waits for a namespace that may just have been made.
const LAG: Duration = Duration::from_secs(2);

/// The namespaces.
#[derive(Clone)]
pub struct Namespaces {
    /// None if they are not served.
    namespaces: Option<Arc<ResourceCache>>,
    cache: Arc<WatchCache>,
    store: Arc<dyn Store>,
}

impl Namespaces {
    /// Reads namespaces from the cache, and asks the store before it says that one is missing.
    pub fn new(cache: &Arc<WatchCache>, store: &Arc<dyn Store>) -> Self {
        Self { namespaces: cache.resource("namespaces"), cache: cache.clone(), store: store.clone() }
    }

    /// A namespace as this server has acknowledged it last, or one that another server has just made.
    pub async fn get(&self, name: &str) -> Result<Option<Arc<Cached>>, Behind> {
        let Some(namespaces) = &self.namespaces else { return Ok(None) };
        namespaces.settle().await?;
        let key = namespaces.key("", name);
        match namespaces.get(&key) {
            Some(namespace) => Ok(Some(namespace)),
            None => Ok(self.newest(namespaces, &key).await),
        }
    }

    async fn newest(&self, namespaces: &ResourceCache, key: &str) -> Option<Arc<Cached>> {
        let newest = self.store.revision().await.ok()?;
        // If the cache is still behind then, the namespace counts as missing.
        let _late = tokio::time::timeout(LAG, self.cache.wait_for(newest)).await;
        namespaces.get(key)
    }
}
