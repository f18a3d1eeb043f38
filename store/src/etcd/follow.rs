//! Follows etcd with one watch over all keys, and feeds all watches of the store from it.
//!
//! ```text
//!  etcd ──▶ one watch, all keys, in revision order ──▶ feed: history ──▶ watch /registry/pods/
//!             reconnects after the last revision seen            └─────▶ watch /registry/nodes/ ...
//! ```
//! etcd's revision grows only when a key changes; so once this watch has shown revision n, all up to n was delivered.
//! And a watch that does not show, for a while, a revision that an answer to some request told of is stuck: its member
//! hangs, or is cut off from the others. Then it is taken up with another member. While all is well, nothing is asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::{Client, WatchOptions, WatchResponse, WatchStream as EtcdWatch};
use futures::{StreamExt as _, stream};
use tokio::sync::watch;
use tokio::time;
use tracing::{debug, warn};

use super::convert::{number, store_error, unsigned, watch_event};
use super::members::Members;
use super::{MESSAGE_BYTES, newest_revision};
use crate::feed::Feed;
use crate::{Error, Revision, WatchEvent, WatchStream};

/// How long to wait before connecting again, at first and at most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_AT_MOST: Duration = Duration::from_secs(3);
/// A watch that does not show for so long what was committed is stuck; twice as long each time it was of no help to take
/// it up anew, but not longer than the second.
const STUCK: Duration = Duration::from_secs(3);
const STUCK_AT_MOST: Duration = Duration::from_secs(24);
/// How long etcd may take to show the next events of the past, of which there are some.
const PAST: Duration = Duration::from_secs(6);

/// Brings what happens in etcd to the feed.
pub(super) struct Follower {
    pub(super) members: Arc<Members>,
    pub(super) feed: Arc<Feed>,
    pub(super) progress_wanted: Arc<AtomicU64>,
    pub(super) compact_every: Option<Duration>,
}

impl Follower {
    /// Works until it is dropped.
    pub(super) async fn run(self) {
        tokio::join!(self.follow(), self.compact());
    }

    async fn follow(&self) {
        let (mut pause, mut patience) = (PAUSE, STUCK);
        loop {
            let before = self.feed.history().newest();
            let (member, client) = self.members.current();
            let Err(err) = self.follow_once(&client, patience).await;
            if let Error::Unavailable { .. } = err {
                self.members.avoid(member);
            }
            if let Error::Compacted { .. } = err {
                warn!(revision = before, "etcd compacted what was not seen yet; all watches end");
            } else {
                warn!(error = &err as &dyn std::error::Error, "lost the watch on etcd; connecting again");
            }
            (pause, patience) = match self.feed.history().newest() > before {
                true => (PAUSE, STUCK),
                false => ((pause * 2).min(PAUSE_AT_MOST), (patience * 2).min(STUCK_AT_MOST)),
            };
            time::sleep(pause).await;
        }
    }

    /// Publishes events until the watch fails, or lags behind for longer than `patience`.
    async fn follow_once(&self, client: &Client, patience: Duration) -> Result<Infallible, Error> {
        let newest = newest_revision(&self.members).await?;
        let seen = self.feed.history().newest();
        if newest < seen {
            warn!(seen, newest, "etcd went back in time; all watches end");
            self.members.saw_only(newest);
            self.feed.restart_at(newest);
        }
        let seen = self.feed.history().newest();
        let mut watch = watch_all(client, seen).await?;
        let (mut told, mut moves) = (self.members.newest(), self.members.moves());
        loop {
            let seen = self.feed.history().newest();
            let next = tokio::select! {
                next = next_events(&mut watch, seen) => next,
                stuck = stuck(&mut told, seen, patience) => Err(stuck),
                never = self.ask_after(&mut moves) => match never {},
            };
            match next {
                Ok(events) => self.publish(&events),
                Err(err) => {
                    if let Error::Compacted { .. } = err {
                        self.feed.restart_at(newest_revision(&self.members).await?);
                    }
                    return Err(err);
                }
            }
        }
    }

    /// Asks how far the cluster is whenever requests go to another member: the one before may hang, and with it this watch.
    async fn ask_after(&self, moves: &mut watch::Receiver<usize>) -> Infallible {
        while moves.changed().await.is_ok() {
            if let Err(err) = newest_revision(&self.members).await {
                debug!(error = &err as &dyn std::error::Error, "no member says how far the cluster is");
            }
        }
        std::future::pending().await
    }

