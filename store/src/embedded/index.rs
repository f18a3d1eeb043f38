//! The in-memory index: the newest entries, and the way back from them through history.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use super::tree::Tree;
use crate::feed::Feed;
use crate::{Entry, Error, Page, Range, Revision, WatchEvent};

/// How many events are looked at under one read lock, so that a long look back never holds up the writer for long.
const STRIDE: usize = 1024;

/// The entries at a revision; a clone is a snapshot in O(1).
#[derive(Clone)]
pub(super) struct Newest {
    pub(super) entries: Tree,
    pub(super) revision: Revision,
}

impl Newest {
    /// Makes a change.
    pub(super) fn apply(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Put { entry, .. } => self.entries.insert(entry.clone()),
            WatchEvent::Delete { key, .. } => self.entries.remove(key),
            WatchEvent::Progress(_) => {}
        }
        self.revision = event.revision();
    }
}

/// The newest entries, which one writer changes and everyone reads, and the events that led to them.
pub(super) struct Index {
    newest: RwLock<Newest>,
    pub(super) feed: Arc<Feed>,
}

impl Index {
    pub(super) fn new(newest: Newest, feed: Feed) -> Self {
        Self { newest: RwLock::new(newest), feed: Arc::new(feed) }
    }

    pub(super) fn newest(&self) -> RwLockReadGuard<'_, Newest> {
        self.newest.read().expect("no panic under this lock")
    }

    /// Makes committed changes visible.
    pub(super) fn apply(&self, events: &[Arc<WatchEvent>]) {
        let mut newest = self.newest.write().expect("no panic under this lock");
        events.iter().for_each(|event| newest.apply(event));
    }

    /// Reads a range: O(log n + page), plus the number of events since the revision asked for.
    pub(super) fn list(&self, range: &Range) -> Result<Page, Error> {
        let newest = self.newest().clone();
        // Revision 1 is the empty beginning, and nothing is before it.
        let revision = range.revision.map_or(newest.revision, |revision| revision.max(1));
        if revision > newest.revision {
            return Err(Error::Future { asked: revision, newest: newest.revision });
        }
        let changed = self.changed_between(revision, newest.revision, range)?;
        Ok(page(&newest.entries, &changed, range, revision))
    }

    /// The keys of a range that were written after `from` and up to `to`.
    fn changed_between(
        &self,
        from: Revision,
        to: Revision,
        range: &Range,
    ) -> Result<BTreeMap<Arc<str>, Changed>, Error> {
        let mut changed = BTreeMap::new();
        let mut seen = from;
        while seen < to {
            let left = usize::try_from(to - seen).unwrap_or(STRIDE).min(STRIDE);
            let history = self.feed.history();
            for event in history.after(seen, left)? {
                seen = event.revision();
                let Some(key) = event.key().filter(|key| key.starts_with(&range.prefix) && !is_before(key, range))
                else {
                    continue;
                };
                let lives = matches!(**event, WatchEvent::Put { .. });
                changed
                    .entry(key.clone())
                    .and_modify(|changed: &mut Changed| changed.lives = lives)
                    .or_insert_with(|| Changed { then: event.previous().cloned(), lives });
            }
        }
        Ok(changed)
    }
}

/// What became of a key since a past revision.
struct Changed {
    /// The entry at the past revision.
    then: Option<Entry>,
    /// Whether the newest entries have the key.
    lives: bool,
}

/// Whether a key lies before a range begins.
fn is_before(key: &str, range: &Range) -> bool {
    key < range.prefix.as_str() || range.after.as_deref().is_some_and(|after| key <= after)
}

/// Cuts a page out of the newest entries, with the changed keys put back to what they were.
fn page(entries: &Tree, changed: &BTreeMap<Arc<str>, Changed>, range: &Range, revision: Revision) -> Page {
    let prefix = range.prefix.as_str();
    let begin = entries.rank(|key| is_before(key, range));
    let end = entries.rank(|key| key < prefix || key.starts_with(prefix));
    let now = end.saturating_sub(begin);
    let lives = changed.values().filter(|changed| changed.lives).count();
    let lived = changed.values().filter(|changed| changed.then.is_some()).count();
    let total = now - lives + lived;

    let unchanged = entries
        .iter_from(|key| is_before(key, range))
        .take_while(|entry| entry.key.starts_with(prefix))
        .filter(|entry| changed.is_empty() || !changed.contains_key(&entry.key));
    let restored = changed.values().filter_map(|changed| changed.then.as_ref());
    let wanted = range.limit.map_or(total, |limit| limit.min(total));
    let mut page = Vec::with_capacity(wanted);
    page.extend(merge(unchanged, restored).take(wanted).cloned());
    Page { revision, remaining: (total - page.len()) as u64, entries: page }
}

/// Merges two sequences of entries in key order.
pub(super) fn merge<'a>(
    left: impl Iterator<Item = &'a Entry>,
    right: impl Iterator<Item = &'a Entry>,
) -> impl Iterator<Item = &'a Entry> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(a), Some(b)) if b.key < a.key => right.next(),
        (Some(_), _) => left.next(),
        (None, _) => right.next(),
    })
}
