//! Persistent volumes on the node's own disk: a directory for each claim of a class of this provisioner whose pod was
//! given to this node, and its removal when the volume is released (upstream: sig-storage-lib-external-provisioner, as
//! the local-path provisioner uses it).
//!
//! ```text
//!  claim, selected-node annotation --> directory --> PersistentVolume (local, node affinity) --> bound by the controller
//!  released, policy Delete ----------> directory removed --> finalizer taken off, object deleted
//!  the claim asks for more -----------> the volume's capacity, then the claim's
//! ```
//! Invariant: only directories that it named itself, by the uid of a claim, are ever made or removed.
//!
//! Sizes are what volumes are matched by; a directory may grow beyond its own, as hostPath volumes may.
#![forbid(unsafe_code)]

mod disk;
mod grow;
mod plan;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::events::about;
use client::{Event, Informer, InformerStopped, Informers, ObjectKey, Recorder, WorkQueue, run_workers, write};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use tokio_util::sync::CancellationToken;

use disk::Disk;
use plan::{Duty, Wish};

/// The provisioner that storage classes name.
pub const NAME: &str = "coracle.dev/local";

/// Volumes that are made or removed at a time.
const WORKERS: usize = 2;

/// Where volumes are made, and for which node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name.
    pub node_name: String,
    /// The value of the node's label `kubernetes.io/hostname`.
    pub hostname: String,
    /// Holds a directory for each volume.
    pub directory: PathBuf,
}

/// Why the provisioner ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make the directory of volumes {path:?}")]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("watch claims, volumes and storage classes")]
    Informers(#[from] InformerStopped),
}

