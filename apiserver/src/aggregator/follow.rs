//! Follows the server of one APIService: looks at it at a bounded pace, and when its Service or endpoints change,
//! writes the condition when that changes, and shows what was found. Upstream: `AvailableConditionController` of remote
//! services.

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Object};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::availability::Verdict;
use super::backend::Backend;
use super::found::{Found, Shown};
use super::look::{self, Memory, Version};
use super::metrics::Watched;
use super::service::Place;
use crate::outbound::services::is_of;
use crate::registry::Registry;
use crate::watch_cache::{Interest, ResourceCache, Subscription};

/// A server is looked at again after this time, whatever happens (upstream's resync).
const EVERY: Duration = Duration::from_secs(30);
/// It is looked at once in this time at most, whatever changes.
const REST: Duration = Duration::from_millis(200);
/// The first pause after a look at a server that did not answer; they grow up to [`EVERY`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// So many servers are looked at at a time, however many there are.
const AT_ONCE: usize = 16;

/// The looks that go on.
#[derive(Clone, Debug)]
pub(super) struct Looks(Arc<Semaphore>);

impl Default for Looks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// What follows one server.
pub(super) struct Follower {
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) backend: Arc<Backend>,
    pub(super) shown: Arc<Shown>,
    pub(super) registry: Arc<Registry>,
    /// The APIServices.
    pub(super) cache: Arc<ResourceCache>,
    pub(super) looks: Looks,
    pub(super) gauge: Watched,
}

/// The changes of the Service and its endpoints.
struct Changes {
    service: Subscription,
    slices: Subscription,
}

impl Follower {
    /// Follows until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&self) {
        let mut memory = Memory::default();
        let mut pause = FIRST_PAUSE;
        loop {
            let changes = self.changes();
            let is_well = self.look(&mut memory).await;
            pause = if is_well { FIRST_PAUSE } else { (pause * 2).min(EVERY) };
            let again = Instant::now() + if is_well { EVERY } else { pause };
            sleep(REST).await;
            match changes {
                Some(changes) => {
                    tokio::select! {
                        () = changes.next(&self.backend.place) => {}
                        () = sleep_until(again) => {}
                    }
                }
                None => sleep_until(again).await,
            }
        }
    }

    fn changes(&self) -> Option<Changes> {
        let Place { namespace, name, .. } = &self.backend.place;
        let (services, slices) = self.backend.dialer().services().caches()?;
        let key = Interest::Key(services.key(namespace, name).into());
        Some(Changes {
            service: services.watch_from_now(key).1,
            slices: slices.watch_from_now(Interest::Namespace(namespace.as_str().into())).1,
        })
    }

    /// Looks at the server, and tells of it; whether nothing has to be tried again soon.
    async fn look(&self, memory: &mut Memory) -> bool {
        // The semaphore is never closed.
        let _turn = self.looks.0.acquire().await;
        let verdict = look::check(&self.backend, &self.version).await;
        // First what is served, then that it is: who waits for the condition finds the resources.
        let found = match verdict.is_available {
            true => look::find(&self.backend, &self.version, memory).await,
            false => Found::default(),
        };
        let is_well = verdict.reason != "FailedDiscoveryCheck" && (found.is_current || !verdict.is_available);
        self.shown.set(found);
        self.gauge.set(verdict.is_available);
        match write(&self.registry, &self.cache, &self.name, &verdict).await {
            Ok(()) => is_well,
            Err(err) => {
                tracing::debug!(name = self.name, error = &err as &dyn std::error::Error, "condition not written yet");
                false
            }
        }
    }
}

impl Changes {
    /// Waits for the next change that is about the server.
    async fn next(mut self, place: &Place) {
        let about_it =
            |object: Option<&Arc<crate::watch_cache::Cached>>| object.is_some_and(|it| is_of(it, &place.name));
        let slice = async {
            while let Some(event) = self.slices.next().await {
                if about_it(event.current.as_ref()) || about_it(event.previous.as_ref()) {
                    return;
                }
            }
        };
        tokio::select! {
            _ = self.service.next() => {}
            () = slice => {}
        }
    }
}

/// Writes the condition of an APIService, if it says something else.
pub(super) async fn write(
    registry: &Registry,
    cache: &Arc<ResourceCache>,
    name: &str,
    verdict: &Verdict,
) -> Result<(), ApiError> {
    let says_so = |object: &Object| {
        let mut said = object.clone();
        verdict.write(&mut said, jiff::Timestamp::UNIX_EPOCH);
        said == *object
    };
    if cache.get(&cache.key("", name)).is_none_or(|cached| says_so(&cached.object())) {
        return Ok(());
    }
    match registry.change_status(cache, name, |object, now| verdict.write(object, now)).await {
        // Deleted meanwhile: an event is on its way.
        Err(err) if err.is_not_found() => Ok(()),
        written => written,
    }
}
