//! What a failure of the store is for a client (upstream's `storage/errors`).

use api::ApiError;
use api::status::Details;

/// When to ask again a store that could not be reached, in seconds.
const RETRY_AFTER: u32 = 1;

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
        store::Error::Unavailable { .. } => {
            tracing::error!(error = err as &dyn std::error::Error, "the store cannot be used");
            ApiError::service_unavailable(format!("store: {err}"))
                .with_details(Details { retry_after_seconds: RETRY_AFTER, ..Details::default() })
        }
        store::Error::Unknown { .. } => {
            tracing::error!(error = err as &dyn std::error::Error, "the store did not answer");
            // Clients repeat by themselves what comes with a time to wait: nobody may repeat this without a look.
            ApiError::timeout(format!("store: {err}"), 0)
        }
        err => {
            tracing::error!(error = err as &dyn std::error::Error, "store failed");
            ApiError::internal(format!("store: {err}"))
        }
    }
}

/// Whether a write ended with this error perhaps after it was done.
pub(crate) fn may_be_written(err: &ApiError) -> bool {
    err.status().reason == "Timeout"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_did_nothing_may_be_repeated_at_once() {
        let reason = String::new();
        let waits = |err: &ApiError| err.status().details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let away = unavailable(&store::Error::Unavailable { reason: reason.clone() });
        assert_eq!((away.code(), waits(&away), may_be_written(&away)), (503, RETRY_AFTER, false));
        let unknown = unavailable(&store::Error::Unknown { reason });
        assert_eq!((unknown.code(), waits(&unknown), may_be_written(&unknown)), (504, 0, true));
    }
}
