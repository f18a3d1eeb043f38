//! Documents are made once, off the request path where that is possible, and kept compressed.
//!
//! ```text
//! catalog changed -> quiet for a moment -> the documents of custom resources, and all that were asked for before,
//!                                          one after the other, with pauses
//! request         -> kept? -> sent
//!                        \-> made now, one at a time -> kept -> sent
//! ```

mod packed;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::ApiError;
use api::catalog::Catalog;
use api::openapi::v2::{Foreign, Merged};
use api::openapi::{Places, message, v2};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

pub(crate) use self::packed::Packed;
use crate::registry::Registry;

/// Definitions often come in crowds: documents are made when none has come for so long.
const QUIET: Duration = Duration::from_millis(500);
/// Nor is more time than this spent on waiting.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// After a document that took some time to make, so many times as long is paused.
const PAUSE: u32 = 3;

/// The documents of other servers: their URLs by place.
pub(crate) type Elsewhere = BTreeMap<String, String>;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    V2,
    V2Message,
    /// Where all others are.
    V3Index,
    V3 {
        place: String,
    },
    V3Message {
        place: String,
    },
}

impl Which {
    /// A hash of what the document is made of; `None` when there is none.
    fn hash(&self, places: &Places) -> Option<String> {
        match self {
            Self::V2 | Self::V2Message | Self::V3Index => Some(v2::hash(places)),
            Self::V3 { place } | Self::V3Message { place } => places.hash(place).map(str::to_owned),
        }
    }

    /// Where the document is below `/openapi/v3/`, if it is one of those.
    pub(crate) fn place(&self) -> Option<&str> {
        match self {
            Self::V3 { place } | Self::V3Message { place } => Some(place),
            Self::V2 | Self::V2Message | Self::V3Index => None,
        }
    }

    /// Writes the document; of v2, with what others are about.
    fn write(&self, places: &Places, others: &Merged, out: &mut impl Write) -> io::Result<()> {
        let at = |place: &str| places.document(place).unwrap_or_default();
        match self {
            Self::V2 => {
                let mut json = v2::Json::new(out)?;
                v2::write(places, others, &mut json)?;
                json.finish().map(|_out| ())
            }
            Self::V2Message => {
                let mut message = message::v2::Message::default();
                v2::write(places, others, &mut message)?;
                out.write_all(&message.finish())
            }
            Self::V3Index => Ok(serde_json::to_writer(out, &places.index(&Elsewhere::new()))?),
            Self::V3 { place } => Ok(serde_json::to_writer(out, &at(place))?),
            Self::V3Message { place } => out.write_all(&message::v3::encode(&at(place))),
        }
    }
}

/// A document.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// A hash of what it was made of.
    pub(crate) hash: Arc<str>,
    pub(crate) text: Packed,
}

/// The documents that were made.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    kept: Mutex<Kept>,
    /// Documents of the whole API take long, and must not keep others waiting.
    whole: Arc<Turn<()>>,
    parts: Arc<Turn<()>>,
}

#[derive(Debug, Default)]
struct Kept {
    places: Option<Arc<Places>>,
    documents: HashMap<Which, Document>,
    /// Documents of v2 with the parts of other servers.
    merged: HashMap<Which, Document>,
}

impl Documents {
    /// The document of the catalog as it is now, made if it must be; `None` when there is none.
    pub(crate) async fn get(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        which: &Which,
    ) -> Result<Option<Document>, ApiError> {
        if let Some(known) = self.known(&registry.catalog(), which) {
            return Ok(known);
        }
        let turn = match which {
            Which::V2 | Which::V2Message => self.whole.clone().lock_owned().await,
            Which::V3Index | Which::V3 { .. } | Which::V3Message { .. } => self.parts.clone().lock_owned().await,
        };
        // Who had the turn before may have made it.
        let catalog = registry.catalog();
        if let Some(known) = self.known(&catalog, which) {
            return Ok(known);
        }
        self.make(turn, catalog, which.clone()).await
    }

    /// A document of v2 with the parts of other servers, made if it must be: `of_parts` is a hash of these, and `read`
    /// reads them.
    pub(crate) async fn merged(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        which: &Which,
        of_parts: &[u8],
        read: impl FnOnce() -> Vec<Foreign> + Send + 'static,
    ) -> Result<Document, ApiError> {
        let turn = self.whole.clone().lock_owned().await;
        let places = self.places(&registry.catalog());
        let hash = shown(&Sha256::new_with_prefix(v2::hash(&places)).chain_update(of_parts).finalize());
        let known = self.kept().merged.get(which).cloned();
        if let Some(known) = known.filter(|known| *known.hash == *hash) {
            return Ok(known);
        }
        let (documents, which) = (self.clone(), which.clone());
        let made = tokio::task::spawn_blocking(move || {
            let others = Merged::of(&places, read());
            let text = Packed::of(|out| which.write(&places, &others, out))?;
            let document = Document { hash: hash.into(), text };
            documents.kept().merged.insert(which, document.clone());
            drop(turn);
            Ok(document)
        });
        made.await.map_err(ApiError::internal)?.map_err(|err: io::Error| ApiError::internal(err))
    }

