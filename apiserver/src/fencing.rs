//! Refuses the writes of a leader that leads no more, by the lease that it says it holds: what lay in its buffers while it
//! was stopped arrives after others have taken over. What another server of the same store has acknowledged in the last
//! moments may not be known here yet.

use api::ApiError;
use api::status::Qualified;
use facts::held_lease::{HELD_LEASE, HeldLease};
use http::HeaderMap;

use crate::registry::Registry;

/// The kind of the lease.
const LEASES: Qualified<'static> = Qualified { group: "coordination.k8s.io", resource: "leases" };

/// The lease that a writer says it holds, if it says so.
pub(crate) fn claimed(headers: &HeaderMap) -> Result<Option<HeldLease>, ApiError> {
    let Some(value) = headers.get(HELD_LEASE) else { return Ok(None) };
    let wrong = |why: &str| ApiError::bad_request(format!("header {HELD_LEASE}: {why}"));
    let text = value.to_str().map_err(|_| wrong("is no text"))?;
    text.parse().map(Some).map_err(|err: facts::held_lease::NoLease| wrong(&err.to_string()))
}

/// Fails when the lease is not held by whom it should be.
pub(crate) async fn check(registry: &Registry, lease: &HeldLease) -> Result<(), ApiError> {
    let leases = registry.named(LEASES.group, LEASES.resource)?;
    leases.settle().await?;
    let found = leases.get(&leases.key(&lease.namespace, &lease.name)).map(|cached| cached.object());
    if found.is_some_and(|found| found.text(&["spec", "holderIdentity"]) == lease.holder) {
        return Ok(());
    }
    Err(ApiError::conflict(LEASES, &lease.name, "the writer does not hold the lease any more"))
}
