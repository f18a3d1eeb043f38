//! The end of a definition: all its objects are deleted, and when none is left, the definition may go. Upstream:
//! `CRDFinalizer`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::custom::status::{CLEANUP_FINALIZER, Terminating, set_terminating};
use api::strategy::User;
use api::{ApiError, Object};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{GROUP, PLURAL};
use crate::registry::{Registry, Target};
use crate::request::options::{DeleteOptions, ListOptions};
use crate::watch_cache::{Interest, ResourceCache, Selection};

/// After how long the objects that are left are deleted anew.
const AGAIN: Duration = Duration::from_secs(5);

/// The cleanups that go on.
pub(super) struct Cleanups {
    registry: Arc<Registry>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Uids of the definitions that are being cleaned up.
    running: Arc<Mutex<HashSet<String>>>,
}

impl Cleanups {
    pub(super) fn new(registry: Arc<Registry>, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        Self { registry, tasks, shutdown, running: Arc::default() }
    }

    /// Begins to clean up after the definitions that wait for it.
    pub(super) fn begin<'a>(&self, definitions: impl Iterator<Item = &'a Object>) {
        for definition in definitions.filter(|definition| definition.finalizers().contains(&CLEANUP_FINALIZER)) {
            let uid = definition.uid().to_owned();
            if !self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.clone()) {
                continue;
            }
            let (running, shutdown) = (self.running.clone(), self.shutdown.clone());
            let cleanup = Cleanup {
                registry: self.registry.clone(),
                name: definition.name().to_owned(),
                prefix: format!(
                    "{}/{}",
                    definition.text(&["spec", "group"]),
                    definition.text(&["spec", "names", "plural"])
                ),
            };
            self.tasks.spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = cleanup.run() => {}
                }
                running.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
            });
        }
    }
}

struct Cleanup {
    registry: Arc<Registry>,
    name: String,
    prefix: String,
}

impl Cleanup {
    async fn run(&self) {
        loop {
            match self.attempt().await {
                Ok(()) => return,
                Err(err) if err.is_not_found() => return,
                Err(err) => {
                    tracing::warn!(definition = self.name, error = &err as &dyn std::error::Error, "cleanup failed");
                    let phase = Terminating::Failed(format!("could not delete instances: {err}"));
                    // The next attempt says again what is wrong.
                    let _unwritten = self.set(&phase, false).await;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn attempt(&self) -> Result<(), ApiError> {
        self.set(&Terminating::InProgress, false).await?;
        self.registry.gates().drain(&self.prefix).await;
        // A definition that never got its names has no objects of its own.
        if let Some(cache) = self.registry.cache().resource(&self.prefix) {
            self.delete_all(&cache).await?;
        }
        self.set(&Terminating::Completed, true).await
    }

    /// Deletes until nothing is left: some objects wait for their finalizers.
    async fn delete_all(&self, cache: &Arc<ResourceCache>) -> Result<(), ApiError> {
        let user = User { name: "system:apiserver".to_owned(), ..User::default() };
        let row = cache.row().clone();
        let (_, mut changes) = cache.watch_from_now(Interest::Everything);
        loop {
            let target = Target { cache, client_row: &row, namespace: "", name: "", subresource: "", user: &user };
            let options = DeleteOptions::default();
            let (all, list) = (Selection::default(), ListOptions::default());
            let list = self.registry.list(cache, &all, &list).await?;
            self.registry.delete_collection(&target, list, &options, &mut Vec::new()).await?;
            self.registry.freshen().await?;
            let deadline = tokio::time::sleep(AGAIN);
            tokio::pin!(deadline);
            while !cache.snapshot().objects.is_empty() {
                tokio::select! {
                    () = &mut deadline => break,
                    event = changes.next() => if event.is_none() {
                        return Err(ApiError::internal("the watch of the instances ended"));
                    },
                }
            }
            if cache.snapshot().objects.is_empty() {
                return Ok(());
            }
        }
    }

    async fn set(&self, phase: &Terminating, done: bool) -> Result<(), ApiError> {
        let definitions = self.registry.named(GROUP, PLURAL)?;
        let written = self.registry.change_status(&definitions, &self.name, |definition, now| {
            set_terminating(definition, phase, now);
            if done {
                let kept: Vec<&str> =
                    definition.finalizers().into_iter().filter(|name| *name != CLEANUP_FINALIZER).collect();
                let kept: Vec<serde_json::Value> = kept.into_iter().map(Into::into).collect();
                if kept.is_empty() {
                    definition.metadata_mut().remove("finalizers");
                } else {
                    definition.set_metadata("finalizers", kept);
                }
            }
        });
        written.await
    }
}
