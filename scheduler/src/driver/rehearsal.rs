//! Decisions that nobody acts on: the scheduler's own, on the cluster as a client sees it with its own rights.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use client::{Informers, ObjectKey, Recorder};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::{Next, Shared, Task};
use crate::config::{Config, ConfigError};
use crate::cycle::{Explanation, Scheduler};
use crate::framework::PodInfo;
use crate::gangs;
use crate::profile::Handles;
use crate::queue::BACKOFF;

/// Why there is no rehearsal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RehearsalError {
    #[error("configuration of the scheduler")]
    Config(#[from] ConfigError),
    #[error("the cluster could not be read within {patience:?}: still missing are {}", .missing.join(", "))]
    Unread { patience: Duration, missing: Vec<String> },
    #[error("read the cluster")]
    Informers(#[from] client::InformerStopped),
    #[error("no profile is for the scheduler {0:?}")]
    NotOurs(String),
}

/// A scheduler that only says what it would do.
pub(crate) struct Rehearsal {
    shared: Arc<Shared>,
    handles: Handles,
    scheduler: Scheduler,
}

/// What would become of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It would go to this node.
    Placed(String),
    /// These pods would be evicted for it from this node.
    Evicting { node: String, victims: Vec<ObjectKey> },
    /// It would have to wait.
    Refused(String),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placed(node) => write!(f, "would go to node {node}"),
            Self::Refused(why) => write!(f, "would wait: {why}"),
            Self::Evicting { node, victims } => {
                let victims: Vec<String> = victims.iter().map(ToString::to_string).collect();
                write!(f, "would wait for room on node {node}, evicting {}", victims.join(", "))
            }
        }
    }
}

impl Rehearsal {
    /// Reads the cluster once; fails when that is not done within `patience`, as when the client may not read it.
    pub(crate) async fn read(
        config: &Config,
        client: kube::Client,
        patience: Duration,
    ) -> Result<Self, RehearsalError> {
        let handles = Handles::default();
        let profiles = Arc::new(config.profiles(&client, &handles)?);
        let recorder = Recorder::new(client.clone(), "rehearsal");
        let metrics = Metrics::new(&daemon::detached().metrics);
        let informers = Informers::new(client.clone());
        let waiting = Arc::clone(&handles.waiting);
        let shared = Shared::new(profiles, client.clone(), recorder, metrics, BACKOFF, waiting);
        let watched = tokio::time::timeout(patience, gangs::are_served(&client))
            .await
            .map(|with_groups| shared.follow(&informers, handles.clone(), with_groups));
        let unread = |missing| RehearsalError::Unread { patience, missing };
        let watched = watched.map_err(|_elapsed| unread(vec!["the API's groups".to_owned()]))?;
        tokio::select! {
            ended = informers.run(CancellationToken::new()) => ended?,
            () = informers.synced() => {}
            () = tokio::time::sleep(patience) => return Err(unread(informers.unsynced())),
        }
        // Those who wait already are not asked about.
        for pod in watched.pods.list() {
            shared.queue.remove(pod.metadata.uid.as_deref().unwrap_or_default());
        }
        let scheduler = Scheduler::new(Arc::clone(&shared.cache), rand::random());
        Ok(Self { shared, handles, scheduler })
    }

    /// Why a pod is where it is, or is nowhere: what would be decided if it had no node yet.
    pub(crate) fn why(&mut self, pod: Pod) -> Result<Explanation, RehearsalError> {
        let pod = Arc::new(PodInfo::new(Arc::new(pod)));
        let name = pod.spec().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or_default();
        let Some(profile) = self.shared.profiles.get(name) else {
            return Err(RehearsalError::NotOurs(name.to_owned()));
        };
        self.shared.cache().remove_pod(&pod.uid);
        let mut explanation = self.scheduler.explain(profile, &pod);
        let held = profile.pre_enqueue.iter().find_map(|plugin| Some((plugin.name(), plugin.pre_enqueue(&pod).err()?)));
        if let Some((plugin, no)) = held {
            let why = no.reasons.join(", ");
            explanation.decision = Err(why.clone());
            explanation.whole = Some((plugin, why));
        }
        Ok(explanation)
    }

    /// What would become of these pods, tried in the order of the queue, each seeing those before it.
    pub(crate) fn simulate(&mut self, pods: Vec<Pod>) -> Vec<(ObjectKey, Fate)> {
        let pods: Vec<Arc<PodInfo>> = pods.into_iter().map(|pod| Arc::new(PodInfo::new(Arc::new(pod)))).collect();
        pods.iter().for_each(|pod| drop(self.handles.gangs.set_pod(&pod.pod)));
        let mut fates: HashMap<String, Fate> = HashMap::new();
        for pod in &pods {
            if let Some(held) = self.shared.queue.add(Arc::clone(pod)) {
                fates.insert(pod.uid.clone(), Fate::Refused(held));
            }
        }
        while let Some(Some(attempt)) = self.shared.queue.take().now_or_never() {
            for task in self.shared.tasks(&mut self.scheduler, attempt) {
                if let Task::Pod(attempt, next) = task {
                    fates.insert(attempt.pod.uid.clone(), fate(next));
                }
            }
        }
        let unknown = || Fate::Refused("no profile is for its scheduler".to_owned());
        pods.iter().map(|pod| (pod.key.clone(), fates.remove(&pod.uid).unwrap_or_else(unknown))).collect()
    }
}

fn fate(next: Next) -> Fate {
    match next {
        Next::Bind(node, _) => Fate::Placed(node),
        Next::Report(failed) => Fate::Refused(failed.message),
        Next::MakeRoom(room) => {
            let victims = room.plan.victims.iter().map(|victim| victim.key.clone()).collect();
            Fate::Evicting { node: room.plan.node, victims }
        }
    }
}
