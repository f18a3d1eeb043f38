//! Get and list, answered from the watch cache (upstream: `Store.Get`, `Store.List`).

use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use api::status::{Cause, Details};
use store::Range;

use super::continuation::Continue;
use super::items::{Found, Items};
use super::{Registry, Target};
use crate::request::options::{ListOptions, Match};
use crate::store_error::unavailable;
use crate::watch_cache::{Cached, Objects, ResourceCache, Selection, Snapshot, catch_up, read, read_all};

/// How long a read waits for a version that has not happened.
const FUTURE: Duration = Duration::from_secs(3);

/// What a page beyond a lost revision is answered with.
pub const PARTIAL_READ: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new \
     list without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
     results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, \
     or deleted between the time the first chunk was returned and now may show up in the list.";

/// A list, or a page of one.
#[derive(Clone, Debug)]
pub struct List {
    pub revision: u64,
    pub items: Items,
    /// The token of the next page.
    pub continuation: Option<String>,
    /// How many items follow; unknown with selectors.
    pub remaining: Option<usize>,
}

impl Registry {
    /// One object. `resource_version` as in the query: `""` reads the newest, `"0"` whatever is at hand.
    pub async fn get(&self, target: &Target<'_>, resource_version: &str) -> Result<Arc<Cached>, ApiError> {
        match resource_version {
            "" => {
                self.freshen().await?;
            }
            "0" => {}
            text => self.wait_until(parse_version_for_get(text)?).await?,
        }
        let key = target.key(target.name);
        target.cache.get(&key).ok_or_else(|| match target.cache.unreadable_at(&key) {
            Some(why) => ApiError::internal(why),
            None => target.not_found(),
        })
    }

    /// The objects of a selection.
    pub async fn list(
        &self,
        cache: &Arc<ResourceCache>,
        selection: &Selection,
        options: &ListOptions,
    ) -> Result<List, ApiError> {
        self.require_readable(cache, selection)?;
        if let Some(token) = &options.continuation {
            if !matches!(options.resource_version.as_str(), "" | "0") {
                return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
            }
            return self.list_on(cache, selection, token, options.limit).await;
        }
        let version = parse_version_for_list(&options.resource_version)?;
        let exact = options.version_match == Some(Match::Exact)
            || (options.version_match.is_none()
                && options.limit.is_some()
                && version.is_some_and(|version| version > 0));
        let (revision, snapshot) = match version {
            None => {
                let revision = self.freshen().await?;
                now(cache, revision)
            }
            Some(0) => now(cache, self.cache.revision()),
            Some(version) => {
                self.wait_until(version).await?;
                if exact {
                    (version, self.snapshot_at(cache, version).await?)
                } else {
                    now(cache, self.cache.revision())
                }
            }
        };
        // A list of "whatever is at hand" is served whole, as upstream's watch cache does.
        let limit = options.limit.filter(|_| version != Some(0));
        Ok(page(cache, selection, snapshot.objects, revision, None, limit))
    }

    /// Refuses to show a selection of which a part cannot be read.
    pub(super) fn require_readable(&self, cache: &ResourceCache, selection: &Selection) -> Result<(), ApiError> {
        if self.cache.unreadable() == 0 {
            return Ok(());
        }
        cache.unreadable_below(&selection.prefix(cache)).map_or(Ok(()), |why| Err(ApiError::internal(why)))
    }

    async fn list_on(
        &self,
        cache: &Arc<ResourceCache>,
        selection: &Selection,
        token: &str,
        limit: Option<usize>,
    ) -> Result<List, ApiError> {
        let token = Continue::decode(token)?;
        let start = format!("{}{}", cache.prefix(), token.start);
        let Ok(revision) = u64::try_from(token.revision) else {
            let revision = self.freshen().await?;
            let (revision, snapshot) = now(cache, revision);
            return Ok(page(cache, selection, snapshot.objects, revision, Some(&start), limit));
        };
        self.wait_until(revision).await?;
        if self.is_forgotten(cache, revision).await {
            return Err(inconsistent(&token.start));
        }
        match self.snapshot_at(cache, revision).await {
            Ok(snapshot) => Ok(page(cache, selection, snapshot.objects, revision, Some(&start), limit)),
            Err(err) if err.code() == 410 => Err(inconsistent(&token.start)),
            Err(err) => Err(err),
        }
    }

