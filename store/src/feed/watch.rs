//! One watch: replays history until it has caught up, then follows live events.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{StreamExt as _, stream};

use super::Feed;
use super::watchers::Subscription;
use crate::{Error, Revision, WatchEvent, WatchStream};

/// How many events of history are looked at under one lock.
const STRIDE: usize = 1024;

/// Opens a watch on the events after `after`, which is at most `promised`, or on those to come.
pub(super) fn open(
    feed: &Arc<Feed>,
    prefix: &str,
    after: Option<Revision>,
    promised: Revision,
) -> Result<WatchStream, Error> {
    let mut watch = Watch { feed: feed.clone(), prefix: prefix.into(), seen: 0, replay: VecDeque::new(), live: None };
    {
        let mut watchers = feed.watchers();
        let history = feed.history();
        let newest = history.newest();
        // Revision 1 is the empty beginning, and nothing is before it.
        watch.seen = after.map_or(newest.max(promised), |revision| revision.max(1));
        if watch.seen > promised {
            history.covers(watch.seen)?;
        }
        if watch.seen >= newest {
            watch.live = Some(watchers.subscribe(&watch.prefix, feed.limits().watch_buffer)?);
        } else {
            history.covers(watch.seen)?;
        }
    }
    Ok(stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        match watch.next().await {
            Ok(event) => Some((Ok(event), Some(watch))),
            Err(err) => Some((Err(err), None)),
        }
    })
    .boxed())
}

struct Watch {
    feed: Arc<Feed>,
    prefix: Arc<str>,
    /// Every event up to here was delivered or is in `replay`.
    seen: Revision,
    replay: VecDeque<Arc<WatchEvent>>,
    /// Set once the watch has caught up with the newest revision.
    live: Option<Subscription>,
}

impl Watch {
    async fn next(&mut self) -> Result<WatchEvent, Error> {
        loop {
            if let Some(event) = self.replay.pop_front() {
                return Ok((*event).clone());
            }
            if let Some(live) = &mut self.live {
                let event = live.next().await?;
                // A watch may begin after what is yet to be published.
                if event.revision() > self.seen
                    || matches!(*event, WatchEvent::Progress(revision) if revision == self.seen)
                {
                    return Ok((*event).clone());
                }
                continue;
            }
            self.catch_up()?;
        }
    }

    /// Takes more events from history; when there are none, subscribes to those to come. New events are published under
    /// the watchers' lock, so none falls in between.
    fn catch_up(&mut self) -> Result<(), Error> {
        let mut watchers = self.feed.watchers();
        let history = self.feed.history();
        for event in history.after(self.seen, STRIDE)? {
            self.seen = event.revision();
            if event.key().is_some_and(|key| key.starts_with(&*self.prefix)) {
                self.replay.push_back(event.clone());
            }
        }
        if self.seen == history.newest() {
            self.live = Some(watchers.subscribe(&self.prefix, self.feed.limits().watch_buffer)?);
            // Whoever asked for progress during the replay gets it here.
            self.replay.push_back(Arc::new(WatchEvent::Progress(self.seen)));
        }
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            self.feed.watchers().unsubscribe(&self.prefix, live.id);
        }
    }
}
