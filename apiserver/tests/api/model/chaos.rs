//! A store whose watches stutter, break, and fall behind, as those of a busy store do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use store::{Entry, Error, Expected, Page, Range, Revision, Store, WatchStream};

/// The store, and what chance does to it.
pub(super) struct Chaos {
    inner: Arc<dyn Store>,
    rng: Mutex<StdRng>,
}

impl Chaos {
    pub(super) fn new(inner: Arc<dyn Store>, seed: u64) -> Self {
        Self { inner, rng: Mutex::new(StdRng::seed_from_u64(seed)) }
    }
}

#[async_trait]
impl Store for Chaos {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.inner.get(key).await
    }

    async fn list(&self, range: Range) -> Result<Page, Error> {
        self.inner.list(range).await
    }

    async fn put(&self, key: &str, value: Bytes, expected: Expected, ttl: Option<Duration>) -> Result<Revision, Error> {
        self.inner.put(key, value, expected, ttl).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, Error> {
        self.inner.delete(key, expected).await
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream, Error> {
        let events = self.inner.watch(prefix, after).await?;
        let rng = StdRng::seed_from_u64(self.rng.lock().unwrap().random());
        let inner = self.inner.clone();
        let stuttering = futures::stream::unfold(Some((inner, events, rng)), |state| async {
            let (inner, mut events, mut rng) = state?;
            match rng.random_range(0..200) {
                0 => {
                    // What was not read in time is forgotten.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let forgotten = inner.compact(inner.revision().await.ok()?).await;
                    return Some((Err(forgotten.err().unwrap_or(Error::TooSlow)), None));
                }
                1 | 2 => return Some((Err(Error::Unavailable { reason: "chance".into() }), None)),
                3..20 => tokio::time::sleep(Duration::from_millis(rng.random_range(1..10))).await,
                _ => {}
            }
            Some((events.next().await?, Some((inner, events, rng))))
        });
        Ok(stuttering.boxed())
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.inner.revision().await
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.inner.request_progress().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.inner.check().await
    }
}