    /// The index of v3 with the documents of other servers, which come and go: made anew for each request.
    pub(crate) fn index(&self, catalog: &Catalog, elsewhere: &Elsewhere) -> Result<Document, ApiError> {
        let places = self.places(catalog);
        let hash = elsewhere.iter().fold(Sha256::new_with_prefix(v2::hash(&places)), |hash, (place, url)| {
            hash.chain_update(place).chain_update([0]).chain_update(url).chain_update([0])
        });
        let hash = shown(&hash.finalize());
        let written = Packed::of(|out| Ok(serde_json::to_writer(out, &places.index(elsewhere))?));
        Ok(Document { hash: hash.into(), text: written.map_err(ApiError::internal)? })
    }

    /// Where documents are now.
    pub(crate) fn places(&self, catalog: &Catalog) -> Arc<Places> {
        let known = self.kept().places.clone();
        known.filter(|places| places.catalog().is(catalog)).unwrap_or_else(|| {
            let places = Arc::new(Places::of(catalog));
            let mut kept = self.kept();
            // Groups of custom resources come and go.
            kept.documents.retain(|which, _| which.place().is_none_or(|place| places.hash(place).is_some()));
            kept.places = Some(places.clone());
            places
        })
    }

    /// What is kept of a document: that there is none, or the document, if it is not out of date.
    fn known(&self, catalog: &Catalog, which: &Which) -> Option<Option<Document>> {
        let places = self.places(catalog);
        let Some(hash) = which.hash(&places) else { return Some(None) };
        let known = self.kept().documents.get(which).cloned();
        known.filter(|document| *document.hash == *hash).map(Some)
    }

    /// Makes a document where it keeps nobody waiting. The turn is held until it is made, also when nobody waits for it
    /// any more.
    async fn make(
        self: &Arc<Self>,
        turn: OwnedMutexGuard<()>,
        catalog: Catalog,
        which: Which,
    ) -> Result<Option<Document>, ApiError> {
        let documents = self.clone();
        let made = tokio::task::spawn_blocking(move || {
            let places = documents.places(&catalog);
            let Some(hash) = which.hash(&places) else { return Ok(None) };
            let text = Packed::of(|out| which.write(&places, &Merged::default(), out))?;
            let document = Document { hash: hash.into(), text };
            documents.kept().documents.insert(which, document.clone());
            drop(turn);
            Ok(Some(document))
        });
        made.await.map_err(ApiError::internal)?.map_err(|err: io::Error| ApiError::internal(err))
    }

    /// Makes new documents when custom resources come, change or go, until shutdown.
    pub(crate) async fn follow(self: Arc<Self>, registry: Arc<Registry>, shutdown: CancellationToken) {
        let mut catalogs = registry.catalogs();
        catalogs.mark_changed();
        let following = async {
            while catalogs.changed().await.is_ok() {
                let began = Instant::now();
                while began.elapsed() < LONGEST_WAIT
                    && matches!(tokio::time::timeout(QUIET, catalogs.changed()).await, Ok(Ok(())))
                {}
                self.renew(&registry).await;
            }
        };
        shutdown.run_until_cancelled(following).await;
    }

    /// Makes what is out of date, at a bounded pace; ends when all is up to date or the catalog has changed again.
    async fn renew(self: &Arc<Self>, registry: &Arc<Registry>) {
        let catalog = registry.catalog();
        for which in self.wanted(&self.places(&catalog)) {
            if !registry.catalog().is(&catalog) {
                return;
            }
            let began = Instant::now();
            if let Err(err) = self.get(registry, &which).await {
                tracing::warn!(error = &err as &dyn std::error::Error, ?which, "an OpenAPI document cannot be made");
            }
            tokio::time::sleep(began.elapsed() * PAUSE).await;
        }
    }

    /// The documents of custom resources, and those that somebody has asked for.
    fn wanted(&self, places: &Places) -> Vec<Which> {
        let custom = places.names().filter(|place| places.is_custom(place));
        let mut wanted: Vec<Which> = custom.map(|place| Which::V3 { place: place.to_owned() }).collect();
        let asked: Vec<Which> = self.kept().documents.keys().cloned().collect();
        wanted.extend(asked.into_iter().filter(|which| !matches!(which, Which::V3 { .. })));
        wanted
    }

    #[cfg(test)]
    pub(crate) fn is_kept(&self, which: &Which) -> bool {
        self.kept().documents.contains_key(which)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02X}")).collect()
}
