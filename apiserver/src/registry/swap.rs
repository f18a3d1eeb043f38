//! Replacing what admission has computed (a quota's usage), as a bare compare-and-swap (upstream:
//! `resourcequota.quotaAccessor`).

use std::sync::Arc;

use futures::FutureExt as _;
use store::{Expected, Store};

use crate::admission::Swap;
use crate::store_error::unavailable;
use crate::watch_cache::stored_bytes;

/// What replaces an object of this store.
pub(crate) fn swapper(store: Arc<dyn Store>) -> Swap {
    Arc::new(move |key, object, revision| {
        let (store, value) = (store.clone(), stored_bytes(object));
        let swap = async move {
            match store.put(&key, value, Expected::Revision(revision), None).await {
                Ok(_) => Ok(true),
                Err(store::Error::Conflict { .. }) => Ok(false),
                Err(err) => Err(unavailable(&err)),
            }
        };
        swap.boxed()
    })
}
