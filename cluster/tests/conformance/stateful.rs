//! StatefulSets.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};
use crate::kubectl::Shell;

const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const SET: &str = "/apis/apps/v1/namespaces/default/statefulsets/web";
const PODS: &str = "/api/v1/namespaces/default/pods";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";

/// A set whose pods are ready at once; `more` is merged into its spec.
fn set(replicas: u32, more: Value) -> Value {
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "a:1"}]});
    let mut set = json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "serviceName": "peers",
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec}}});
    set["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    set
}

async fn pods(api: &Api) -> Vec<Value> {
    api.items(&format!("{PODS}?labelSelector=app%3Dweb")).await
}

async fn names(api: &Api) -> Vec<String> {
    pods(api).await.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn images(api: &Api) -> Vec<String> {
    pods(api).await.iter().map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the set has these pods, all available.
async fn has(api: &Api, expected: &[&str]) {
    eventually(&format!("the pods are {expected:?}"), async || {
        let set = api.get(SET).await;
        let count = |field: &str| set["status"][field].as_u64().unwrap_or(0) == expected.len() as u64;
        set["status"]["observedGeneration"] == set["metadata"]["generation"]
            && ["replicas", "readyReplicas", "availableReplicas"].iter().all(|field| count(field))
            && names(api).await == expected
    })
    .await;
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

/// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should have a working scale subresource [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_set_grows_and_shrinks_by_ordinals() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    api.create(SETS, &set(3, json!({"ordinals": {"start": 2}}))).await;
    has(&api, &["web-2", "web-3", "web-4"]).await;
    let pods = pods(&api).await;
    for (pod, ordinal) in pods.iter().zip(2..) {
        let (labels, name) = (&pod["metadata"]["labels"], format!("web-{ordinal}"));
        assert_eq!(labels["statefulset.kubernetes.io/pod-name"], json!(name));
        assert_eq!(labels["apps.kubernetes.io/pod-index"], json!(ordinal.to_string()));
        assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!(name), &json!("peers")));
    }
    let scale = api.merge(&format!("{SET}/scale"), &json!({"spec": {"replicas": 1}})).await;
    assert_eq!(scale["spec"]["replicas"], 1);
    has(&api, &["web-2"]).await;
    api.delete(SET, "Background").await;
    eventually("the pods go, too", async || names(&api).await.is_empty()).await;
    cluster.stop().await.unwrap();
}

/// Pods that are not ready: in order nothing follows the first, in parallel all come.
#[tokio::test(flavor = "multi_thread")]
async fn pods_wait_for_those_before_them() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let mut waiting = set(3, json!({}));
    waiting["spec"]["template"]["spec"]["readinessGates"] = json!([{"conditionType": "example.com/go"}]);
    api.create(SETS, &waiting).await;
    eventually("the first runs", async || {
        let pods = pods(&api).await;
        !pods.is_empty() && pods[0]["status"]["phase"] == "Running"
    })
    .await;
    let status = api.get(SET).await["status"].clone();
    assert_eq!((names(&api).await, &status["replicas"]), (vec!["web-0".to_owned()], &json!(1)));
    assert_eq!(status["availableReplicas"], 0);
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Burst scaling should run to completion even with unhealthy pods [Slow] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_parallel_set_scales_though_its_pods_are_not_ready() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let mut waiting = set(2, json!({"podManagementPolicy": "Parallel"}));
    waiting["spec"]["template"]["spec"]["readinessGates"] = json!([{"conditionType": "example.com/go"}]);
    api.create(SETS, &waiting).await;
    let are = async |expected: &[&str]| {
        eventually(&format!("the pods are {expected:?}"), async || names(&api).await == expected).await;
    };
    are(&["web-0", "web-1"]).await;
    api.merge(SET, &json!({"spec": {"replicas": 4}})).await;
    are(&["web-0", "web-1", "web-2", "web-3"]).await;
    api.merge(SET, &json!({"spec": {"replicas": 0}})).await;
    are(&[]).await;
    cluster.stop().await.unwrap();
}

/// Says of a pod with a gate whether it is ready.
async fn say_gate(api: &Api, pod: &str, is_open: bool) {
    let condition = json!({"type": "example.com/go", "status": if is_open { "True" } else { "False" }});
    api.strategic(&format!("{PODS}/{pod}/status"), &json!({"status": {"conditions": [condition]}})).await;
}

/// The same, and waits until the pod says so, too.
async fn set_gate(api: &Api, pod: &str, is_open: bool) {
    let status = if is_open { "True" } else { "False" };
    say_gate(api, pod, is_open).await;
    eventually(&format!("{pod} is ready: {status}"), async || {
        let pod = api.get(&format!("{PODS}/{pod}")).await;
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|known| known["type"] == "Ready" && known["status"] == status)
    })
    .await;
}

