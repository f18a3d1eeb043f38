//! What clients of a store know: whatever a power loss leaves must agree with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt as _;
use store::embedded::EmbeddedStore;
use store::{Error, Expected, Range, Revision, Store, WatchEvent};

/// A write: a delete without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) key: String,
    pub(crate) value: Option<Bytes>,
}

/// What was acknowledged or shown, and what was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    written: BTreeMap<Revision, Written>,
    /// Writes without an answer: each is there as a whole, or not at all.
    pub(crate) unanswered: Vec<Written>,
    /// History is forgotten up to here, at least.
    pub(crate) compacted: Revision,
    /// And to here, at most.
    pub(crate) perhaps_compacted: Revision,
}

impl Known {
    /// Someone was told of a write.
    ///
    /// # Panics
    /// When someone was told otherwise before.
    pub(crate) fn saw(&mut self, revision: Revision, written: Written) {
        let before = self.written.insert(revision, written.clone());
        assert!(before.is_none_or(|before| before == written), "revision {revision} was two writes");
    }

    /// The newest revision that someone was told of.
    pub(crate) fn newest(&self) -> Revision {
        self.written.last_key_value().map_or(1, |(&revision, _)| revision)
    }

    pub(crate) fn writes(&self) -> usize {
        self.written.len()
    }

    /// Compares a store that has just been opened with what is known, and says what is wrong. What it shows is known then.
    pub(crate) async fn check(&mut self, store: &EmbeddedStore) -> Result<(), String> {
        let (newest, seen) = (store.revision().await.unwrap(), self.newest());
        if newest < seen {
            return Err(format!("the newest revision is {newest}, and {seen} was acknowledged or shown"));
        }
        let oldest = oldest(store).await;
        if oldest < self.compacted || oldest > self.perhaps_compacted.max(1) {
            let (certain, perhaps) = (self.compacted, self.perhaps_compacted);
            return Err(format!("history begins at {oldest}; it was compacted to {certain}, perhaps {perhaps}"));
        }
        for (revision, written) in events(store, oldest, newest).await? {
            self.agree(revision, written)?;
        }
        self.unanswered.clear();
        (self.compacted, self.perhaps_compacted) = (oldest, oldest);
        self.compare(store).await
    }

    /// Takes a write that the store has, if it may have it.
    fn agree(&mut self, revision: Revision, written: Written) -> Result<(), String> {
        if let Some(known) = self.written.get(&revision) {
            let agrees = *known == written;
            return if agrees { Ok(()) } else { Err(format!("revision {revision} is not what was acknowledged")) };
        }
        let asked = self.unanswered.iter().position(|unanswered| *unanswered == written);
        let asked = asked.ok_or_else(|| format!("revision {revision}, of {}, is what nobody wrote", written.key))?;
        self.unanswered.swap_remove(asked);
        self.written.insert(revision, written);
        Ok(())
    }

    /// Compares the newest entries with what all writes make.
    async fn compare(&self, store: &EmbeddedStore) -> Result<(), String> {
        let mut expected: BTreeMap<&str, (Revision, Revision, Bytes)> = BTreeMap::new();
        for (&revision, Written { key, value }) in &self.written {
            match value {
                Some(value) => {
                    let created = expected.get(key.as_str()).map_or(revision, |&(created, ..)| created);
                    expected.insert(key, (created, revision, value.clone()));
                }
                None => drop(expected.remove(key.as_str())),
            }
        }
        let page = store.list(Range::default()).await.unwrap();
        let entries = page.entries.into_iter();
        let found: BTreeMap<_, _> = entries
            .map(|entry| (entry.key.to_string(), (entry.create_revision, entry.mod_revision, entry.value)))
            .collect();
        let mut keys = expected.keys().copied().chain(found.keys().map(String::as_str));
        match keys.find(|key| expected.get(key) != found.get(*key)) {
            None => Ok(()),
            Some(key) => {
                let short =
                    |entry: Option<&(u64, u64, Bytes)>| entry.map(|(from, at, value)| (*from, *at, value.len()));
                let (expected, found) = (short(expected.get(key)), short(found.get(key)));
                Err(format!("{key} is {found:?} (created, changed, length) and not {expected:?}"))
            }
        }
    }

    /// Sees that the store goes on where it was: the next write has the next revision, and a watch from what clients saw last
    /// before the power loss gets all that came since, and that write.
    pub(crate) async fn go_on(&mut self, store: &EmbeddedStore, last_seen: Revision, key: &str) -> Result<(), String> {
        let from = last_seen.max(self.compacted);
        let newest = self.newest();
        let put = store.put(key, "goes on".into(), Expected::Absent, None).await;
        let revision = put.map_err(|err| format!("write {key}: {err}"))?;
        if revision != newest + 1 {
            return Err(format!("the write after revision {newest} has {revision}"));
        }
        self.saw(revision, Written { key: key.to_owned(), value: Some("goes on".into()) });
        for (revision, written) in events(store, from, revision).await? {
            self.agree(revision, written)?;
        }
        Ok(())
    }
}

/// The oldest revision that can be read.
async fn oldest(store: &EmbeddedStore) -> Revision {
    match store.list(Range { revision: Some(1), limit: Some(1), ..Range::default() }).await {
        Ok(_) => 1,
        Err(Error::Compacted { oldest, .. }) => oldest,
        Err(err) => panic!("{err}"),
    }
}

/// All that a watch gets from one revision to another.
async fn events(store: &EmbeddedStore, after: Revision, to: Revision) -> Result<Vec<(Revision, Written)>, String> {
    let watch = store.watch("", Some(after)).await;
    let mut watch = watch.map_err(|err| format!("watch from {after}: {err}"))?;
    let mut found = Vec::new();
    for revision in after + 1..=to {
        let event = loop {
            match watch.next().await {
                Some(Ok(WatchEvent::Progress(_))) => {}
                Some(Ok(event)) => break event,
                other => return Err(format!("a watch ends at {revision} of {to}: {other:?}")),
            }
        };
        if event.revision() != revision {
            return Err(format!("a watch has {} after {}", event.revision(), revision - 1));
        }
        found.push(match event {
            WatchEvent::Put { entry, .. } => {
                (revision, Written { key: entry.key.to_string(), value: Some(entry.value) })
            }
            WatchEvent::Delete { key, .. } => (revision, Written { key: key.to_string(), value: None }),
            WatchEvent::Progress(_) => continue,
        });
    }
    Ok(found)
}
