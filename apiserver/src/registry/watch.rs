//! Watch: where a stream of events begins. Upstream: `Store.Watch`.

use std::sync::Arc;

use api::ApiError;

use super::read::bad_version;
use super::{Registry, Target};
use crate::request::options::ListOptions;
use crate::watch_cache::{Beginning, ResourceCache, Selection, Subscription};

/// A watch that has begun.
#[derive(Debug)]
pub struct WatchStart {
    pub beginning: Beginning,
    pub subscription: Subscription,
    /// Everything up to this revision is in the beginning.
    pub revision: u64,
    /// Whether a bookmark marks the end of the initial objects.
    pub marks_initial_end: bool,
}

impl Registry {
    /// Begins a watch. `Ok(Err(..))` is an error that is sent as an event of the stream.
    pub async fn watch(
        &self,
        cache: &Arc<ResourceCache>,
        selection: &Selection,
        options: &ListOptions,
    ) -> Result<Result<WatchStart, ApiError>, ApiError> {
        let text = options.resource_version.as_str();
        let version: u64 = match text {
            "" => 0,
            text => text.parse().map_err(|_| ApiError::unclassified(bad_version(text)))?,
        };
        self.require_readable(cache, selection)?;
        let interest = selection.interest(cache);
        let initial = options.send_initial_events;
        let from_now = initial.unwrap_or(version == 0);
        if !from_now && version > 0 {
            return Ok(match cache.watch_after(version, interest) {
                Ok((beginning, subscription)) => {
                    Ok(WatchStart { beginning, subscription, revision: version, marks_initial_end: false })
                }
                Err(gone) => Err(too_old(version, gone.oldest)),
            });
        }
        let reached = match (text, version) {
            ("", _) => self.freshen().await?,
            (_, 0) => self.cache.revision(),
            (_, version) => {
                self.wait_until(version).await?;
                self.cache.revision()
            }
        };
        let (beginning, subscription) = cache.watch_from_now(interest);
        let (beginning, revision) = match beginning {
            Beginning::Objects(snapshot) if from_now => {
                let revision = reached.max(snapshot.changed);
                (Beginning::Objects(snapshot), revision)
            }
            // The client wants no initial events: it starts with what comes next.
            Beginning::Objects(snapshot) => (Beginning::Events(Vec::new()), reached.max(snapshot.changed)),
            events => (events, reached),
        };
        let marks_initial_end = initial == Some(true) && options.bookmarks;
        Ok(Ok(WatchStart { beginning, subscription, revision, marks_initial_end }))
    }

    /// The selection of one target.
    pub fn selection_of(target: &Target<'_>) -> Selection {
        Selection {
            namespace: (!target.namespace.is_empty()).then(|| target.namespace.to_owned()),
            name: (!target.name.is_empty()).then(|| target.name.to_owned()),
            ..Selection::default()
        }
    }
}

/// 410 for a version that the log no longer reaches.
pub(crate) fn too_old(asked: u64, oldest: u64) -> ApiError {
    ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
}
