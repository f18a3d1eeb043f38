//! Keeps the kernel's rules equal to the model.

use std::time::Duration;

use client::{Informer, Informers, ObjectKey};
use daemon::Rounds;
use host::TableWatch;
use host::nft::{self, Family, NftError};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::changes::{Changed, Keys};
use crate::compile::Policy;
use crate::model::Model;
use crate::pod::PodFacts;
use crate::text::{self, Place};
use crate::{Config, Error, remove};

/// Waits after a refused transaction, doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Wait before tables that somebody changed are made anew: a tool that removes one often removes more, or does it again.
const REPAIR: Duration = Duration::from_millis(500);
/// Objects that are looked at before other tasks get their turn.
const TURN: usize = 64;

pub(crate) struct Enforcer {
    pub(crate) config: Config,
    pub(crate) client: kube::Client,
    pub(crate) policies: Informer<NetworkPolicy>,
    pub(crate) changed: Changed,
    pub(crate) watch: TableWatch,
    pub(crate) rounds: Rounds,
    pub(crate) families: Vec<Family>,
}

/// Why an enforcement paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Shutdown,
    NoPolicies,
}

/// Why it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Shutdown,
    /// Objects have changed, or it is time to try again.
    Sync,
    /// The kernel tells of changes of nftables.
    Tables,
}

/// The objects of a time in which there are policies.
struct Sources {
    pods: Informer<Pod>,
    namespaces: Informer<Namespace>,
}

impl Enforcer {
    /// Runs until shutdown. While there is no policy, nothing but policies is watched.
    pub(crate) async fn keep(&mut self, process: &daemon::Process) -> Result<(), Error> {
        loop {
            while self.policies.count() == 0 {
                self.clear(process).await?;
                tokio::select! {
                    () = process.shutdown.cancelled() => return Ok(()),
                    () = self.changed.notified() => {}
                }
            }
            let informers = Informers::new(self.client.clone());
            let sources = Sources { pods: informers.of(), namespaces: informers.of() };
            self.changed.follow_pods(&sources.pods);
            self.changed.follow_namespaces(&sources.namespaces);
            let ended = informers.beside(&process.shutdown, self.enforce(&sources, process)).await?;
            if ended.transpose()?.is_none_or(|pause| pause == Pause::Shutdown) {
                return Ok(());
            }
        }
    }

