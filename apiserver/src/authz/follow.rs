//! Follows the objects of one resource in the watch cache, so that an index over them can be kept current: changes are
//! taken in when somebody asks, and nothing runs in between.

use std::sync::Arc;

use crate::watch_cache::{Beginning, Cached, Interest, ResourceCache, Subscription};

/// One step that an index takes.
pub(crate) enum Change<'a> {
    /// Forget everything: all objects follow as puts.
    Reset,
    /// The object is new or replaced.
    Put(&'a Cached),
    /// The object, as it was last, is gone.
    Gone(&'a Cached),
}

/// Where in a resource's history an index stands.
pub(crate) struct Follower {
    cache: Arc<ResourceCache>,
    subscription: Option<Subscription>,
    seen: u64,
}

impl Follower {
    pub(crate) fn new(cache: Arc<ResourceCache>) -> Self {
        Self { cache, subscription: None, seen: 0 }
    }

    /// Whether the resource has changed since the last [`Self::catch_up`].
    pub(crate) fn is_behind(&self) -> bool {
        self.subscription.is_none() || self.cache.changed() > self.seen
    }

    /// Applies all changes up to now.
    pub(crate) fn catch_up(&mut self, mut apply: impl FnMut(Change<'_>)) {
        if self.drain(&mut apply) {
            return;
        }
        apply(Change::Reset);
        // A watch that closes again is taken up anew by the next caller.
        let (beginning, subscription) = self.cache.watch_from_now(Interest::Everything);
        self.subscription = Some(subscription);
        if let Beginning::Objects(snapshot) = beginning {
            self.seen = snapshot.changed;
            snapshot.objects.values().for_each(|cached| apply(Change::Put(cached)));
        }
    }

    /// Takes in what waits; `false` when events may have been missed.
    fn drain(&mut self, apply: &mut impl FnMut(Change<'_>)) -> bool {
        let Some(subscription) = &mut self.subscription else { return false };
        loop {
            match subscription.try_next() {
                Ok(Some(event)) => {
                    self.seen = event.revision;
                    match (&event.current, &event.previous) {
                        (Some(current), _) => apply(Change::Put(current)),
                        (None, Some(previous)) => apply(Change::Gone(previous)),
                        (None, None) => {}
                    }
                }
                Ok(None) => return true,
                Err(_closed) => return false,
            }
        }
    }
}
