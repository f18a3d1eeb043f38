//! Volumes of storage drivers, against a real API server in this process, a runtime in memory and a driver that does as
//! it is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod driver;
mod node;

use std::time::Duration;

use driver::{Call, Driver, Trouble};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, VolumeAttachment};
use kube::Api;
use node::{TestNode, phase};
use serde_json::{Value, json};

const NAME: &str = "disks.example.org";
const UNIQUE: &str = "kubernetes.io/csi/disks.example.org^handle-1";

async fn wait(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{what} in time"));
}

/// A node with a driver that is registered, and whose CSIDriver says this.
async fn node_with_driver(spec: Value) -> (TestNode, Driver) {
    let node = TestNode::start().await;
    let api: Api<CSIDriver> = Api::all(node.client());
    node.make(api, json!({"metadata": {"name": NAME}, "spec": spec})).await;
    let driver = Driver::start(&node.root(), NAME);
    assert!(driver.told().await.registered);
    (node, driver)
}

/// A claim `c` that is bound to the volume `pv-1`, with this in the volume's and the driver's part of it.
async fn volume(node: &TestNode, spec: Value, source: Value) {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(node.client(), "default");
    let size = json!({"storage": "1Gi"});
    let modes = json!(["ReadWriteOnce"]);
    let claim = json!({
        "metadata": {"name": "c"},
        "spec": {"accessModes": modes, "storageClassName": "", "volumeName": "pv-1", "resources": {"requests": size}},
        "status": {"phase": "Bound"},
    });
    let uid = node.make(claims, claim).await.metadata.uid.unwrap();
    let mut csi = json!({"driver": NAME, "volumeHandle": "handle-1"});
    csi.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    let reference = json!({"namespace": "default", "name": "c", "uid": uid});
    let mut all = json!({"accessModes": modes, "capacity": size, "claimRef": reference, "csi": csi});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let volumes: Api<PersistentVolume> = Api::all(node.client());
    node.make(volumes, json!({"metadata": {"name": "pv-1"}, "spec": all})).await;
}