    /// Removes the rules, and tries again until they are gone, there are policies or it is time to end.
    async fn clear(&mut self, process: &daemon::Process) -> Result<(), Error> {
        let mut wait = RETRY.0;
        while self.policies.count() == 0 {
            let Err(err) = remove(&self.config.table, &self.families).await else {
                // Our own doing is no news.
                self.watch.read().map_err(Error::Watch)?;
                process.ready.set();
                return Ok(());
            };
            let pause = self.refused(err, &mut wait, process)?;
            tokio::select! {
                () = process.shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// Tells of a transaction that was refused; answers when to try again.
    fn refused(&self, err: NftError, wait: &mut Duration, process: &daemon::Process) -> Result<Duration, Error> {
        if matches!(err, NftError::Run(_)) {
            return Err(err.into());
        }
        self.rounds.failed();
        process.ready.lost("nft refuses the rules of network policies");
        warn!(error = &err as &dyn std::error::Error, retry_in = ?*wait, "network policies not applied");
        let pause = *wait;
        *wait = (*wait * 2).min(RETRY.1);
        Ok(pause)
    }

    async fn enforce(&mut self, sources: &Sources, process: &daemon::Process) -> Result<Pause, Error> {
        let mut model = Model::new();
        // Everything is in the caches; what is noted from now on comes on top of it.
        drop(self.changed.take());
        self.update(&mut model, sources, everything(sources, &self.policies)).await;
        let mut wait = RETRY.0;
        loop {
            let keys = self.changed.take();
            self.update(&mut model, sources, keys).await;
            if model.policy_count() == 0 {
                return Ok(Pause::NoPolicies);
            }
            let result = self.sync(&mut model).await;
            let touched = self.watch.read().map_err(Error::Watch)?;
            let pause = match result {
                Ok(own) if touched.beyond(own) => {
                    self.forget(&mut model);
                    tokio::time::sleep(REPAIR).await;
                    continue;
                }
                Ok(_) => {
                    wait = RETRY.0;
                    process.ready.set();
                    None
                }
                Err(err) => Some(self.refused(err, &mut wait, process)?),
            };
            if !self.wait(&mut model, pause, process).await? {
                return Ok(Pause::Shutdown);
            }
        }
    }

    /// Brings the model up to what the caches say of these objects.
    async fn update(&self, model: &mut Model, sources: &Sources, keys: Keys) {
        let mut turn = 0;
        let mut rest = async || {
            turn += 1;
            if turn % TURN == 0 {
                tokio::task::yield_now().await;
            }
        };
        for key in keys.namespaces {
            let labels = sources.namespaces.get(&key).map(|one| one.metadata.labels.clone().unwrap_or_default());
            model.set_namespace(&key.name, labels);
            rest().await;
        }
        for key in keys.pods {
            let pod = sources.pods.get(&key).and_then(|pod| PodFacts::of(&pod, &self.config.node_name));
            model.set_pod(&key, pod);
            rest().await;
        }
        for key in keys.policies {
            model.set_policy(&key, self.policies.get(&key).map(|policy| Policy::of(&policy)));
            rest().await;
        }
    }

    /// Brings the kernel up to the model; says how many transactions that took.
    async fn sync(&self, model: &mut Model) -> Result<usize, NftError> {
        let started = Instant::now();
        let place = Place { table: &self.config.table, bridge: &self.config.bridge };
        let table = &mut model.table;
        let texts = self.families.iter().map(|family| text::change(&place, *family, table));
        let text: String = texts.collect();
        if text.is_empty() {
            table.settled();
            return Ok(0);
        }
        let anew = table.journal.is_none();
        // After a refusal, or if this ends in the middle, nobody knows what the kernel has.
        table.forget();
        nft::apply(&text).await?;
        let guarded = anew && self.guard(&place).await;
        table.settled();
        self.rounds.took(started.elapsed());
        info!(policies = model.policy_count(), bytes = text.len(), took = ?started.elapsed(), "network policies synced");
        Ok(1 + usize::from(guarded))
    }

    /// Guards the bridge, where the kernel has tables of bridges.
    async fn guard(&self, place: &Place<'_>) -> bool {
        let guarded = nft::apply(&text::guard(place)).await;
        if let Err(err) = &guarded {
            warn!(error = err as &dyn std::error::Error, "frames of pods that pass by the node are not guarded");
        }
        guarded.is_ok()
    }

    fn forget(&self, model: &mut Model) {
        warn!(
            table = self.config.table,
            "the rules of network policies were changed from outside: they are made again"
        );
        model.table.forget();
    }

    /// Waits until there is something to do; false when it is time to end.
    async fn wait(&self, model: &mut Model, pause: Option<Duration>, process: &daemon::Process) -> Result<bool, Error> {
        loop {
            match self.next(pause, process).await? {
                Wake::Shutdown => return Ok(false),
                Wake::Sync => return Ok(true),
                Wake::Tables => {
                    let touched = self.watch.read().map_err(Error::Watch)?;
                    if touched.times > 0 || touched.unknown {
                        tokio::time::sleep(REPAIR).await;
                        // Whatever else came meanwhile is undone with it.
                        self.watch.read().map_err(Error::Watch)?;
                        self.forget(model);
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Waits for a change, or `pause` and nothing else.
    async fn next(&self, pause: Option<Duration>, process: &daemon::Process) -> Result<Wake, Error> {
        let timer = async {
            match pause {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = process.shutdown.cancelled() => Ok(Wake::Shutdown),
            () = timer => Ok(Wake::Sync),
            () = self.changed.notified(), if pause.is_none() => Ok(Wake::Sync),
            readable = self.watch.readable(), if pause.is_none() => {
                readable.map(|()| Wake::Tables).map_err(Error::Watch)
            }
        }
    }
}

fn everything(sources: &Sources, policies: &Informer<NetworkPolicy>) -> Keys {
    Keys {
        pods: sources.pods.list().iter().map(|pod| ObjectKey::of(&**pod)).collect(),
        namespaces: sources.namespaces.list().iter().map(|namespace| ObjectKey::of(&**namespace)).collect(),
        policies: policies.list().iter().map(|policy| ObjectKey::of(&**policy)).collect(),
    }
}
