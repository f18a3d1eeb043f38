//! What the controllers of workloads have in common: their status, their scale, and that they go together.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const APPS: &str = "/apis/apps/v1/namespaces/default";
const SELECTED: &str = "labelSelector=e2e%3Dtesting";

/// A kind of workload.
struct Kind {
    /// Where its objects are.
    path: String,
    /// An object named `w` with one pod.
    object: Value,
    /// The field of its status that counts pods that run.
    running: &'static str,
}

impl Kind {
    fn one(&self) -> String {
        format!("{}/w", self.path)
    }

    /// Creates the object and waits until its pods run.
    async fn start(&self, api: &Api, pods: u64) -> Value {
        api.create(&self.path, &self.object).await;
        self.runs(api, pods).await;
        api.get(&self.one()).await
    }

    async fn runs(&self, api: &Api, pods: u64) {
        eventually(&format!("{} has {pods} pods that run", self.path), async || {
            let object = api.get(&self.one()).await;
            let seen = &object["status"]["observedGeneration"];
            object["status"][self.running].as_u64().unwrap_or(0) == pods
                && (seen.is_null() || *seen == object["metadata"]["generation"])
        })
        .await;
    }
}

fn spec(more: Value) -> Value {
    let labels = json!({"e2e": "testing"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "web:1"}]}});
    let mut spec = json!({"selector": {"matchLabels": labels}, "template": template});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn kind(plural: &str, spec: Value, running: &'static str) -> Kind {
    let object = json!({"metadata": {"name": "w", "labels": {"e2e": "testing"}}, "spec": spec});
    Kind { path: format!("{APPS}/{plural}"), object, running }
}

fn deployments(replicas: u32) -> Kind {
    kind("deployments", spec(json!({"replicas": replicas})), "availableReplicas")
}

fn replica_sets(replicas: u32) -> Kind {
    kind("replicasets", spec(json!({"replicas": replicas})), "availableReplicas")
}

fn stateful_sets(replicas: u32) -> Kind {
    kind("statefulsets", spec(json!({"replicas": replicas, "serviceName": "peers"})), "availableReplicas")
}

fn daemon_sets() -> Kind {
    kind("daemonsets", spec(json!({})), "numberAvailable")
}

fn jobs() -> Kind {
    let mut spec = spec(json!({"parallelism": 1, "completions": 4}));
    spec.as_object_mut().unwrap().remove("selector");
    spec["template"]["spec"]["restartPolicy"] = json!("Never");
    let object = json!({"metadata": {"name": "w", "labels": {"e2e": "testing"}}, "spec": spec});
    Kind { path: "/apis/batch/v1/namespaces/default/jobs".to_owned(), object, running: "ready" }
}

fn has_condition(object: &Value, kind: &str) -> bool {
    object["status"]["conditions"].as_array().into_iter().flatten().any(|known| known["type"] == kind)
}

/// Writes conditions of its own into the status of a settled object, in every way, and sees each.
async fn writes_into_the_status(api: &Api, kind: &Kind) {
    let created = kind.start(api, 1).await;
    let mut events = api.watch(&format!("{}?{SELECTED}", kind.path)).await;
    let status = format!("{}/status", kind.one());
    let read = api.get(&status).await;
    assert_eq!(read["metadata"]["uid"], created["metadata"]["uid"]);
    assert_eq!(read["status"][kind.running], 1);
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": "Set from a test"});
    let updated = api
        .update(&status, |object| {
            let conditions = &mut object["status"]["conditions"];
            if conditions.is_null() {
                *conditions = json!([]);
            }
            conditions.as_array_mut().unwrap().push(condition("StatusUpdate"));
        })
        .await;
    assert!(has_condition(&updated, "StatusUpdate"), "{updated}");
    events.until("MODIFIED", |object| has_condition(object, "StatusUpdate")).await;
    let patch = json!({"status": {"conditions": [condition("StatusPatched")]}});
    let patched = api.merge(&status, &patch).await;
    assert!(has_condition(&patched, "StatusPatched") && !has_condition(&patched, "StatusUpdate"), "{patched}");
    events.until("MODIFIED", |object| has_condition(object, "StatusPatched")).await;
}

