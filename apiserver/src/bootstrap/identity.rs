//! The Lease by which others know which API servers there are (KEP-1965), and its end: Leases of servers that have not been
//! heard of for an hour go.

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Object};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{APISERVER, options, place};
use crate::core::Core;
use crate::registry::Target;
use crate::request::options::DeleteOptions;
use crate::watch_cache::ResourceCache;

const NAMESPACE: &str = "kube-system";
const IDENTITY: &str = "apiserver.kubernetes.io/identity";
const COMPONENT: &str = "kube-apiserver";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// How long a Lease lasts without being renewed, in seconds.
const LIFE: i64 = 3600;
/// Upstream's ten seconds would be half of what an idle server writes, for a Lease that lasts an hour.
const RENEWALS: Duration = Duration::from_secs(60);
const COLLECTIONS: Duration = Duration::from_secs(3600);

/// Renews the Lease of this server, and collects those of others that are gone, until shutdown.
pub(crate) async fn follow(core: Arc<Core>, shutdown: CancellationToken) {
    let Some(host) = core.config.identity.clone() else { return };
    let name = name_of(&host);
    let holder = format!("{name}_{}", uuid::Uuid::new_v4());
    let rounds = async {
        let mut collected: Option<Instant> = None;
        loop {
            if let Err(err) = renew(&core, &host, &name, &holder).await {
                warn!(error = &err as &dyn std::error::Error, "the lease of this server is not renewed");
            }
            if collected.is_none_or(|last| last.elapsed() >= COLLECTIONS) {
                collected = Some(Instant::now());
                collect(&core, Timestamp::now()).await;
            }
            sleep(RENEWALS).await;
        }
    };
    shutdown.run_until_cancelled(rounds).await;
}

/// `apiserver-` and what identifies the machine: half of the hash of its name.
fn name_of(host: &str) -> String {
    let hash = Sha256::digest(host.as_bytes());
    format!("apiserver-{}", base32(&hash[..16]))
}

/// RFC 4648 in small letters, without padding.
fn base32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bits = bytes.len() * 8;
    let bit = |at: usize| if at < bits { bytes[at / 8] >> (7 - at % 8) & 1 } else { 0 };
    let digit = |at: usize| (at..at + 5).fold(0, |digit, at| digit << 1 | usize::from(bit(at)));
    (0..bits).step_by(5).map(|at| char::from(DIGITS[digit(at)])).collect()
}

fn wanted(host: &str, name: &str, holder: &str, now: Timestamp) -> Object {
    let tree = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {IDENTITY: COMPONENT, HOSTNAME: host}},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": LIFE, "renewTime": micros(now)},
    });
    Object::from_value(tree).expect("the tree is an object")
}

fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

async fn renew(core: &Core, host: &str, name: &str, holder: &str) -> Result<(), ApiError> {
    let wanted = wanted(host, name, holder, Timestamp::now());
    let (cache, row) = place(core, &wanted)?;
    let target =
        Target { cache: &cache, client_row: &row, namespace: NAMESPACE, name: "", subresource: "", user: &APISERVER };
    let Some(cached) = cache.get(&cache.key(NAMESPACE, name)) else {
        return match core.registry.create(&target, wanted, &options(), &mut Vec::new()).await {
            // The cache has not heard of it yet.
            Err(err) if err.status().reason == "AlreadyExists" => Ok(()),
            outcome => outcome.map(|_| ()),
        };
    };
    let renewed = renewed(cached.object(), &wanted);
    match core.registry.update(&Target { name, ..target }, renewed, &options(), &mut Vec::new()).await {
        // It was renewed by another server of this machine, or is gone, and made again in the next round.
        Err(err) if matches!(err.status().reason.as_str(), "Conflict" | "NotFound") => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

/// The Lease as it was, with its labels and a new time. Who made it holds it.
fn renewed(mut lease: Object, wanted: &Object) -> Object {
    for label in [IDENTITY, HOSTNAME] {
        lease.set(&["metadata", "labels", label], wanted.label(label).unwrap_or_default());
    }
    lease.set(&["spec", "renewTime"], wanted.text(&["spec", "renewTime"]));
    lease
}

async fn collect(core: &Core, now: Timestamp) {
    let Ok(cache) = core.registry.named("coordination.k8s.io", "leases") else { return };
    let snapshot = cache.snapshot();
    let ours = snapshot.objects.values().filter(|one| one.namespace() == NAMESPACE);
    for cached in ours.filter(|one| one.labels.get(IDENTITY) == Some(COMPONENT)) {
        let lease = cached.object();
        if is_over(&lease, now)
            && let Err(err) = delete(core, &cache, &lease).await
        {
            warn!(name = lease.name(), error = &err as &dyn std::error::Error, "an old lease is not deleted");
        }
    }
}

/// A Lease without its times is nobody's.
fn is_over(lease: &Object, now: Timestamp) -> bool {
    let renewed: Option<Timestamp> = lease.text(&["spec", "renewTime"]).parse().ok();
    let life = lease.get(&["spec", "leaseDurationSeconds"]).and_then(Value::as_i64);
    let (Some(renewed), Some(life)) = (renewed, life) else { return true };
    now.duration_since(renewed) > SignedDuration::from_secs(life)
}

/// Only as it was seen: it may have been renewed.
async fn delete(core: &Core, cache: &Arc<ResourceCache>, lease: &Object) -> Result<(), ApiError> {
    let target = Target::stored(cache, NAMESPACE, lease.name(), &APISERVER);
    let options =
        DeleteOptions { resource_version: Some(lease.resource_version().to_owned()), ..DeleteOptions::default() };
    match core.registry.delete(&target, &options, &mut Vec::new()).await {
        Err(err) if matches!(err.status().reason.as_str(), "Conflict" | "NotFound") => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_which_upstream_gives_the_machine() {
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32(&[0xff; 16]).len(), 26);
        // The first half of the SHA-256 of "localhost".
        assert_eq!(name_of("localhost"), "apiserver-jgla3zmib2ggq5buc4hwi5talm");
    }

    #[test]
    fn a_lease_is_over_when_nobody_has_renewed_it() {
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let lease = |renewed: &str| {
            let at: Timestamp = renewed.parse().unwrap();
            wanted("h", "apiserver-x", "apiserver-x_1", at)
        };
        assert!(!is_over(&lease("2026-11-30T11:00:00Z"), now));
        assert!(is_over(&lease("2026-11-30T10:59:59Z"), now));
        let mut timeless = lease("2026-11-30T12:00:00Z");
        timeless.remove(&["spec", "renewTime"]);
        assert!(is_over(&timeless, now));
    }

    #[test]
    fn a_renewal_changes_neither_holder_nor_what_others_have_added() {
        let mut stored = wanted("h", "apiserver-x", "first", Timestamp::UNIX_EPOCH);
        stored.set(&["metadata", "annotations", "a"], "b");
        stored.remove(&["metadata", "labels"]);
        let now = wanted("h", "apiserver-x", "second", Timestamp::now());
        let lease = renewed(stored, &now);
        assert_eq!((lease.text(&["spec", "holderIdentity"]), lease.annotation("a")), ("first", Some("b")));
        assert_eq!(lease.label(IDENTITY), Some(COMPONENT));
        assert_eq!(lease.text(&["spec", "renewTime"]), now.text(&["spec", "renewTime"]));
    }
}