/// Why one volume could not be made or removed; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("ask the API server")]
    Api(#[from] kube::Error),
    #[error("the directory {path:?}")]
    Disk {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Makes and removes volumes until shutdown.
pub async fn run(config: Config, client: kube::Client, process: daemon::Process) -> Result<(), Error> {
    let disk =
        Disk::open(&config.directory).map_err(|source| Error::Directory { path: config.directory.clone(), source })?;
    let informers = Informers::new(client.clone());
    let recorder = Recorder::new(client.clone(), NAME);
    let watches = CancellationToken::new();
    let provisioner = Arc::new(Provisioner {
        claims: informers.of(),
        volumes: informers.of(),
        classes: informers.of(),
        client,
        config,
        disk,
        recorder: recorder.clone(),
    });
    let queues = provisioner.listen();
    let work = async {
        informers.synced().await;
        process.ready.set();
        provisioner.work(queues, process.shutdown.clone()).await;
        watches.cancel();
    };
    let (ended, (), ()) = tokio::join!(informers.run(watches.clone()), recorder.run(watches.clone()), work);
    Ok(ended?)
}

struct Provisioner {
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    client: kube::Client,
    config: Config,
    disk: Disk,
    recorder: Recorder,
}

struct Queues {
    claims: WorkQueue<ObjectKey>,
    volumes: WorkQueue<ObjectKey>,
}

impl Provisioner {
    fn listen(&self) -> Queues {
        let queues = Queues { claims: WorkQueue::new(), volumes: WorkQueue::new() };
        let changed = queues.claims.clone();
        self.claims.on_event(move |event| {
            if let Event::Applied { new, .. } = event
                && (plan::is_unbound(new) || grow::is_wished(new))
            {
                changed.add(event.key());
            }
        });
        let (changed, claims) = (queues.claims.clone(), self.claims.clone());
        self.classes.on_event(move |_| {
            claims
                .list()
                .iter()
                .filter(|claim| plan::is_unbound(claim) || grow::is_wished(claim))
                .for_each(|claim| changed.add(ObjectKey::of(&**claim)));
        });
        let changed = queues.volumes.clone();
        self.volumes.on_event(move |event| {
            if matches!(event, Event::Applied { .. }) {
                changed.add(event.key());
            }
        });
        queues
    }

    async fn work(self: &Arc<Self>, queues: Queues, shutdown: CancellationToken) {
        let (makes, removes) = (Arc::clone(self), Arc::clone(self));
        tokio::join!(
            run_workers("local volumes", queues.claims, WORKERS, shutdown.clone(), move |key| {
                let provisioner = Arc::clone(&makes);
                async move { provisioner.make(&key).await }
            }),
            run_workers("local volumes' ends", queues.volumes, WORKERS, shutdown, move |key| {
                let provisioner = Arc::clone(&removes);
                async move { provisioner.remove(&key).await }
            }),
        );
    }

    /// Makes the volume of a claim that asks for one here.
    async fn make(&self, key: &ObjectKey) -> Result<Option<Duration>, Failure> {
        let Some(claim) = self.claims.get(key) else { return Ok(None) };
        let class = self.classes.get(&ObjectKey::cluster(api::volumes::claim_class(&claim)));
        let Some(class) = class else { return Ok(None) };
        if grow::is_wished(&claim) {
            self.grow(&claim, &class).await?;
            return Ok(None);
        }
        match plan::wish(&claim, &class, &self.config, self.disk_size().await?) {
            Wish::NotOurs => {}
            Wish::Impossible(why) => {
                let message =
                    format!("failed to provision volume with StorageClass {:?}: {why}", name(&class.metadata));
                self.recorder.warning(about(&*claim), "ProvisioningFailed", message);
            }
            Wish::Volume(volume) => self.make_volume(&claim, &volume).await?,
        }
        Ok(None)
    }

    /// Gives a claim the size that it asks for, the volume first.
    async fn grow(&self, claim: &PersistentVolumeClaim, class: &StorageClass) -> Result<(), Failure> {
        let volume = self.volumes.get(&ObjectKey::cluster(api::volumes::volume_name(claim)));
        let Some(volume) = volume else { return Ok(()) };
        let Some(growth) = grow::growth(claim, &volume, class, &self.config) else { return Ok(()) };
        if let Some(why) = plan::too_large(claim, self.disk_size().await?) {
            let message = format!("resize volume {:?} failed: {why}", name(&volume.metadata));
            self.recorder.warning(about(claim), "VolumeResizeFailed", message);
            return Ok(());
        }
        let volume = name(&volume.metadata);
        if let Some(larger) = &growth.volume {
            self.recorder.normal(about(claim), "Resizing", format!("External resizer is resizing volume {volume}"));
            let api: Api<PersistentVolume> = Api::all(self.client.clone());
            api.replace(volume, &PostParams::default(), larger).await?;
        }
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), claim.metadata.namespace.as_deref().unwrap_or_default());
        // Conditions are replaced as a list, so that nobody's may have come meanwhile.
        let metadata = serde_json::json!({ "resourceVersion": claim.metadata.resource_version });
        let patch = Patch::Merge(serde_json::json!({ "metadata": metadata, "status": growth.status }));
        let patched = api.patch_status(name(&claim.metadata), &PatchParams::default(), &patch).await;
        if write::ignore_not_found(patched)?.is_some() {
            self.recorder.normal(about(claim), "VolumeResizeSuccessful", "Resize volume succeeded".to_owned());
        }
        Ok(())
    }

    async fn make_volume(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), Failure> {
        let name = name(&volume.metadata).to_owned();
        if self.volumes.get(&ObjectKey::cluster(&*name)).is_some() {
            return Ok(());
        }
        self.on_disk(&name, Disk::make).await.inspect_err(|err| {
            let message = format!("failed to provision volume {name}: {err}");
            self.recorder.warning(about(claim), "ProvisioningFailed", message);
        })?;
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), volume).await {
            Ok(_) => {}
            Err(err) if write::is_already_exists(&err) => return Ok(()),
            Err(err) => return Err(err.into()),
        }
        let message = format!("Successfully provisioned volume {name}");
        self.recorder.normal(about(claim), "ProvisioningSucceeded", message);
        Ok(())
    }

    /// Removes a volume of this node that is not needed any more.
    async fn remove(&self, key: &ObjectKey) -> Result<Option<Duration>, Failure> {
        let is_due = |volume: &PersistentVolume| plan::duty(volume, &self.config) != Duty::None;
        if !self.volumes.get(key).is_some_and(|volume| is_due(&volume)) {
            return Ok(None);
        }
        // What is removed cannot be had back: the cache alone is not believed.
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let Some(volume) = api.get_opt(&key.name).await? else { return Ok(None) };
        let duty = plan::duty(&volume, &self.config);
        if duty == Duty::None {
            return Ok(None);
        }
        let name = name(&volume.metadata);
        if duty == Duty::Remove {
            self.on_disk(name, Disk::remove).await.inspect_err(|err| {
                self.recorder.warning(about(&volume), "VolumeFailedDelete", err.to_string());
            })?;
        }
        let mut free = volume.clone();
        free.metadata.finalizers.get_or_insert_default().retain(|one| one != plan::FINALIZER);
        if free.metadata.finalizers != volume.metadata.finalizers
            && write::ignore_not_found(api.replace(name, &PostParams::default(), &free).await)?.is_none()
        {
            return Ok(None);
        }
        if duty == Duty::Remove && volume.metadata.deletion_timestamp.is_none() {
            let preconditions = Some(Preconditions { uid: volume.metadata.uid.clone(), resource_version: None });
            let params = DeleteParams { preconditions, ..DeleteParams::default() };
            write::ignore_not_found(api.delete(name, &params).await)?;
        }
        Ok(None)
    }

    async fn disk_size(&self) -> Result<u64, Failure> {
        let disk = self.disk.clone();
        let size = tokio::task::spawn_blocking(move || disk.size()).await;
        let size = size.unwrap_or_else(|err| Err(std::io::Error::other(err)));
        size.map_err(|source| Failure::Disk { path: self.config.directory.clone(), source })
    }

    async fn on_disk(&self, volume: &str, work: fn(&Disk, &str) -> std::io::Result<()>) -> Result<(), Failure> {
        let (disk, owned) = (self.disk.clone(), volume.to_owned());
        let done = tokio::task::spawn_blocking(move || work(&disk, &owned)).await;
        let done = done.unwrap_or_else(|err| Err(std::io::Error::other(err)));
        done.map_err(|source| Failure::Disk { path: self.config.directory.join(volume), source })
    }
}

fn name(metadata: &kube::core::ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}
