//! Follows the metadata of every object of a kind (upstream: `metadatainformer`).

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use kube::core::{ApiResource, PartialObjectMeta};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource};
use tokio::time::sleep;
use tracing::debug;

/// The pause after the first of several failures.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between attempts.
pub(crate) const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Who keeps something of every object of a kind.
pub(crate) trait Follower: Send {
    /// The uids of all objects that are kept.
    fn known(&self) -> Vec<String>;
    /// An object is there, or has changed.
    fn apply(&self, metadata: ObjectMeta);
    /// An object is gone.
    fn remove(&self, uid: &str);
    /// All objects that there are have been seen.
    fn listed(&self);
}

/// Keeps a follower up to date; never returns.
pub(crate) async fn follow(client: kube::Client, resource: ApiResource, follower: impl Follower) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
    let mut events = watcher(api, watcher::Config::default()).boxed();
    let mut unseen: Vec<String> = Vec::new();
    let mut pause = FIRST_PAUSE;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => unseen = follower.known(),
            Ok(watcher::Event::InitApply(object)) => {
                unseen.retain(|uid| Some(uid) != object.meta().uid.as_ref());
                follower.apply(object.metadata);
            }
            Ok(watcher::Event::InitDone) => {
                std::mem::take(&mut unseen).iter().for_each(|uid| follower.remove(uid));
                follower.listed();
                pause = FIRST_PAUSE;
            }
            Ok(watcher::Event::Apply(object)) => follower.apply(object.metadata),
            Ok(watcher::Event::Delete(object)) => follower.remove(object.meta().uid.as_deref().unwrap_or_default()),
            Err(err) => {
                debug!(kind = resource.kind, error = &err as &dyn std::error::Error, "watch interrupted, trying again");
                sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}