/// Conformance: [sig-apps] Deployment should validate Deployment Status endpoints [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_deployment_may_say_more_than_its_controller_says() {
    let cluster = TestCluster::start().await.unwrap();
    let (api, kind) = (Api::of(&cluster), deployments(1));
    writes_into_the_status(&api, &kind).await;
    api.merge(&kind.one(), &json!({"spec": {"replicas": 2}})).await;
    kind.runs(&api, 2).await;
    let object = api.get(&kind.one()).await;
    assert!(has_condition(&object, "StatusPatched"), "{object}");
    eventually("what the patch took is back", async || has_condition(&api.get(&kind.one()).await, "Available")).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] ReplicaSet should validate Replicaset Status endpoints [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_replica_set_may_say_more_than_its_controller_says() {
    let cluster = TestCluster::start().await.unwrap();
    let (api, kind) = (Api::of(&cluster), replica_sets(1));
    writes_into_the_status(&api, &kind).await;
    api.merge(&kind.one(), &json!({"spec": {"replicas": 2}})).await;
    kind.runs(&api, 2).await;
    let object = api.get(&kind.one()).await;
    assert!(has_condition(&object, "StatusPatched"), "{object}");
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Daemon set [Serial] should verify changes to a daemon set status [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_daemon_set_may_say_more_than_its_controller_says() {
    let cluster = TestCluster::start().await.unwrap();
    let (api, kind) = (Api::of(&cluster), daemon_sets());
    writes_into_the_status(&api, &kind).await;
    api.merge(&kind.one(), &json!({"spec": {"minReadySeconds": 1}})).await;
    kind.runs(&api, 1).await;
    let object = api.get(&kind.one()).await;
    assert!(has_condition(&object, "StatusPatched"), "{object}");
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should validate Statefulset Status endpoints [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_stateful_set_can_be_written() {
    let cluster = TestCluster::start().await.unwrap();
    writes_into_the_status(&Api::of(&cluster), &stateful_sets(1)).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Job should apply changes to a job status [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_job_may_say_more_than_its_controller_says() {
    let cluster = TestCluster::start().await.unwrap();
    let (api, kind) = (Api::of(&cluster), jobs());
    writes_into_the_status(&api, &kind).await;
    // Other than with the kinds of `apps`, metadata is written by way of the status, too.
    let annotated = json!({"metadata": {"annotations": {"patchedstatus": "true"}}});
    let patched = api.merge(&format!("{}/status", kind.one()), &annotated).await;
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    api.merge(&kind.one(), &json!({"spec": {"parallelism": 2}})).await;
    kind.runs(&api, 2).await;
    let object = api.get(&kind.one()).await;
    assert!(has_condition(&object, "StatusPatched"), "{object}");
    cluster.stop().await.unwrap();
}

/// Reads, updates and patches the scale of an object with one pod.
async fn scales(kind: Kind) {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    kind.start(&api, 1).await;
    let path = format!("{}/scale", kind.one());
    let mut scale = api.get(&path).await;
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(1), &json!(1)));
    assert_eq!(scale["status"]["selector"], "e2e=testing");
    // Without a version the update is unconditional.
    scale["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    scale["spec"]["replicas"] = json!(2);
    assert_eq!(api.put(&path, &scale).await["spec"]["replicas"], 2);
    assert_eq!(api.get(&kind.one()).await["spec"]["replicas"], 2);
    // What a typed client makes of a scale of which only the spec is filled in.
    let patch = json!({"metadata": {}, "spec": {"replicas": 4}, "status": {"replicas": 0}});
    api.strategic(&path, &patch).await;
    assert_eq!(api.get(&kind.one()).await["spec"]["replicas"], 4);
    kind.runs(&api, 4).await;
    assert_eq!(api.get(&path).await["status"]["replicas"], 4);
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Deployment Deployment should have a working scale subresource [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn deployments_are_scaled_by_their_subresource() {
    scales(deployments(1)).await;
}

/// Conformance: [sig-apps] ReplicaSet Replicaset should have a working scale subresource [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn replica_sets_are_scaled_by_their_subresource() {
    scales(replica_sets(1)).await;
}

/// Finds objects of a kind in all namespaces, patches one and deletes them together, with their pods.
async fn goes_with_the_collection(kind: Kind, pods: u64, patch: Value, pods_then: u64) {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    kind.start(&api, pods).await;
    let everywhere = format!("{}?{SELECTED}", kind.path.replace("/namespaces/default", ""));
    let found = api.items(&everywhere).await;
    assert_eq!(found.iter().map(|one| &one["metadata"]["name"]).collect::<Vec<_>>(), ["w"]);
    let patched = api.strategic(&kind.one(), &patch).await;
    for (label, value) in patch["metadata"]["labels"].as_object().unwrap() {
        assert_eq!(patched["metadata"]["labels"][label], *value);
    }
    kind.runs(&api, pods_then).await;
    api.delete_collection(&format!("{}?{SELECTED}&gracePeriodSeconds=1", kind.path)).await;
    assert!(api.items(&everywhere).await.is_empty());
    let of_kind = format!("/api/v1/namespaces/default/pods?{SELECTED}");
    eventually("the pods go, too", async || api.items(&of_kind).await.is_empty()).await;
    cluster.stop().await.unwrap();
}

fn labelled() -> Value {
    json!({"metadata": {"labels": {"test": "patched"}}})
}

/// Conformance: [sig-apps] Daemon set [Serial] should list and delete a collection of DaemonSets [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn daemon_sets_are_found_and_deleted_together() {
    goes_with_the_collection(daemon_sets(), 1, labelled(), 1).await;
}

/// Conformance: [sig-apps] ReplicaSet should list and delete a collection of ReplicaSets [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn replica_sets_are_found_and_deleted_together() {
    goes_with_the_collection(replica_sets(3), 3, labelled(), 3).await;
}

/// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should list, patch and delete a collection of StatefulSets [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn stateful_sets_are_found_patched_and_deleted_together() {
    let mut patch = labelled();
    let template =
        json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "web:2"}]}});
    patch["spec"] = json!({"replicas": 2, "template": template});
    goes_with_the_collection(stateful_sets(1), 1, patch, 2).await;
}

/// Conformance: [sig-apps] ReplicaSet Replace and Patch tests [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_is_replaced_and_patched() {
    let cluster = TestCluster::start().await.unwrap();
    let (api, kind) = (Api::of(&cluster), replica_sets(1));
    kind.start(&api, 1).await;
    let mut events = api.watch(&format!("{}?labelSelector=test%3Dpatched", kind.path)).await;
    api.update(&kind.one(), |set| set["spec"]["replicas"] = json!(2)).await;
    let template =
        json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "d", "image": "web:2"}]}});
    let mut patch = labelled();
    patch["spec"] = json!({"replicas": 3, "template": template});
    let patched = api.strategic(&kind.one(), &patch).await;
    // A container of another name is one more, and comes first.
    let containers = &patched["spec"]["template"]["spec"]["containers"];
    assert_eq!((&containers[0]["image"], &containers[1]["image"]), (&json!("web:2"), &json!("web:1")));
    let count = |set: &Value, field: &str| set["status"][field] == 3;
    events.until("MODIFIED", |set| count(set, "readyReplicas") && count(set, "availableReplicas")).await;
    cluster.stop().await.unwrap();
}