    /// Whether the store has compacted a revision. That ends the life of tokens, even where the cache could still undo
    /// what was written since: clients rely on it (`410 Gone` in time, the same from every server).
    async fn is_forgotten(&self, cache: &ResourceCache, revision: u64) -> bool {
        // No key begins so: the answer is only whether the revision can be read.
        let nothing = Range { prefix: format!("{}\0", cache.prefix()), revision: Some(revision), ..Range::default() };
        matches!(self.store.list(nothing).await, Err(store::Error::Compacted { .. }))
    }

    /// The objects at a past revision: from the log of the cache, or else from the store.
    async fn snapshot_at(&self, cache: &Arc<ResourceCache>, revision: u64) -> Result<Snapshot, ApiError> {
        if let Some(snapshot) = cache.snapshot_at(revision) {
            return Ok(snapshot);
        }
        let (_, entries) =
            read_all(&self.store, cache.prefix(), Some(revision)).await.map_err(|err| unavailable(&err))?;
        let mut objects = Objects::new_sync();
        for entry in &entries {
            let cached = read(cache, entry).map_err(ApiError::internal)?;
            objects.insert_mut(cached.key.clone(), Arc::new(cached));
        }
        Ok(Snapshot { objects, changed: revision })
    }

    /// Waits for a version that a client has seen; it may be a little ahead of the cache, but not far.
    pub(super) async fn wait_until(&self, version: u64) -> Result<(), ApiError> {
        if self.cache.revision() >= version {
            return Ok(());
        }
        let newest = self.store.revision().await.map_err(|err| unavailable(&err))?;
        if newest >= version {
            return catch_up(&self.store, &self.cache, version).await;
        }
        if tokio::time::timeout(FUTURE, self.cache.wait_for(version)).await.is_ok() {
            return Ok(());
        }
        Err(too_large(version, self.cache.revision()))
    }
}

/// The newest snapshot and its revision: everything up to `reached`, and perhaps a bit more.
fn now(cache: &ResourceCache, reached: u64) -> (u64, Snapshot) {
    let snapshot = cache.snapshot();
    (reached.max(snapshot.changed), snapshot)
}

fn page(
    cache: &Arc<ResourceCache>,
    selection: &Selection,
    objects: Objects,
    revision: u64,
    start: Option<&str>,
    limit: Option<usize>,
) -> List {
    let whole = |items: Items| List { revision, items, continuation: None, remaining: None };
    if let Some(name) = &selection.name
        && (selection.namespace.is_some() || !cache.row().namespaced)
    {
        let key = format!("{}{name}", selection.prefix(cache));
        let named = objects.get(key.as_str()).filter(|object| selection.matches(cache, object));
        return whole(Items::Gathered(named.cloned().into_iter().collect()));
    }
    let found = Found::new(cache, objects, selection, start);
    let Some(limit) = limit else { return whole(Items::Found(found)) };
    let mut rest = found.iter();
    let last = rest.by_ref().take(limit).last().map(|object| object.key.clone());
    let Some(next) = rest.next() else {
        drop(rest);
        return whole(Items::Found(found));
    };
    // The page goes on right after the last key of this one.
    let after = format!("{}\0", &last.as_ref().unwrap_or(&next.key)[cache.prefix().len()..]);
    let token = Continue::new(i64::try_from(revision).unwrap_or(i64::MAX), &after).encode();
    let remaining = (!selection.has_selectors() && selection.name.is_none()).then(|| 1 + rest.count());
    let items = last.map_or_else(|| Items::Gathered(Vec::new()), |last| Items::Found(found.up_to(last)));
    List { revision, items, continuation: Some(token), remaining }
}

/// 410 with a token that goes on at the newest revision.
fn inconsistent(start: &str) -> ApiError {
    let token = Continue::new(-1, start).encode();
    let mut err = ApiError::expired(PARTIAL_READ);
    err.status_mut().continuation = token;
    err
}

/// The version has not happened.
fn too_large(asked: u64, newest: u64) -> ApiError {
    let details = Details {
        causes: vec![Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            ..Cause::default()
        }],
        retry_after_seconds: 1,
        ..Details::default()
    };
    ApiError::timeout(format!("Timeout: Too large resource version: {asked}, current: {newest}"), 1)
        .with_details(details)
}

fn parse_version_for_get(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| ApiError::unclassified(bad_version(text)))
}

fn parse_version_for_list(text: &str) -> Result<Option<u64>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| ApiError::bad_request(format!("invalid resource version: {}", bad_version(text))))
}

/// Go's words for a number that is none.
pub(super) fn bad_version(text: &str) -> String {
    format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax")
}
