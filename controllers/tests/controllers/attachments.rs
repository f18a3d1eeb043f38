//! Volumes of drivers are attached to nodes and detached. The tests play kubelets and the driver's attacher.

use api::volumes::attachment::{attachment_name, unique_name};
use k8s_openapi::api::storage::v1::VolumeAttachment;

use super::*;

const DRIVER: &str = "disks.example.com";
const PATIENCE: Duration = Duration::from_secs(3);

impl Cluster {
    async fn for_attachments() -> Self {
        let mut config = Config::default();
        config.tuning.attach_detach_reconcile_max_wait_unmount_duration = PATIENCE;
        // No node of these tests has a kubelet that would tell that it is alive.
        config.controllers = ["attachdetach", "persistentvolume-binder"].map(str::to_owned).into();
        let cluster = Self::with(config).await;
        for node in ["a", "b"] {
            let nodes: Api<Node> = Api::all(cluster.client.clone());
            let managed = json!({ "volumes.kubernetes.io/controller-managed-attach-detach": "true" });
            let node = json!({ "metadata": { "name": node, "annotations": managed } });
            nodes.create(&PostParams::default(), &from_value(node).unwrap()).await.unwrap();
        }
        cluster.node_status("a", json!({ "conditions": [{ "type": "Ready", "status": "True" }] })).await;
        cluster
    }

    fn attachments(&self) -> Api<VolumeAttachment> {
        Api::all(self.client.clone())
    }