async fn counts(api: &Api, replicas: u32, ready: u32) {
    eventually(&format!("{ready} of {replicas} are ready"), async || {
        let set = api.get(SET).await;
        let count = |field: &str| set["status"][field].as_u64().unwrap_or(0);
        set["status"]["observedGeneration"] == set["metadata"]["generation"]
            && count("replicas") == u64::from(replicas)
            && count("readyReplicas") == u64::from(ready)
    })
    .await;
}

/// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Scaling should happen in predictable order and halt if any stateful pod is unhealthy [Slow] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_set_scales_in_order_and_halts_where_a_pod_is_not_ready() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let mut gated = set(1, json!({}));
    gated["spec"]["template"]["spec"]["readinessGates"] = json!([{"conditionType": "example.com/go"}]);
    let mut events = api.watch(&format!("{PODS}?labelSelector=app%3Dweb")).await;
    api.create(SETS, &gated).await;
    counts(&api, 1, 0).await;
    api.merge(SET, &json!({"spec": {"replicas": 3}})).await;
    counts(&api, 1, 0).await;
    for (pod, all) in [("web-0", 2), ("web-1", 3), ("web-2", 3)] {
        let added = events.until("ADDED", |_| true).await;
        assert_eq!(added["metadata"]["name"], pod, "nothing comes before its predecessor is ready");
        eventually("it runs", async || api.get(&format!("{PODS}/{pod}")).await["status"]["phase"] == "Running").await;
        set_gate(&api, pod, true).await;
        eventually("the next one comes", async || names(&api).await.len() == all).await;
    }
    counts(&api, 3, 3).await;
    for pod in ["web-0", "web-1", "web-2"] {
        set_gate(&api, pod, false).await;
    }
    counts(&api, 3, 0).await;
    api.merge(SET, &json!({"spec": {"replicas": 0}})).await;
    counts(&api, 3, 0).await;
    set_gate(&api, "web-0", true).await;
    counts(&api, 3, 1).await;
    assert_eq!(names(&api).await, ["web-0", "web-1", "web-2"], "web-1 is not ready, and not the one to go");
    // With only the last one not ready, that one goes first.
    say_gate(&api, "web-1", true).await;
    for pod in ["web-2", "web-1", "web-0"] {
        let gone = events.until("DELETED", |_| true).await;
        assert_eq!(gone["metadata"]["name"], pod);
    }
    counts(&api, 0, 0).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform rolling updates and roll backs of template modifications [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_rolled_out_and_back() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    api.create(SETS, &set(3, json!({}))).await;
    let all = ["web-0", "web-1", "web-2"];
    has(&api, &all).await;
    let first = api.get(SET).await["status"]["currentRevision"].clone();
    let rolled_out = async |expected: &str| {
        eventually(&format!("all run {expected}"), async || {
            let status = api.get(SET).await["status"].clone();
            images(&api).await == [expected; 3] && status["currentRevision"] == status["updateRevision"]
        })
        .await;
        has(&api, &all).await;
    };
    api.merge(SET, &image("a:2")).await;
    rolled_out("a:2").await;
    assert_ne!(api.get(SET).await["status"]["currentRevision"], first);
    api.merge(SET, &image("a:1")).await;
    rolled_out("a:1").await;
    assert_eq!(api.get(SET).await["status"]["currentRevision"], first, "the revision of before");
    assert_eq!(api.items(REVISIONS).await.len(), 2);
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform canary updates and phased rolling updates of template modifications [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_holds_back_the_lower_ordinals() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let partition =
        |from: u32| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": from}}});
    api.create(SETS, &set(3, partition(3))).await;
    let all = ["web-0", "web-1", "web-2"];
    has(&api, &all).await;
    api.merge(SET, &image("a:2")).await;
    eventually("the update is seen", async || {
        let status = api.get(SET).await["status"].clone();
        status["currentRevision"] != status["updateRevision"]
    })
    .await;
    has(&api, &all).await;
    assert_eq!(images(&api).await, ["a:1", "a:1", "a:1"]);
    for (from, expected) in [(2, ["a:1", "a:1", "a:2"]), (1, ["a:1", "a:2", "a:2"])] {
        api.merge(SET, &json!({"spec": partition(from)})).await;
        eventually(&format!("{expected:?}"), async || images(&api).await == expected).await;
        has(&api, &all).await;
    }
    // A pod below the partition comes back as it was.
    api.delete(&format!("{PODS}/web-0"), "Background").await;
    has(&api, &all).await;
    assert_eq!(images(&api).await, ["a:1", "a:2", "a:2"]);
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Should recreate evicted statefulset [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_failed_is_made_again() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    api.create(SETS, &set(1, json!({}))).await;
    has(&api, &["web-0"]).await;
    let uid = pods(&api).await[0]["metadata"]["uid"].clone();
    api.merge(&format!("{PODS}/web-0/status"), &json!({"status": {"phase": "Failed"}})).await;
    eventually("another has its name", async || {
        pods(&api).await.first().is_some_and(|pod| pod["metadata"]["uid"] != uid)
    })
    .await;
    has(&api, &["web-0"]).await;
    cluster.stop().await.unwrap();
}

/// Claims are made for the pods, stay when the set shrinks if they shall, and go if they shall go.
#[tokio::test(flavor = "multi_thread")]
async fn claims_are_kept_or_go_as_the_policy_says() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let template = json!({"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    // Nobody provides volumes here: the pods wait for them, so all must come at once.
    let policy = |scaled: &str| json!({"whenScaled": scaled, "whenDeleted": "Delete"});
    let spec = json!({"volumeClaimTemplates": [template], "podManagementPolicy": "Parallel",
        "persistentVolumeClaimRetentionPolicy": policy("Retain")});
    let mut mounted = set(2, spec);
    let containers = &mut mounted["spec"]["template"]["spec"]["containers"];
    containers[0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    api.create(SETS, &mounted).await;
    for pod in ["web-0", "web-1"] {
        eventually("the pod has its claim", async || {
            let pod = api.find(&format!("{PODS}/{pod}")).await;
            pod.is_some_and(|pod| pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"].is_string())
        })
        .await;
    }
    let claims = async || {
        let claims = api.items(CLAIMS).await;
        claims.iter().map(|claim| claim["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually("claims and pods are made", async || {
        claims().await == ["data-web-0", "data-web-1"] && names(&api).await.len() == 2
    })
    .await;
    let owner = async |claim: &str| {
        let claim = api.get(&format!("{CLAIMS}/{claim}")).await;
        claim["metadata"]["ownerReferences"][0]["kind"].as_str().map(str::to_owned)
    };
    eventually("the set owns its claims", async || owner("data-web-0").await.as_deref() == Some("StatefulSet")).await;
    api.merge(SET, &json!({"spec": {"replicas": 1}})).await;
    eventually("a pod goes", async || names(&api).await == ["web-0"]).await;
    assert_eq!(claims().await, ["data-web-0", "data-web-1"]);
    api.merge(SET, &json!({"spec": {"replicas": 2}})).await;
    eventually("it is back", async || names(&api).await.len() == 2).await;
    api.merge(SET, &json!({"spec": {"replicas": 1, "persistentVolumeClaimRetentionPolicy": policy("Delete")}})).await;
    eventually("the claim goes with the pod", async || claims().await == ["data-web-0"]).await;
    api.delete(SET, "Background").await;
    eventually("the other goes with the set", async || claims().await.is_empty()).await;
    cluster.stop().await.unwrap();
}

/// `kubectl rollout` finds its way by the revisions.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_rolls_sets_out_and_back() {
    let Some(shell) = Shell::start().await else { return };
    let api = shell.api();
    api.create(SETS, &set(2, json!({}))).await;
    let daemons = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "d"}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": set(1, json!({}))["spec"]["template"]["spec"]}}});
    api.create("/apis/apps/v1/namespaces/default/daemonsets", &daemons).await;
    for name in ["statefulset/web", "daemonset/d"] {
        let image = async || {
            shell.kubectl(&["get", name, "-o", "jsonpath={.spec.template.spec.containers[0].image}"]).await.ok()
        };
        shell.kubectl(&["rollout", "status", name, "--timeout=50s"]).await.ok();
        shell.kubectl(&["set", "image", name, "c=a:2"]).await.ok();
        shell.kubectl(&["rollout", "status", name, "--timeout=50s"]).await.ok();
        let history = shell.kubectl(&["rollout", "history", name]).await.ok();
        assert_eq!(history.lines().filter(|line| line.starts_with(['1', '2'])).count(), 2, "{history}");
        assert_eq!(image().await, "a:2");
        shell.kubectl(&["rollout", "undo", name]).await.ok();
        shell.kubectl(&["rollout", "status", name, "--timeout=50s"]).await.ok();
        assert_eq!(image().await, "a:1");
    }
    has(&api, &["web-0", "web-1"]).await;
    assert_eq!(images(&api).await, ["a:1", "a:1"]);
}
