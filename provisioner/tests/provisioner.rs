//! The provisioner against a real API server in this process. Binding is the controller's: the tests play its part.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use apiserver::testing::TestServer;
use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use provisioner::{Config, NAME};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

struct Place {
    _server: TestServer,
    client: kube::Client,
    directory: tempfile::TempDir,
    shutdown: CancellationToken,
}

impl Place {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let client = kube::Client::new(server.service(), "default");
        let directory = tempfile::tempdir().unwrap();
        let config =
            Config { node_name: "n1".into(), hostname: "n1".into(), directory: directory.path().join("volumes") };
        let shutdown = CancellationToken::new();
        let process = daemon::Process::new(shutdown.clone());
        let run = provisioner::run(config, client.clone(), process);
        tokio::spawn(async move { run.await.unwrap() });
        let class = json!({"metadata": {"name": "local"}, "provisioner": NAME, "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true});
        let classes: Api<StorageClass> = Api::all(client.clone());
        classes.create(&PostParams::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
        Self { _server: server, client, directory, shutdown }
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), "default")
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    async fn claim(&self, name: &str, mode: &str, node: Option<&str>) -> String {
        let annotations = node.map(|node| json!({"volume.kubernetes.io/selected-node": node}));
        let claim = json!({
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"accessModes": [mode], "storageClassName": "local",
                "resources": {"requests": {"storage": "1Gi"}}},
        });
        let made = self.claims().create(&PostParams::default(), &serde_json::from_value(claim).unwrap()).await.unwrap();
        format!("pvc-{}", made.uid().unwrap())
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let wait = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    async fn volume(&self, name: &str) -> PersistentVolume {
        self.until("the volume is made", async || self.volumes().get_opt(name).await.unwrap().is_some()).await;
        self.volumes().get(name).await.unwrap()
    }

    async fn gone(&self, name: &str) {
        self.until("the volume is gone", async || self.volumes().get_opt(name).await.unwrap().is_none()).await;
    }

    async fn phase(&self, name: &str, phase: &str) {
        let patch = Patch::Merge(json!({"status": {"phase": phase}}));
        self.volumes().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn change(&self, name: &str, change: Value) {
        self.volumes().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    /// Ends the protection of volumes in use, as its controller does.
    async fn unprotect(&self, name: &str) {
        let kept: Vec<_> = self.volumes().get(name).await.unwrap().metadata.finalizers.unwrap_or_default();
        let kept: Vec<_> = kept.into_iter().filter(|one| one != "kubernetes.io/pv-protection").collect();
        self.change(name, json!({"metadata": {"finalizers": kept}})).await;
    }

    fn path(&self, volume: &str) -> std::path::PathBuf {
        self.directory.path().join("volumes").join(volume)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn a_volume_is_made_for_a_claim_given_to_this_node_and_removed_when_it_is_released() {
    let place = Place::new().await;
    let elsewhere = place.claim("far", "ReadWriteOnce", Some("n2")).await;
    let unplaced = place.claim("later", "ReadWriteOnce", None).await;
    let name = place.claim("data", "ReadWriteOnce", Some("n1")).await;
    let volume = place.volume(&name).await;
    assert_eq!(volume.spec.unwrap().claim_ref.unwrap().name.as_deref(), Some("data"));
    std::fs::write(place.path(&name).join("file"), "kept").unwrap();
    let later = Patch::Merge(json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}));
    place.claims().patch("later", &PatchParams::default(), &later).await.unwrap();
    place.volume(&unplaced).await;
    assert!(!place.path(&elsewhere).exists());
    place.phase(&name, "Bound").await;
    place.phase(&name, "Released").await;
    let is_going = async || place.volumes().get(&name).await.unwrap().metadata.deletion_timestamp.is_some();
    place.until("the volume is deleted", is_going).await;
    assert!(!place.path(&name).exists());
    place.unprotect(&name).await;
    place.gone(&name).await;
}

#[tokio::test]
async fn data_that_is_to_be_retained_outlives_its_volume() {
    let place = Place::new().await;
    let name = place.claim("data", "ReadWriteOncePod", Some("n1")).await;
    place.volume(&name).await;
    place.change(&name, json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}})).await;
    place.phase(&name, "Released").await;
    place.volumes().delete(&name, &DeleteParams::default()).await.unwrap();
    place.unprotect(&name).await;
    place.gone(&name).await;
    assert!(place.path(&name).exists());
}

#[tokio::test]
async fn what_one_nodes_disk_cannot_give_is_said_to_the_claim() {
    let place = Place::new().await;
    place.claim("shared", "ReadWriteMany", Some("n1")).await;
    let events: Api<Event> = Api::namespaced(place.client.clone(), "default");
    let told = async || {
        let all = events.list(&Default::default()).await.unwrap();
        let words = |event: &Event| event.message.as_ref().is_some_and(|text| text.contains("ReadWriteMany"));
        all.iter().any(|event| event.reason.as_deref() == Some("ProvisioningFailed") && words(event))
    };
    place.until("the claim is told", told).await;
}

#[tokio::test]
async fn a_claim_that_asks_for_more_gets_it() {
    let place = Place::new().await;
    let name = place.claim("data", "ReadWriteOnce", Some("n1")).await;
    place.volume(&name).await;
    let bound =
        json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": name}});
    place.claims().patch("data", &PatchParams::default(), &Patch::Merge(bound)).await.unwrap();
    let status = Patch::Merge(json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}));
    place.claims().patch_status("data", &PatchParams::default(), &status).await.unwrap();
    let more = Patch::Merge(json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}}));
    place.claims().patch("data", &PatchParams::default(), &more).await.unwrap();
    let has = async || {
        let claim = place.claims().get("data").await.unwrap();
        claim.status.unwrap().capacity.unwrap()["storage"].0 == "3Gi"
    };
    place.until("the claim has it", has).await;
    assert_eq!(place.volume(&name).await.spec.unwrap().capacity.unwrap()["storage"].0, "3Gi");
}