    fn publish(&self, events: &[Arc<WatchEvent>]) {
        let Some(last) = events.last() else { return };
        self.feed.publish(events, || {});
        let wanted = self.progress_wanted.load(Ordering::SeqCst);
        if wanted != 0 && wanted <= last.revision() && self.feed.tell_progress(wanted) {
            // A wish for a later revision that came in between stays.
            let _ = self.progress_wanted.compare_exchange(wanted, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Has etcd forget what is older than a period, whenever there is something to forget.
    async fn compact(&self) {
        let Some(every) = self.compact_every else { return };
        let mut compacted = self.feed.history().newest();
        let mut target = compacted;
        loop {
            time::sleep(every).await;
            if target > compacted {
                match compact(&self.members, target).await {
                    // Another process was first.
                    Ok(()) | Err(Error::Compacted { .. }) => compacted = target,
                    Err(err) => debug!(error = &err as &dyn std::error::Error, target, "compaction failed"),
                }
            }
            target = self.feed.history().newest();
        }
    }
}

/// Ends when a revision beyond what was seen has been known for so long.
async fn stuck(told: &mut watch::Receiver<Revision>, seen: Revision, patience: Duration) -> Error {
    // Without a sender there is nobody left to tell of revisions.
    let Ok(newest) = told.wait_for(|newest| *newest > seen).await.map(|newest| *newest) else {
        return std::future::pending().await;
    };
    time::sleep(patience).await;
    let reason = format!("the watch has not shown revision {newest} within {patience:?}");
    Error::Unavailable { reason }
}

/// Opens a watch over all keys on what follows a revision.
async fn watch_all(client: &Client, seen: Revision) -> Result<EtcdWatch, Error> {
    let options = WatchOptions::new().with_all_keys().with_prev_key().with_start_revision(number(seen + 1));
    let mut watch = client.watch_client().max_decoding_message_size(MESSAGE_BYTES);
    match time::timeout(STUCK, watch.watch("", Some(options))).await {
        Ok(opened) => opened.map_err(|err| store_error("watch", err)),
        Err(_elapsed) => Err(Error::Unavailable { reason: format!("etcd opened no watch within {STUCK:?}") }),
    }
}

/// Has etcd forget what is older than a revision.
pub(super) async fn compact(members: &Members, revision: Revision) -> Result<(), Error> {
    let call = |client: Client| async move { client.kv_client().compact(number(revision), None).await };
    members.write("compact", call).await.map(drop)
}

/// The events of the next response; none for one that has none.
async fn next_events(watch: &mut EtcdWatch, seen: Revision) -> Result<Vec<Arc<WatchEvent>>, Error> {
    let response = watch.message().await.map_err(|err| store_error("watch", err))?;
    let Some(response) = response else {
        return Err(Error::Unavailable { reason: "etcd ended the watch".into() });
    };
    if response.canceled() {
        return Err(canceled(&response, seen));
    }
    let events = response.events().iter().filter_map(watch_event);
    Ok(events.filter(|event| event.revision() > seen).map(Arc::new).collect())
}

fn canceled(response: &WatchResponse, seen: Revision) -> Error {
    match unsigned(response.compact_revision()) {
        0 => Error::Unavailable { reason: format!("etcd cancelled the watch: {}", response.cancel_reason()) },
        oldest => Error::Compacted { asked: seen, oldest },
    }
}

/// The oldest revision that etcd can read, which it says only to a watch that asks for more.
pub(super) async fn oldest(members: &Members) -> Result<Revision, Error> {
    let call = |client: Client| async move {
        let options = WatchOptions::new().with_all_keys().with_start_revision(1);
        let mut watch = client.watch_client().max_decoding_message_size(MESSAGE_BYTES).watch("", Some(options)).await?;
        while let Some(response) = watch.message().await? {
            if response.canceled() || !response.events().is_empty() {
                return Ok(unsigned(response.compact_revision()));
            }
        }
        Ok(0)
    };
    // A store that is not compacted begins at revision 1.
    members.read("watch", call).await.map(|oldest| oldest.max(1))
}

/// A watch that begins before the feed's history: it reads etcd's until it meets the feed.
pub(super) async fn replay(
    members: &Members,
    feed: Arc<Feed>,
    prefix: &str,
    after: Revision,
) -> Result<WatchStream, Error> {
    let etcd = watch_all(&members.current().1, after).await?;
    let replay = Replay { etcd, feed, prefix: prefix.into(), seen: after, events: VecDeque::new(), live: None };
    Ok(stream::unfold(Some(replay), |replay| async {
        let mut replay = replay?;
        match replay.next().await? {
            Ok(event) => Some((Ok(event), Some(replay))),
            Err(err) => Some((Err(err), None)),
        }
    })
    .boxed())
}

struct Replay {
    etcd: EtcdWatch,
    feed: Arc<Feed>,
    prefix: String,
    /// Every event up to here was delivered or is in `events`.
    seen: Revision,
    events: VecDeque<Arc<WatchEvent>>,
    /// Set once the feed has all that follows.
    live: Option<WatchStream>,
}

impl Replay {
    async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok((*event).clone()));
            }
            if let Some(live) = &mut self.live {
                return live.next().await;
            }
            if let Err(err) = self.catch_up().await {
                return Some(Err(err));
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), Error> {
        match self.feed.watch(&self.prefix, Some(self.seen), self.seen) {
            Err(Error::Compacted { .. }) => {}
            live => {
                self.live = Some(live?);
                // Whoever asked for progress during the replay gets it here.
                self.events.push_back(Arc::new(WatchEvent::Progress(self.seen)));
                return Ok(());
            }
        }
        // There are events to come: the feed begins after them.
        let next = time::timeout(PAST, next_events(&mut self.etcd, self.seen)).await;
        let events = next.unwrap_or_else(|_elapsed| {
            Err(Error::Unavailable { reason: format!("etcd showed nothing of the past within {PAST:?}") })
        })?;
        self.seen = events.last().map_or(self.seen, |event| event.revision());
        self.events
            .extend(events.into_iter().filter(|event| event.key().is_some_and(|key| key.starts_with(&self.prefix))));
        Ok(())
    }
}
