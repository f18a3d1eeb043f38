//! Claims and volumes, with the scheduler where it takes part. The tests play provisioners and kubelets.

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::storage::v1::StorageClass;

use super::*;

const PROVISIONER: &str = "disks.example.com";

/// What becomes of claims and volumes.
impl Cluster {
    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        self.api()
    }

    async fn create_volume(&self, name: &str, size: &str, spec: Value) -> PersistentVolume {
        let mut all = json!({
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": size }, "hostPath": { "path": "/srv/x" },
        });
        all.as_object_mut().unwrap().append(&mut spec.as_object().unwrap().clone());
        let volume = from_value(json!({ "metadata": { "name": name }, "spec": all })).unwrap();
        self.volumes().create(&PostParams::default(), &volume).await.unwrap()
    }

    async fn create_claim(&self, name: &str, size: &str, spec: Value) -> PersistentVolumeClaim {
        let resources = json!({ "requests": { "storage": size } });
        let mut all = json!({ "accessModes": ["ReadWriteOnce"], "resources": resources });
        all.as_object_mut().unwrap().append(&mut spec.as_object().unwrap().clone());
        self.create(json!({ "metadata": { "name": name }, "spec": all })).await
    }

    async fn create_class(&self, name: &str, provisioner: &str, mode: &str, is_default: bool) {
        let mark = json!({ "storageclass.kubernetes.io/is-default-class": is_default.to_string() });
        let metadata = json!({ "name": name, "annotations": mark });
        let class = json!({ "metadata": metadata, "provisioner": provisioner, "volumeBindingMode": mode });
        let classes: Api<StorageClass> = Api::all(self.client.clone());
        classes.create(&PostParams::default(), &from_value(class).unwrap()).await.unwrap();
    }

    async fn volume_is(&self, name: &str, phase: &str) {
        eventually(&format!("volume {name} is {phase}"), async || {
            self.volumes().get(name).await.unwrap().status.unwrap().phase.as_deref() == Some(phase)
        })
        .await;
    }

    async fn claim_is(&self, name: &str, phase: &str) -> PersistentVolumeClaim {
        eventually(&format!("claim {name} is {phase}"), async || {
            self.claims().get(name).await.unwrap().status.unwrap().phase.as_deref() == Some(phase)
        })
        .await;
        self.claims().get(name).await.unwrap()
    }

    /// Waits for an event with this reason and something of this text about the object.
    async fn is_told(&self, name: &str, reason: &str, text: &str) {
        eventually(&format!("{name} is told {reason}: {text}"), async || {
            let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
            events.iter().any(|event| {
                event.involved_object.name.as_deref() == Some(name)
                    && event.reason.as_deref() == Some(reason)
                    && event.message.as_deref().unwrap_or_default().contains(text)
            })
        })
        .await;
    }

    /// Makes the volume that a claim asks for on the node that it was given, as a provisioner does.
    async fn provision(&self, claim: &str) -> String {
        eventually(&format!("claim {claim} asks for a volume"), async || {
            let asked = self.claims().get_opt(claim).await.unwrap().unwrap_or_default();
            asked.annotations().get("volume.kubernetes.io/storage-provisioner").is_some_and(|by| by == PROVISIONER)
        })
        .await;
        let claim = self.claims().get(claim).await.unwrap();
        let node = claim.annotations().get("volume.kubernetes.io/selected-node").cloned().unwrap_or_default();
        let reference = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "default", "name": claim.name_any(),
            "uid": claim.uid().unwrap(),
        });
        let mut spec = json!({
            "accessModes": claim.spec.as_ref().unwrap().access_modes, "capacity": { "storage": "1Gi" },
            "storageClassName": claim.spec.as_ref().unwrap().storage_class_name, "claimRef": reference,
            "hostPath": { "path": "/srv/x" }, "persistentVolumeReclaimPolicy": "Delete",
        });
        if !node.is_empty() {
            spec["nodeAffinity"] = on_node(&node);
        }
        let name = format!("pvc-{}", claim.uid().unwrap());
        let by = json!({ "pv.kubernetes.io/provisioned-by": PROVISIONER });
        let volume = json!({ "metadata": { "name": name, "annotations": by }, "spec": spec });
        self.volumes().create(&PostParams::default(), &from_value(volume).unwrap()).await.unwrap();
        name
    }

    async fn create_node(&self, name: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = json!({ "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } } });
        nodes.create(&PostParams::default(), &from_value(node).unwrap()).await.unwrap();
        let room = json!({ "cpu": "4", "memory": "8Gi", "pods": "20" });
        let ready = json!({ "type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z" });
        let status = json!({ "status": { "capacity": room, "allocatable": room, "conditions": [ready] } });
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(json!({ "spec": { "taints": null } }))).await.unwrap();
    }

    /// A pod of the scheduler's with these volumes.
    async fn create_pod(&self, name: &str, volumes: Value) {
        let mut pod = pod("default", name, json!({}));
        pod["spec"]["volumes"] = volumes;
        let _made: Pod = self.create(pod).await;
    }

    async fn node_of(&self, pod: &str) -> String {
        eventually(&format!("pod {pod} has a node"), async || {
            self.api::<Pod>().get(pod).await.unwrap().spec.unwrap().node_name.is_some()
        })
        .await;
        self.api::<Pod>().get(pod).await.unwrap().spec.unwrap().node_name.unwrap()
    }

    /// With the rights that the two have in a cluster. Without the controllers that look after nodes: nobody plays their
    /// kubelets.
    async fn with_scheduler() -> (Self, AbortOnDropHandle<()>) {
        let names = ["persistentvolume-binder-controller", "ephemeral-volume-controller"].map(str::to_owned);
        let config = Config { controllers: names.to_vec(), ..Config::default() };
        let server = TestServer::start().await;
        let client = |user: &str| Client::new(server.service_as(user, &["system:authenticated"]), "default");
        let process = || daemon::Process::new(CancellationToken::new());
        let controlling = process();
        let metrics = controlling.metrics.clone();
        let binding = controllers::run(config, client("system:kube-controller-manager"), controlling);
        let binding = tokio::spawn(async move { binding.await.expect("controllers run until they are stopped") });
        let scheduling = scheduler::run(scheduler::Config::default(), client("system:kube-scheduler"), process());
        let scheduling = tokio::spawn(async move { scheduling.await.expect("the scheduler runs until it is stopped") });
        let client = Client::new(server.service(), "default");
        let cluster = Self { client, metrics, _server: server, _controllers: AbortOnDropHandle::new(binding) };
        (cluster, AbortOnDropHandle::new(scheduling))
    }
}

