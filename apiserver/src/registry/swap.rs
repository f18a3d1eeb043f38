//! Replacing what admission has computed (a quota's usage), as a bare compare-and-swap.

use std::sync::Arc;

use api::{ApiError, Object};
use store::{Expected, Store};

use super::unavailable;

/// Replaces the object at `key` if it is still at `revision`; `false` when somebody else was faster.
pub(crate) async fn swap(store: &Arc<dyn Store>, key: &str, object: &Object, revision: u64) -> Result<bool, ApiError> {
    let value = crate::watch_cache::stored_bytes(object).into();
    match store.put(key, value, Expected::Revision(revision), None).await {
        Ok(_) => Ok(true),
        Err(store::Error::Conflict { .. }) => Ok(false),
        Err(err) => Err(unavailable(&err)),
    }
}
