//! The store as the registry sees it: plain values, which lie sealed in the store below. Upstream: `storage/value`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use store::{Entry, Error, Expected, Page, Range, Revision, Store, WatchEvent, WatchStream};

use super::AtRest;

/// A store that seals and opens. What cannot be opened is [`Error::Unreadable`], which names the key.
pub(crate) struct Sealed {
    below: Arc<dyn Store>,
    at_rest: Arc<AtRest>,
}

impl Sealed {
    pub(crate) fn new(below: Arc<dyn Store>, at_rest: Arc<AtRest>) -> Self {
        Self { below, at_rest }
    }

    /// Whether what lies at a key would be sealed otherwise now.
    pub(crate) async fn is_stale(&self, key: &str) -> Result<bool, Error> {
        let Some(entry) = self.below.get(key).await? else { return Ok(false) };
        let opened = self.at_rest.open(key, &entry.value).await.map_err(|err| unreadable(key, err))?;
        Ok(opened.stale)
    }

    /// An error as it is told above: what is there instead is opened. If it cannot be, the conflict is still one.
    async fn told(&self, err: Error) -> Error {
        match err {
            Error::Conflict { key, current: Some(current) } => {
                Error::Conflict { key, current: opened(&self.at_rest, *current).await.ok().map(Box::new) }
            }
            err => err,
        }
    }

    /// Whether new values of a key are sealed.
    pub(crate) fn seals(&self, key: &str) -> bool {
        self.at_rest.seals(key)
    }
}

/// The error for a value that cannot be opened, or not be sealed.
fn unreadable(key: &str, err: super::Error) -> Error {
    Error::Unreadable { key: key.to_owned(), source: Box::new(err) }
}

async fn opened(at_rest: &AtRest, entry: Entry) -> Result<Entry, Error> {
    let opened = at_rest.open(&entry.key, &entry.value).await.map_err(|err| unreadable(&entry.key, err))?;
    Ok(Entry { value: opened.value, ..entry })
}

/// The value before a change is a courtesy; without it watchers still know all they need.
async fn opened_previous(at_rest: &AtRest, previous: Option<Entry>) -> Option<Entry> {
    opened(at_rest, previous?).await.ok()
}

#[async_trait]
impl Store for Sealed {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        match self.below.get(key).await? {
            Some(entry) => opened(&self.at_rest, entry).await.map(Some),
            None => Ok(None),
        }
    }

    async fn list(&self, range: Range) -> Result<Page, Error> {
        let mut page = self.below.list(range).await?;
        let mut entries = Vec::with_capacity(page.entries.len());
        for entry in std::mem::take(&mut page.entries) {
            entries.push(opened(&self.at_rest, entry).await?);
        }
        Ok(Page { entries, ..page })
    }

    async fn put(&self, key: &str, value: Bytes, expected: Expected, ttl: Option<Duration>) -> Result<Revision, Error> {
        let sealed = self.at_rest.seal(key, value).await.map_err(|err| unreadable(key, err))?;
        match self.below.put(key, sealed, expected, ttl).await {
            Err(err) => Err(self.told(err).await),
            done => done,
        }
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, Error> {
        match self.below.delete(key, expected).await {
            Err(err) => Err(self.told(err).await),
            done => done,
        }
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream, Error> {
        let events = self.below.watch(prefix, after).await?;
        let at_rest = self.at_rest.clone();
        let opened = events.then(move |event| {
            let at_rest = at_rest.clone();
            async move {
                Ok(match event? {
                    WatchEvent::Put { entry, previous } => WatchEvent::Put {
                        entry: opened(&at_rest, entry).await?,
                        previous: opened_previous(&at_rest, previous).await,
                    },
                    WatchEvent::Delete { key, revision, previous } => {
                        WatchEvent::Delete { key, revision, previous: opened_previous(&at_rest, previous).await }
                    }
                    progress @ WatchEvent::Progress(_) => progress,
                })
            }
        });
        Ok(opened.boxed())
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.below.revision().await
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.below.request_progress().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.below.compact(revision).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.below.check().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.below.close().await
    }
}