fn on_node(node: &str) -> Value {
    let rule = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] });
    json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [rule] }] } })
}

fn uses(claim: &str) -> Value {
    json!([{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }])
}

#[tokio::test]
async fn a_claim_gets_a_volume_that_is_released_with_it_and_given_to_nobody_else() {
    let cluster = Cluster::start().await;
    cluster.create_volume("large", "9Gi", json!({})).await;
    cluster.create_volume("small", "2Gi", json!({})).await;
    cluster.volume_is("large", "Available").await;
    cluster.volume_is("small", "Available").await;
    let made = cluster.create_claim("data", "1Gi", json!({})).await;
    let bound = cluster.claim_is("data", "Bound").await;
    assert_eq!(bound.spec.as_ref().unwrap().volume_name.as_deref(), Some("small"));
    assert_eq!(bound.status.as_ref().unwrap().capacity.as_ref().unwrap()["storage"].0, "2Gi");
    for key in ["pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller"] {
        assert_eq!(bound.annotations()[key], "yes");
    }
    let volume = cluster.volumes().get("small").await.unwrap();
    assert_eq!(volume.spec.unwrap().claim_ref.unwrap().uid, made.metadata.uid);
    assert_eq!(volume.status.unwrap().phase.as_deref(), Some("Bound"));
    cluster.claims().delete("data", &DeleteParams::default()).await.unwrap();
    cluster.volume_is("small", "Released").await;
    // A claim of the same name is another claim.
    let again = cluster.create_claim("data", "1Gi", json!({})).await;
    let bound = cluster.claim_is("data", "Bound").await;
    assert_eq!(bound.spec.unwrap().volume_name.as_deref(), Some("large"));
    let volume = cluster.volumes().get("large").await.unwrap();
    assert_eq!(volume.spec.unwrap().claim_ref.unwrap().uid, again.metadata.uid);
    cluster.volume_is("small", "Released").await;
    let free = Patch::Merge(json!({ "spec": { "claimRef": null } }));
    cluster.volumes().patch("small", &PatchParams::default(), &free).await.unwrap();
    cluster.volume_is("small", "Available").await;
}