    async fn node_status(&self, node: &str, status: Value) -> Node {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({ "status": status }));
        nodes.patch_status(node, &PatchParams::default(), &patch).await.unwrap()
    }

    /// A claim of this name with a volume of the driver.
    async fn driver_volume(&self, name: &str) {
        let size = json!({ "storage": "1Gi" });
        let reference = json!({ "namespace": "default", "name": name });
        let csi = json!({ "driver": DRIVER, "volumeHandle": format!("handle of {name}") });
        let spec = json!({ "accessModes": ["ReadWriteOnce"], "capacity": size, "claimRef": reference, "csi": csi });
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = json!({ "metadata": { "name": name }, "spec": spec });
        volumes.create(&PostParams::default(), &from_value(volume).unwrap()).await.unwrap();
        let spec = json!({
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name, "resources": { "requests": size },
        });
        let _made: PersistentVolumeClaim = self.create(json!({ "metadata": { "name": name }, "spec": spec })).await;
    }

    async fn user(&self, name: &str, node: &str, claim: &str) {
        let mut pod = pod("default", name, json!({}));
        pod["spec"]["nodeName"] = json!(node);
        pod["spec"]["volumes"] = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": claim } }]);
        let _made: Pod = self.create(pod).await;
    }

    async fn delete_now(&self, pod: &str) {
        self.api::<Pod>().delete(pod, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    async fn has_attachment(&self, claim: &str, node: &str, has: bool) -> String {
        let name = attachment_name(&format!("handle of {claim}"), DRIVER, node);
        let what = format!("{claim} {} attached to {node}", if has { "is to be" } else { "is not" });
        eventually(&what, async || self.attachments().get_opt(&name).await.unwrap().is_some() == has).await;
        name
    }

    /// Says of an attachment what the driver says.
    async fn answer(&self, attachment: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.attachments().patch_status(attachment, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn shows(&self, node: &str, claims: &[&str]) {
        let expected: Vec<_> = claims.iter().map(|claim| unique_name(DRIVER, &format!("handle of {claim}"))).collect();
        let nodes: Api<Node> = Api::all(self.client.clone());
        eventually(&format!("{node} has {claims:?}"), async || {
            let status = nodes.get(node).await.unwrap().status.unwrap_or_default();
            let shown: Vec<_> = status.volumes_attached.into_iter().flatten().map(|one| one.name).collect();
            shown == expected
        })
        .await;
    }

    async fn tells(&self, pod: &str, text: &str) {
        eventually(&format!("{pod} is told {text}"), async || {
            let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
            let is_about = |event: &Event| event.involved_object.name.as_deref() == Some(pod);
            events.iter().any(|event| is_about(event) && event.message.as_deref().unwrap_or_default().contains(text))
        })
        .await;
    }
}

fn in_use(claims: &[&str]) -> Value {
    let names: Vec<_> = claims.iter().map(|claim| unique_name(DRIVER, &format!("handle of {claim}"))).collect();
    json!({ "volumesInUse": names })
}

#[tokio::test]
async fn a_volume_follows_its_pod_from_node_to_node_and_never_is_on_two() {
    let cluster = Cluster::for_attachments().await;
    cluster.driver_volume("data").await;
    cluster.user("first", "a", "data").await;
    let attachment = cluster.has_attachment("data", "a", true).await;
    let made = cluster.attachments().get(&attachment).await.unwrap().spec;
    assert_eq!((made.attacher.as_str(), made.node_name.as_str()), (DRIVER, "a"));
    assert_eq!(made.source.persistent_volume_name.as_deref(), Some("data"));
    cluster.answer(&attachment, json!({ "attached": false, "attachError": { "message": "no room" } })).await;
    cluster.tells("first", "AttachVolume.Attach failed for volume \"data\" : no room").await;
    cluster.node_status("a", in_use(&["data"])).await;
    cluster.answer(&attachment, json!({ "attached": true, "attachError": null })).await;
    cluster.shows("a", &["data"]).await;
    cluster.tells("first", "AttachVolume.Attach succeeded for volume \"data\"").await;
    cluster.user("second", "b", "data").await;
    cluster.tells("second", "Multi-Attach error for volume \"data\" Volume is already used by pod(s) first").await;
    cluster.delete_now("first").await;
    cluster.shows("a", &["data"]).await;
    cluster.has_attachment("data", "b", false).await;
    // The kubelet has unmounted it.
    cluster.node_status("a", json!({ "volumesInUse": null })).await;
    cluster.has_attachment("data", "a", false).await;
    cluster.shows("a", &[]).await;
    cluster.has_attachment("data", "b", true).await;
}

#[tokio::test]
async fn a_node_that_is_lost_loses_its_volumes_after_a_while_and_one_out_of_service_at_once() {
    let cluster = Cluster::for_attachments().await;
    for claim in ["one", "two"] {
        cluster.driver_volume(claim).await;
    }
    cluster.user("p", "a", "one").await;
    cluster.user("q", "b", "two").await;
    for (claim, node) in [("one", "a"), ("two", "b")] {
        let attachment = cluster.has_attachment(claim, node, true).await;
        cluster.node_status(node, in_use(&[claim])).await;
        cluster.answer(&attachment, json!({ "attached": true })).await;
        cluster.shows(node, &[claim]).await;
    }
    cluster.delete_now("p").await;
    cluster.delete_now("q").await;
    // `b` was never ready; `a` is, and keeps what it uses however long that takes.
    cluster.has_attachment("two", "b", false).await;
    cluster.shows("b", &[]).await;
    cluster.has_attachment("one", "a", true).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let taint = json!({ "key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute" });
    let patch = Patch::Merge(json!({ "spec": { "taints": [taint] } }));
    nodes.patch("a", &PatchParams::default(), &patch).await.unwrap();
    cluster.has_attachment("one", "a", false).await;
}

#[tokio::test]
async fn drivers_that_do_not_attach_and_attachments_of_others_are_left_alone() {
    let cluster = Cluster::for_attachments().await;
    let drivers: Api<k8s_openapi::api::storage::v1::CSIDriver> = Api::all(cluster.client.clone());
    let driver = json!({ "metadata": { "name": DRIVER }, "spec": { "attachRequired": false } });
    drivers.create(&PostParams::default(), &from_value(driver).unwrap()).await.unwrap();
    cluster.driver_volume("data").await;
    let foreign = json!({
        "metadata": { "name": "by-hand" },
        "spec": { "attacher": DRIVER, "nodeName": "a", "source": { "persistentVolumeName": "data" } },
    });
    cluster.attachments().create(&PostParams::default(), &from_value(foreign).unwrap()).await.unwrap();
    cluster.user("p", "b", "data").await;
    // Another driver's volume, which is attached after all of that was seen.
    let size = json!({ "storage": "1Gi" });
    let csi = json!({ "driver": "other.example.com", "volumeHandle": "handle of last" });
    let reference = json!({ "namespace": "default", "name": "last" });
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "capacity": size, "claimRef": reference, "csi": csi });
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let volume = json!({ "metadata": { "name": "last" }, "spec": spec });
    volumes.create(&PostParams::default(), &from_value(volume).unwrap()).await.unwrap();
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": "last", "resources": { "requests": size } });
    let _made: PersistentVolumeClaim = cluster.create(json!({ "metadata": { "name": "last" }, "spec": spec })).await;
    cluster.user("q", "b", "last").await;
    let name = attachment_name("handle of last", "other.example.com", "b");
    eventually("the other one is attached", async || cluster.attachments().get_opt(&name).await.unwrap().is_some())
        .await;
    let all = cluster.attachments().list(&ListParams::default()).await.unwrap().items;
    let mut names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
    names.sort();
    assert_eq!(names, ["by-hand".to_owned(), name]);
}