fn pod() -> Value {
    json!({
        "securityContext": {"fsGroup": 4321},
        "containers": [{"name": "c", "image": "busybox:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}],
    })
}

async fn in_use(node: &TestNode) -> Vec<String> {
    node.wait_for_node(|_| true).await.status.unwrap().volumes_in_use.unwrap_or_default()
}

/// Whether nothing is written down of volumes any more.
fn is_tidy(node: &TestNode) -> bool {
    let staged = node.root().join("plugins/kubernetes.io/csi").join(NAME);
    std::fs::read_dir(staged).into_iter().flatten().count() == 0
}

#[tokio::test]
async fn a_volume_is_staged_published_and_taken_down_in_order_with_all_that_belongs_to_it() {
    let (node, driver) =
        node_with_driver(json!({"attachRequired": false, "podInfoOnMount": true, "fsGroupPolicy": "File"})).await;
    let secrets: Api<Secret> = Api::namespaced(node.client(), "default");
    node.make(secrets.clone(), json!({"metadata": {"name": "stage"}, "stringData": {"key": "s1"}})).await;
    node.make(secrets, json!({"metadata": {"name": "publish"}, "stringData": {"key": "s2"}})).await;
    let reference = |name: &str| json!({"namespace": "default", "name": name});
    let source = json!({"fsType": "ext4", "volumeAttributes": {"pool": "fast"},
        "nodeStageSecretRef": reference("stage"), "nodePublishSecretRef": reference("publish")});
    volume(&node, json!({"mountOptions": ["noatime"]}), source).await;
    let made = node.create("p", pod()).await;
    node.wait_for("p", |pod| phase(pod) == "Running").await;
    assert_eq!(driver.words(), ["stage", "publish"]);
    let (stage, publish) = (driver.staged().unwrap(), driver.published().unwrap());
    assert_eq!(
        (stage.volume.as_str(), stage.secrets["key"].as_str(), stage.context["pool"].as_str()),
        ("handle-1", "s1", "fast")
    );
    let access = stage.access.unwrap();
    let mount = access.mount.unwrap();
    assert_eq!(
        (mount.fs_type.as_str(), mount.flags.as_slice(), access.mode.unwrap().mode),
        ("ext4", &["noatime".to_owned()][..], 1)
    );
    let uid = made.metadata.uid.clone().unwrap();
    let target = node.pod_dir(&made).join("volumes/kubernetes.io~csi/pv-1/mount");
    assert_eq!((publish.target.as_str(), publish.staging == stage.staging), (target.to_str().unwrap(), true));
    assert!(
        stage.staging.ends_with("/globalmount")
            && stage.staging.contains("/plugins/kubernetes.io/csi/disks.example.org/")
    );
    assert_eq!((publish.secrets["key"].as_str(), publish.readonly), ("s2", false));
    let told = |key: &str| publish.context[&format!("csi.storage.k8s.io/{key}")].as_str();
    assert_eq!([told("pod.name"), told("pod.namespace"), told("pod.uid")], ["p", "default", uid.as_str()]);
    assert_eq!([told("serviceAccount.name"), told("ephemeral")], ["default", "false"]);
    let group = std::os::unix::fs::MetadataExt::gid(&target.metadata().unwrap());
    assert_eq!(group, 4321);
    node.delete("p").await;
    node.wait_until_gone("p").await;
    wait("it is unstaged", async || driver.words().len() == 4).await;
    assert_eq!(driver.words(), ["stage", "publish", "unpublish", "unstage"]);
    wait("nothing is left", async || is_tidy(&node)).await;
    assert!(!node.pod_dir(&made).exists());
}

/// Says that the volume is attached, as a controller and a driver would.
async fn attach(node: &TestNode) {
    let name = api::volumes::attachment::attachment_name("handle-1", NAME, "node-1");
    let attachments: Api<VolumeAttachment> = Api::all(node.client());
    let spec = json!({"attacher": NAME, "nodeName": "node-1", "source": {"persistentVolumeName": "pv-1"}});
    let status = json!({"attached": true, "attachmentMetadata": {"device": "/dev/sdx"}});
    node.make(attachments, json!({"metadata": {"name": name}, "spec": spec, "status": status})).await;
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(node.client());
    let attached = json!({"status": {"volumesAttached": [{"name": UNIQUE, "devicePath": ""}]}});
    nodes.patch_status("node-1", &Default::default(), &kube::api::Patch::Merge(attached)).await.unwrap();
}

#[tokio::test]
async fn a_volume_that_is_to_be_attached_is_in_use_before_it_is_there_and_until_it_is_unstaged() {
    let (mut node, driver) = node_with_driver(json!({})).await;
    volume(&node, json!({}), json!({})).await;
    node.create("p", pod()).await;
    wait("it is wanted", async || in_use(&node).await == [UNIQUE]).await;
    assert!(driver.words().is_empty());
    attach(&node).await;
    node.wait_for("p", |pod| phase(pod) == "Running").await;
    let context = [driver.staged().unwrap().publish_context, driver.published().unwrap().publish_context];
    assert!(context.iter().all(|context| context["device"] == "/dev/sdx"), "{context:?}");
    driver.trouble("NodeUnstageVolume", Trouble::Fail(tonic::Code::Internal));
    node.delete("p").await;
    node.wait_until_gone("p").await;
    assert_eq!(in_use(&node).await, [UNIQUE], "it is staged still");
    node.restart_kubelet().await;
    driver.told().await;
    assert_eq!(in_use(&node).await, [UNIQUE], "and a restart does not forget that");
    driver.recover();
    wait("it is free to be detached", async || in_use(&node).await.is_empty()).await;
    assert!(is_tidy(&node));
}

#[tokio::test]
async fn a_driver_that_fails_at_any_call_is_asked_again_and_nothing_is_left_behind() {
    let (node, driver) = node_with_driver(json!({"attachRequired": false})).await;
    volume(&node, json!({}), json!({})).await;
    for method in ["NodeGetCapabilities", "NodeStageVolume", "NodePublishVolume"] {
        driver.trouble(method, Trouble::Fail(tonic::Code::Internal));
        node.create(&method.to_lowercase(), pod()).await;
        let message = node.wait_for_message(&method.to_lowercase(), "FailedMount").await;
        assert!(message.contains("code = Internal desc = as the test wants"), "{message}");
        driver.recover();
        node.wait_for(&method.to_lowercase(), |pod| phase(pod) == "Running").await;
        node.delete(&method.to_lowercase()).await;
        node.wait_until_gone(&method.to_lowercase()).await;
    }
    wait("nothing is left", async || is_tidy(&node)).await;
    node.create("p", pod()).await;
    node.wait_for("p", |pod| phase(pod) == "Running").await;
    driver.trouble("NodeUnpublishVolume", Trouble::Fail(tonic::Code::Unavailable));
    node.delete("p").await;
    node.wait_for_event("p", "FailedKillPod").await;
    assert_eq!(node.get("p").await.metadata.name.as_deref(), Some("p"), "its volume is mounted still");
    driver.recover();
    node.wait_until_gone("p").await;
    wait("nothing is left", async || is_tidy(&node)).await;
}

#[tokio::test]
async fn a_kubelet_that_is_killed_between_stage_and_publish_cleans_up_what_it_began_for_a_pod_that_is_gone() {
    let (mut node, driver) = node_with_driver(json!({"attachRequired": false})).await;
    volume(&node, json!({}), json!({})).await;
    driver.trouble("NodePublishVolume", Trouble::Hang);
    node.create("p", pod()).await;
    wait("it is staged", async || driver.words() == ["stage"]).await;
    node.kill_kubelet().await;
    assert!(!is_tidy(&node));
    node.force_delete("p").await;
    driver.recover();
    node.start_kubelet();
    wait("it is unstaged", async || driver.words() == ["stage", "unpublish", "unstage"]).await;
    wait("nothing is left", async || is_tidy(&node)).await;
}

#[tokio::test]
async fn a_kubelet_that_is_killed_goes_on_with_the_volume_of_a_pod_that_stays() {
    let (mut node, driver) = node_with_driver(json!({"attachRequired": false})).await;
    volume(&node, json!({}), json!({})).await;
    node.create("p", pod()).await;
    node.wait_for("p", |pod| phase(pod) == "Running").await;
    node.kill_kubelet().await;
    node.start_kubelet();
    wait("it is looked at again", async || driver.words().len() == 4).await;
    assert_eq!(driver.words(), ["stage", "publish", "stage", "publish"], "which changes nothing");
    node.delete("p").await;
    node.wait_until_gone("p").await;
    wait("nothing is left", async || is_tidy(&node)).await;
}

#[tokio::test]
async fn the_volume_of_a_pod_that_has_finished_is_free() {
    let (node, driver) = node_with_driver(json!({"attachRequired": false})).await;
    volume(&node, json!({}), json!({})).await;
    let mut spec = pod();
    spec["restartPolicy"] = json!("Never");
    node.create("p", spec).await;
    let running = node.wait_for("p", |pod| phase(pod) == "Running").await;
    let id = node::container(&running, "c").container_id.unwrap();
    node.runtime.exit_container(id.rsplit('/').next().unwrap(), 0).unwrap();
    node.wait_for("p", |pod| phase(pod) == "Succeeded").await;
    wait("it is unstaged", async || driver.words() == ["stage", "publish", "unpublish", "unstage"]).await;
}

fn own_volume() -> Value {
    let mut spec = pod();
    spec["volumes"] = json!([{"name": "data", "csi": {"driver": NAME, "volumeAttributes": {"size": "small"}}}]);
    spec
}

#[tokio::test]
async fn a_pod_has_a_volume_for_itself_if_the_driver_says_so() {
    let tokens = json!([{"audience": "vault", "expirationSeconds": 600}]);
    let spec = json!({"volumeLifecycleModes": ["Ephemeral"], "podInfoOnMount": true, "tokenRequests": tokens, "requiresRepublish": true});
    let (node, driver) = node_with_driver(spec).await;
    let made: Pod = node.create("p", own_volume()).await;
    node.wait_for("p", |pod| phase(pod) == "Running").await;
    assert_eq!(driver.words(), ["publish"], "there is nothing to attach or stage");
    let publish = driver.published().unwrap();
    let handle = api::volumes::attachment::ephemeral_handle(made.metadata.uid.as_deref().unwrap(), "data");
    assert_eq!((publish.volume, publish.staging.as_str()), (handle, ""));
    assert_eq!([&publish.context["csi.storage.k8s.io/ephemeral"], &publish.context["size"]], ["true", "small"]);
    let tokens: Value = serde_json::from_str(&publish.context["csi.storage.k8s.io/serviceAccount.tokens"]).unwrap();
    assert!(
        tokens["vault"]["token"].as_str().unwrap().starts_with("ey")
            && tokens["vault"]["expirationTimestamp"].is_string(),
        "{tokens}"
    );
    node.delete("p").await;
    node.wait_until_gone("p").await;
    assert_eq!(driver.words(), ["publish", "unpublish"]);
}

#[tokio::test]
async fn volumes_that_cannot_be_are_refused_in_words_and_hold_up_no_deletion() {
    let (node, driver) = node_with_driver(json!({"attachRequired": false})).await;
    node.create("own", own_volume()).await;
    let message = node.wait_for_message("own", "FailedMount").await;
    assert!(message.contains("volume mode \"Ephemeral\" not supported by driver disks.example.org"), "{message}");
    drop(driver);
    volume(&node, json!({}), json!({})).await;
    let refused = async || {
        node.create("p", pod()).await;
        let message = node.wait_for_message("p", "FailedMount").await;
        assert!(message.contains("not found in the list of registered CSI drivers"), "{message}");
    };
    let nodes: Api<CSINode> = Api::all(node.client());
    wait("the driver is gone", async || nodes.get("node-1").await.unwrap().spec.drivers.is_empty()).await;
    refused().await;
    for name in ["own", "p"] {
        node.delete(name).await;
        node.wait_until_gone(name).await;
    }
}

async fn claim(node: &TestNode) -> PersistentVolumeClaim {
    Api::namespaced(node.client(), "default").get("c").await.unwrap()
}

/// Says that the claim has this much, and that the node is to make its file system larger.
async fn has(node: &TestNode, size: &str) {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(node.client(), "default");
    let pending = json!({"type": "FileSystemResizePending", "status": "True"});
    let other = json!({"type": "ModifyingVolume", "status": "True"});
    let states = json!({"storage": "NodeResizePending"});
    let status =
        json!({"capacity": {"storage": size}, "conditions": [pending, other], "allocatedResourceStatuses": states});
    claims.patch_status("c", &Default::default(), &kube::api::Patch::Merge(json!({"status": status}))).await.unwrap();
}

#[tokio::test]
async fn a_volume_that_has_grown_is_made_larger_as_it_is_mounted_and_the_claim_says_so() {
    let (node, driver) = node_with_driver(json!({"attachRequired": false})).await;
    driver.mind().capabilities = vec![1, 3];
    volume(&node, json!({}), json!({})).await;
    has(&node, "512Mi").await;
    node.create("p", pod()).await;
    node.wait_for("p", |pod| phase(pod) == "Running").await;
    assert_eq!(driver.words(), ["stage", "publish", "expand"]);
    let Some(Call::Expand(expand)) = driver.mind().calls.last().cloned() else { panic!("it is made larger") };
    assert_eq!((expand.volume.as_str(), expand.size.unwrap().bytes), ("handle-1", 1 << 30));
    assert_eq!(expand.place, expand.staging);
    let status = claim(&node).await.status.unwrap();
    assert_eq!(status.capacity.unwrap()["storage"].0, "1Gi");
    let conditions: Vec<_> = status.conditions.unwrap().into_iter().map(|one| one.type_).collect();
    assert_eq!(
        (conditions, status.allocated_resource_statuses.unwrap_or_default().len()),
        (vec!["ModifyingVolume".to_owned()], 0)
    );
    node.wait_for_event("p", "FileSystemResizeSuccessful").await;
}

#[tokio::test]
async fn a_volume_that_cannot_be_made_larger_is_told_of() {
    let (node, driver) = node_with_driver(json!({"attachRequired": false})).await;
    driver.mind().capabilities = vec![1, 3];
    driver.trouble("NodeExpandVolume", Trouble::Fail(tonic::Code::OutOfRange));
    volume(&node, json!({}), json!({})).await;
    has(&node, "512Mi").await;
    node.create("p", pod()).await;
    let message = node.wait_for_message("p", "VolumeResizeFailed").await;
    assert!(message.contains("code = OutOfRange"), "{message}");
    wait("the claim is told", async || {
        let states = claim(&node).await.status.unwrap().allocated_resource_statuses.unwrap_or_default();
        states.get("storage").is_some_and(|state| state == "NodeResizeInfeasible")
    })
    .await;
    node.wait_for("p", |pod| phase(pod) == "Running").await;
    assert_eq!(claim(&node).await.status.unwrap().capacity.unwrap()["storage"].0, "512Mi");
}