#[tokio::test]
async fn a_claim_that_asks_for_more_is_told_that_somebody_else_must_give_it() {
    let cluster = Cluster::start().await;
    let classes: Api<StorageClass> = Api::all(cluster.client.clone());
    let class =
        json!({ "metadata": { "name": "growing" }, "provisioner": "x.example.com", "allowVolumeExpansion": true });
    classes.create(&PostParams::default(), &from_value(class).unwrap()).await.unwrap();
    cluster.create_volume("v", "1Gi", json!({ "storageClassName": "growing" })).await;
    cluster.create_claim("data", "1Gi", json!({ "storageClassName": "growing" })).await;
    cluster.claim_is("data", "Bound").await;
    let more = Patch::Merge(json!({ "spec": { "resources": { "requests": { "storage": "2Gi" } } } }));
    cluster.claims().patch("data", &PatchParams::default(), &more).await.unwrap();
    cluster.is_told("data", "ExternalExpanding", "waiting for an external controller to expand this PVC").await;
}

#[tokio::test]
async fn claims_that_compete_never_share_a_volume() {
    let cluster = Cluster::start().await;
    for number in 0..12 {
        cluster.create_claim(&format!("c{number}"), "1Gi", json!({})).await;
    }
    for number in 0..8 {
        cluster.create_volume(&format!("v{number}"), "1Gi", json!({})).await;
    }
    eventually("every volume is bound", async || {
        let volumes = cluster.volumes().list(&ListParams::default()).await.unwrap().items;
        volumes.iter().all(|volume| volume.status.as_ref().unwrap().phase.as_deref() == Some("Bound"))
    })
    .await;
    eventually("as many claims are bound, each to a volume that says the same", async || {
        let claims = cluster.claims().list(&ListParams::default()).await.unwrap().items;
        let volumes = cluster.volumes().list(&ListParams::default()).await.unwrap().items;
        let of = |claim: &PersistentVolumeClaim| {
            let name = claim.spec.as_ref()?.volume_name.clone()?;
            let volume = volumes.iter().find(|volume| volume.name_any() == name).unwrap();
            let is_same = volume.spec.as_ref().unwrap().claim_ref.as_ref().unwrap().uid == claim.metadata.uid;
            assert!(is_same, "{claim:?} has {volume:?}");
            Some(name)
        };
        let taken: std::collections::BTreeSet<String> = claims.iter().filter_map(of).collect();
        taken.len() == 8
    })
    .await;
}

#[tokio::test]
async fn users_may_say_which_volume_and_claim_belong_together() {
    let cluster = Cluster::start().await;
    cluster.create_volume("tiny", "1Mi", json!({})).await;
    cluster.create_volume("chosen", "5Gi", json!({})).await;
    let kept = json!({ "claimRef": { "namespace": "default", "name": "kept" } });
    cluster.create_volume("for-kept", "50Gi", kept).await;
    cluster.create_claim("kept", "1Gi", json!({})).await;
    let bound = cluster.claim_is("kept", "Bound").await;
    assert_eq!(bound.spec.unwrap().volume_name.as_deref(), Some("for-kept"));
    let volume = cluster.volumes().get("for-kept").await.unwrap();
    assert!(!volume.annotations().contains_key("pv.kubernetes.io/bound-by-controller"));
    cluster.create_claim("choosy", "1Gi", json!({ "volumeName": "chosen" })).await;
    let bound = cluster.claim_is("choosy", "Bound").await;
    assert!(!bound.annotations().contains_key("pv.kubernetes.io/bound-by-controller"));
    cluster.create_claim("late", "1Gi", json!({ "volumeName": "chosen" })).await;
    cluster.is_told("late", "FailedBinding", "volume \"chosen\" already bound to a different claim.").await;
    cluster.create_claim("vain", "1Gi", json!({ "volumeName": "tiny" })).await;
    cluster
        .is_told("vain", "VolumeMismatch", "Cannot bind to requested volume \"tiny\": requested PV is too small")
        .await;
    cluster.claim_is("vain", "Pending").await;
}

