//! Reads that show every write so far although they come from the cache (KEP-2340, consistent reads from cache).

use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use store::Store;

use super::WatchCache;
use crate::store_error::unavailable;

/// So long the cache may need by itself; then the store is asked how far it is.
const BY_ITSELF: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until the cache holds every write acknowledged before this call, and answers how far it is.
pub(crate) async fn freshen(store: &Arc<dyn Store>, cache: &WatchCache) -> Result<u64, ApiError> {
    let revision = store.revision().await.map_err(|err| unavailable(&err))?;
    if cache.revision() < revision {
        catch_up(store, cache, revision).await?;
    }
    Ok(revision.max(cache.revision()))
}

/// Waits until the cache is at `revision`, but not for ever.
pub(crate) async fn catch_up(store: &Arc<dyn Store>, cache: &WatchCache, revision: u64) -> Result<(), ApiError> {
    if tokio::time::timeout(BY_ITSELF, cache.wait_for(revision)).await.is_ok() {
        return Ok(());
    }
    store.request_progress().await.map_err(|err| unavailable(&err))?;
    let waited = tokio::time::timeout(PATIENCE, cache.wait_for(revision)).await;
    waited.map_err(|_| ApiError::timeout("the watch cache did not catch up with the store", 1))
}
