//! Small helpers around writing: conflicts, absent objects, status patches.

use std::error::Error as StdError;
use std::fmt::Debug;
use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// client-go's `retry.DefaultRetry`: five attempts, 10 ms apart, with a little jitter.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// Runs `attempt` (which must read, change and write) until it does not end in a write conflict, five times at most.
pub async fn retry_on_conflict<T, Fut>(mut attempt: impl FnMut() -> Fut) -> kube::Result<T>
where
    Fut: Future<Output = kube::Result<T>>,
{
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(err) if is_conflict(&err) => {
                tokio::time::sleep(PAUSE.mul_f64(1.0 + rand::random::<f64>() * 0.1)).await;
            }
            outcome => return outcome,
        }
    }
    attempt().await
}

/// Merges `status` into the status of the object called `name` (a JSON merge patch of the `/status` subresource).
pub async fn patch_status<K>(api: &Api<K>, name: &str, status: impl Serialize + Debug) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await
}

/// `Ok(None)` when the object is not there: deleting twice is success.
pub fn ignore_not_found<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(err) if is_not_found(&err) => Ok(None),
        Err(err) => Err(err),
    }
}

/// The server's own words where there are any.
pub fn status_message(err: &kube::Error) -> String {
    match err {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The server says 404, of an object or, in plain text, of a resource that it does not serve (any more).
pub fn is_not_found(err: &kube::Error) -> bool {
    matches!(err, kube::Error::Api(status) if status.code == 404)
}

/// The server says 409 because the object changed meanwhile (or a precondition failed).
pub fn is_conflict(err: &kube::Error) -> bool {
    matches!(err, kube::Error::Api(status) if status.is_conflict())
}

/// The server says 409 because the name is taken.
pub fn is_already_exists(err: &kube::Error) -> bool {
    matches!(err, kube::Error::Api(status) if status.is_already_exists())
}

/// The server refuses new content because the namespace is being deleted.
pub fn is_namespace_terminating(err: &kube::Error) -> bool {
    let kube::Error::Api(status) = err else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_forbidden() && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Whether somewhere in the chain of causes is what happens all the time to those who work from caches: the object has
/// changed or is gone meanwhile, or its namespace is on its way out. The next run sees it.
pub(crate) fn caused_by_old_news(err: &(dyn StdError + 'static)) -> bool {
    let is_old_news = |err: &kube::Error| is_conflict(err) || is_not_found(err) || is_namespace_terminating(err);
    let mut next = Some(err);
    while let Some(cause) = next {
        let boxed = || cause.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
        if cause.downcast_ref::<kube::Error>().or_else(boxed).is_some_and(is_old_news) {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kube::core::Status;

    use super::*;

    fn failure(code: u16, reason: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure("x", reason).with_code(code)))
    }

    async fn attempts(code: u16, reason: &'static str, succeed_at: u32) -> (u32, bool) {
        let count = Cell::new(0);
        let outcome = retry_on_conflict(|| async {
            count.set(count.get() + 1);
            if count.get() == succeed_at { Ok(()) } else { Err(failure(code, reason)) }
        })
        .await;
        (count.get(), outcome.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn only_conflicts_are_retried_and_not_forever() {
        assert_eq!(attempts(409, "Conflict", 3).await, (3, true));
        assert_eq!(attempts(409, "Conflict", 100).await, (5, false));
        assert_eq!(attempts(409, "AlreadyExists", 100).await, (1, false));
        assert_eq!(attempts(500, "InternalError", 100).await, (1, false));
    }

    #[test]
    fn a_resource_that_is_not_served_any_more_is_not_found_either() {
        // What the client library makes of `404 page not found`.
        assert!(is_not_found(&failure(404, "Failed to parse error data")));
        assert!(is_not_found(&failure(404, "NotFound")) && !is_not_found(&failure(403, "Forbidden")));
    }

    #[test]
    fn what_a_cache_did_not_show_yet_is_old_news_wherever_in_the_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("api request")]
        struct Outer(#[source] Box<kube::Error>);
        let check = |code: u16, reason: &str, expected: bool| {
            assert_eq!(caused_by_old_news(&failure(code, reason)), expected, "{reason}");
            assert_eq!(caused_by_old_news(&Outer(Box::new(failure(code, reason)))), expected, "{reason}, inside");
        };
        check(409, "Conflict", true);
        check(404, "NotFound", true);
        check(403, "Forbidden", false);
        check(500, "InternalError", false);
    }

    #[test]
    fn an_absent_object_is_no_error() {
        assert!(matches!(ignore_not_found::<()>(Err(failure(404, "NotFound"))), Ok(None)));
        assert!(ignore_not_found::<()>(Err(failure(403, "Forbidden"))).is_err());
    }
}