#[tokio::test]
async fn a_claim_whose_volume_goes_is_lost_and_policies_that_cannot_be_kept_fail() {
    let cluster = Cluster::start().await;
    cluster.create_volume("v", "1Gi", json!({ "persistentVolumeReclaimPolicy": "Recycle" })).await;
    cluster.create_volume("w", "1Gi", json!({ "persistentVolumeReclaimPolicy": "Delete" })).await;
    cluster.create_volume("x", "1Gi", json!({})).await;
    for name in ["v", "w", "x"] {
        cluster.create_claim(name, "1Gi", json!({ "volumeName": name })).await;
        cluster.claim_is(name, "Bound").await;
    }
    for name in ["v", "w"] {
        cluster.claims().delete(name, &DeleteParams::default()).await.unwrap();
        cluster.volume_is(name, "Failed").await;
    }
    cluster.is_told("v", "VolumeFailedRecycle", "No recycler plugin found for the volume!").await;
    cluster.is_told("w", "VolumeFailedDelete", "no deletable volume plugin matched").await;
    cluster.volumes().delete("x", &DeleteParams::default()).await.unwrap();
    let unprotected = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    cluster.volumes().patch("x", &PatchParams::default(), &unprotected).await.unwrap();
    let lost = cluster.claim_is("x", "Lost").await;
    assert_eq!(lost.status.unwrap().capacity, None);
    cluster.is_told("x", "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!").await;
}

#[tokio::test]
async fn a_provisioner_is_asked_and_its_volume_bound_and_left_to_it() {
    let cluster = Cluster::start().await;
    let none = "no persistent volumes available for this claim and no storage class is set";
    cluster.create_claim("data", "1Gi", json!({})).await;
    cluster.is_told("data", "FailedBinding", none).await;
    // The class comes after the claim, which gets it nevertheless.
    cluster.create_class("disks", PROVISIONER, "Immediate", true).await;
    let name = cluster.provision("data").await;
    let text = "Waiting for a volume to be created either by the external provisioner 'disks.example.com' or manually";
    cluster.is_told("data", "ExternalProvisioning", text).await;
    let bound = cluster.claim_is("data", "Bound").await;
    assert_eq!(bound.annotations()["volume.beta.kubernetes.io/storage-provisioner"], PROVISIONER);
    let spec = bound.spec.unwrap();
    assert_eq!((spec.storage_class_name.as_deref(), spec.volume_name.as_deref()), (Some("disks"), Some(name.as_str())));
    cluster.volume_is(&name, "Bound").await;
    cluster.claims().delete("data", &DeleteParams::default()).await.unwrap();
    cluster.volume_is(&name, "Released").await;
}

