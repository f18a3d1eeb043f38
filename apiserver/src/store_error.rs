//! What a failure of the store is for a client (upstream's `storage/errors`).

use api::ApiError;

/// A store that cannot answer now, or will not take the object.
pub(crate) fn unavailable(err: &store::Error) -> ApiError {
    match err {
        store::Error::TooLarge { size, limit, .. } => {
            ApiError::too_large(format!("Request entity too large: limit is {limit}, the object has {size} bytes"))
        }
        store::Error::Compacted { .. } => ApiError::expired("The resourceVersion for the provided list is too old."),
        store::Error::Unreadable { key, source } => {
            tracing::error!(error = err as &dyn std::error::Error, "a value cannot be read or sealed");
            ApiError::internal(format!("unable to transform key {key:?}: {source}"))
        }
        err => {
            tracing::error!(error = err as &dyn std::error::Error, "store failed");
            ApiError::internal(format!("store: {err}"))
        }
    }
}
