//! Brings the bootstrap objects back when somebody deletes or damages them.
//!
//! Upstream has a controller for each of them, which looks every ten seconds or every minute (`kubernetesservice`,
//! `systemnamespaces`, `flowcontrolrest`, `clusterauthenticationtrust`), or only at the start (roles, priority classes).
//! Here a watch of each kind says when to look, so nothing is written, or even read, while nothing changes.

use std::sync::Arc;
use std::time::Duration;

use api::Object;
use futures::future::join_all;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::ensure_one;
use crate::core::Core;
use crate::watch_cache::{Interest, ResourceCache, Subscription};

/// The objects of a kind are looked at once in this time at most, whatever others do to them.
const REST: Duration = Duration::from_millis(500);
/// The first and the longest pause before what failed is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// The objects of one kind.
struct Kept {
    cache: Arc<ResourceCache>,
    objects: Vec<Object>,
}

/// Keeps the objects, until shutdown.
pub(crate) async fn keep(core: Arc<Core>, objects: Vec<Object>, shutdown: CancellationToken) {
    let mut kinds: Vec<Kept> = Vec::new();
    for object in objects {
        // A kind that is not served was not made either.
        let Ok((cache, _)) = super::place(&core, &object) else { continue };
        match kinds.iter_mut().find(|kept| Arc::ptr_eq(&kept.cache, &cache)) {
            Some(kept) => kept.objects.push(object),
            None => kinds.push(Kept { cache, objects: vec![object] }),
        }
    }
    let all = join_all(kinds.into_iter().map(|kept| kept.run(core.clone())));
    shutdown.run_until_cancelled(all).await;
}

impl Kept {
    /// Never returns.
    async fn run(self, core: Arc<Core>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let (_, mut events) = self.cache.watch_from_now(self.interest());
            loop {
                let is_right = self.put_right(&core).await;
                pause = if is_right { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
                let again = async {
                    if is_right {
                        std::future::pending().await
                    } else {
                        sleep(pause).await;
                    }
                };
                let is_open = tokio::select! {
                    event = events.next() => event.is_some(),
                    () = again => true,
                };
                sleep(REST).await;
                if !is_open || !skip(&mut events) {
                    break;
                }
            }
        }
    }

    /// One object is watched alone: others of its kind may change all the time.
    fn interest(&self) -> Interest {
        match self.objects.as_slice() {
            [only] => Interest::Key(self.cache.key(only.namespace(), only.name()).into()),
            _ => Interest::Everything,
        }
    }

    /// Whether all objects are as they shall be.
    async fn put_right(&self, core: &Core) -> bool {
        let mut is_right = true;
        for object in &self.objects {
            let (kind, name) = (object.kind(), object.name());
            match ensure_one(core, object).await {
                Ok(false) => {}
                Ok(true) => warn!(kind, name, "was deleted or damaged, and is as it was again"),
                Err(err) => {
                    debug!(kind, name, error = &err as &dyn std::error::Error, "not put right yet, trying again");
                    is_right = false;
                }
            }
        }
        is_right
    }
}

/// Goes on to what is now; `false` if the subscription has ended.
fn skip(events: &mut Subscription) -> bool {
    loop {
        match events.try_next() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_closed) => return false,
        }
    }
}