#[tokio::test]
async fn ephemeral_claims_are_made_for_their_pod_and_not_taken_from_others() {
    let cluster = Cluster::start().await;
    cluster.create_claim("taken-data", "1Gi", json!({})).await;
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    let template = json!({ "metadata": { "labels": { "kind": "scratch" } }, "spec": spec });
    let volumes = json!([{ "name": "data", "ephemeral": { "volumeClaimTemplate": template } }]);
    cluster.create_pod("user", volumes.clone()).await;
    cluster.create_pod("taken", volumes).await;
    eventually("the claim is made", async || cluster.claims().get_opt("user-data").await.unwrap().is_some()).await;
    let claim = cluster.claims().get("user-data").await.unwrap();
    let pod = cluster.api::<Pod>().get("user").await.unwrap();
    let owner = &claim.owner_references()[0];
    assert_eq!((Some(&owner.uid), owner.controller), (pod.metadata.uid.as_ref(), Some(true)));
    assert_eq!(claim.labels()["kind"], "scratch");
    let no = "ephemeral volume data: PVC default/taken-data was not created for pod default/taken (pod is not owner)";
    cluster.is_told("taken", "FailedBinding", no).await;
    cluster.api::<Pod>().delete("user", &DeleteParams::default().grace_period(0)).await.unwrap();
    eventually("the claim goes with the pod", async || cluster.claims().get_opt("user-data").await.unwrap().is_none())
        .await;
}

#[tokio::test]
async fn a_pod_goes_where_a_volume_for_its_claim_is() {
    let (cluster, _scheduler) = Cluster::with_scheduler().await;
    cluster.create_class("disks", "kubernetes.io/no-provisioner", "WaitForFirstConsumer", false).await;
    cluster.create_node("a").await;
    cluster.create_node("b").await;
    cluster.create_claim("data", "1Gi", json!({ "storageClassName": "disks" })).await;
    cluster.is_told("data", "WaitForFirstConsumer", "waiting for first consumer to be created before binding").await;
    cluster.create_pod("user", uses("data")).await;
    let no = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind";
    cluster.is_told("user", "FailedScheduling", no).await;
    cluster.is_told("data", "WaitForPodScheduled", "waiting for pod user to be scheduled").await;
    let spec = json!({ "storageClassName": "disks", "nodeAffinity": on_node("b") });
    cluster.create_volume("on-b", "1Gi", spec).await;
    assert_eq!(cluster.node_of("user").await, "b");
    let bound = cluster.claim_is("data", "Bound").await;
    assert_eq!(bound.spec.unwrap().volume_name.as_deref(), Some("on-b"));
    cluster.volume_is("on-b", "Bound").await;
    // Who comes later follows the volume.
    cluster.create_pod("follower", uses("data")).await;
    assert_eq!(cluster.node_of("follower").await, "b");
}

#[tokio::test]
async fn a_volume_is_made_on_the_node_that_the_pod_was_given_before_the_pod_goes_there() {
    let (cluster, _scheduler) = Cluster::with_scheduler().await;
    cluster.create_class("disks", PROVISIONER, "WaitForFirstConsumer", true).await;
    cluster.create_node("a").await;
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    let template = json!({ "spec": spec });
    cluster.create_pod("user", json!([{ "name": "data", "ephemeral": { "volumeClaimTemplate": template } }])).await;
    let volume = cluster.provision("user-data").await;
    assert_eq!(cluster.node_of("user").await, "a");
    let bound = cluster.claim_is("user-data", "Bound").await;
    assert_eq!(bound.spec.unwrap().volume_name, Some(volume));
    assert_eq!(bound.metadata.annotations.unwrap()["volume.kubernetes.io/selected-node"], "a");
}

#[tokio::test]
async fn a_pod_waits_for_claims_that_are_not_bound_or_belong_to_another_pod() {
    let (cluster, _scheduler) = Cluster::with_scheduler().await;
    cluster.create_node("a").await;
    cluster.create_claim("data", "1Gi", json!({ "accessModes": ["ReadWriteOncePod"] })).await;
    cluster.create_pod("first", uses("data")).await;
    cluster.is_told("first", "FailedScheduling", "pod has unbound immediate PersistentVolumeClaims").await;
    cluster.create_volume("v", "1Gi", json!({ "accessModes": ["ReadWriteOncePod"] })).await;
    assert_eq!(cluster.node_of("first").await, "a");
    cluster.create_pod("second", uses("data")).await;
    let no = "0/1 nodes are available: 1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access \
              mode already in-use by another pod";
    cluster.is_told("second", "FailedScheduling", no).await;
    cluster.api::<Pod>().delete("first", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(cluster.node_of("second").await, "a");
}
