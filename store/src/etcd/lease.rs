//! Leases for keys with a time to live; keys written at about the same time with the same one share a lease.

use std::collections::HashMap;
use std::time::Duration;

use etcd_client::Client;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::members::Members;
use crate::Error;

/// A lease is shared for this part of the time to live, by which its keys may live longer.
const SHARE: u32 = 20;
/// But no longer than this.
const SHARE_AT_MOST: Duration = Duration::from_secs(60);
/// The most keys on one lease: etcd deletes them in one transaction (upstream's limit).
const KEYS: u32 = 1000;

/// The leases to attach new keys to, by time to live.
#[derive(Default)]
pub(super) struct Leases {
    shared: Mutex<HashMap<Duration, Lease>>,
}

struct Lease {
    id: i64,
    until: Instant,
    keys: u32,
}

impl Leases {
    /// A lease that lasts at least `ttl` from now.
    pub(super) async fn lease_for(&self, members: &Members, ttl: Duration) -> Result<i64, Error> {
        let now = Instant::now();
        // Held while a lease is granted, so that writers that want the same one get one. It is a lock of tokio's.
        let mut shared = self.shared.lock().await;
        if let Some(lease) = shared.get_mut(&ttl).filter(|lease| lease.until > now && lease.keys < KEYS) {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let share = (ttl / SHARE).min(SHARE_AT_MOST);
        let seconds = (ttl + share).as_millis().div_ceil(1000);
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        // A lease that was granted twice expires unused.
        let call = |client: Client| async move { client.lease_client().grant(seconds, None).await };
        let grant = members.read("grant a lease", call).await?;
        shared.retain(|_, lease| lease.until > now);
        shared.insert(ttl, Lease { id: grant.id(), until: now + share, keys: 1 });
        Ok(grant.id())
    }
}
