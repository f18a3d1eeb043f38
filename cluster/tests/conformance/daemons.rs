//! DaemonSets.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";
const SET: &str = "/apis/apps/v1/namespaces/default/daemonsets/d";
const PODS: &str = "/api/v1/namespaces/default/pods";
const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";
const NODE: &str = "/api/v1/nodes/test-node";

fn set(image: &str) -> Value {
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": image}]});
    json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "d"}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": spec}}})
}

async fn pods(api: &Api) -> Vec<Value> {
    let mut pods = api.items(&format!("{PODS}?labelSelector=app%3Dd")).await;
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    pods
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Waits until as many nodes have an available pod of the newest template.
async fn has(api: &Api, nodes: u64) {
    eventually(&format!("{nodes} nodes have a daemon"), async || {
        let set = api.get(SET).await;
        let count = |field: &str| set["status"][field].as_u64().unwrap_or(0) == nodes;
        set["status"]["observedGeneration"] == set["metadata"]["generation"]
            && ["desiredNumberScheduled", "currentNumberScheduled", "numberAvailable", "updatedNumberScheduled"]
                .iter()
                .all(|field| count(field))
            && pods(api).await.len() as u64 == nodes
    })
    .await;
}

/// Conformance: [sig-apps] Daemon set [Serial] should run and stop simple daemon [Conformance]
/// Conformance: [sig-apps] Daemon set [Serial] should retry creating failed daemon pods [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_goes_or_fails_comes_back() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    api.create(SETS, &set("a:1")).await;
    has(&api, 1).await;
    let first = pods(&api).await.remove(0);
    assert_eq!(first["spec"]["nodeName"], "test-node");
    api.delete(&format!("{PODS}/{}", name(&first)), "Background").await;
    eventually("another comes", async || pods(&api).await.iter().any(|pod| name(pod) != name(&first))).await;
    has(&api, 1).await;
    let second = name(&pods(&api).await[0]);
    api.merge(&format!("{PODS}/{second}/status"), &json!({"status": {"phase": "Failed"}})).await;
    eventually("the failed one is replaced", async || {
        let pods = pods(&api).await;
        pods.len() == 1 && name(&pods[0]) != second
    })
    .await;
    has(&api, 1).await;
    api.delete(SET, "Background").await;
    eventually("the daemons go", async || pods(&api).await.is_empty() && api.items(REVISIONS).await.is_empty()).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Daemon set [Serial] should run and stop complex daemon [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn daemons_follow_the_labels_and_taints_of_nodes() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let mut selective = set("a:1");
    selective["spec"]["template"]["spec"]["nodeSelector"] = json!({"color": "blue"});
    api.create(SETS, &selective).await;
    has(&api, 0).await;
    api.merge(NODE, &json!({"metadata": {"labels": {"color": "blue"}}})).await;
    has(&api, 1).await;
    api.merge(NODE, &json!({"metadata": {"labels": {"color": "green"}}})).await;
    has(&api, 0).await;
    let green = json!({"spec": {"template": {"spec": {"nodeSelector": {"color": "green"}}}}});
    api.merge(SET, &green).await;
    has(&api, 1).await;
    // A daemon stays where no new pods may go, and on a node that is cordoned one even comes.
    api.merge(NODE, &json!({"spec": {"unschedulable": true}})).await;
    api.delete(&format!("{PODS}/{}", name(&pods(&api).await[0])), "Background").await;
    has(&api, 1).await;
    let taints = |taints: Value| json!({"spec": {"taints": taints}});
    api.merge(NODE, &taints(json!([{"key": "gpu", "effect": "NoSchedule"}]))).await;
    eventually("it is not wanted there", async || api.get(SET).await["status"]["numberMisscheduled"] == 1).await;
    assert_eq!(pods(&api).await.len(), 1);
    api.merge(NODE, &taints(json!([{"key": "gpu", "effect": "NoExecute"}]))).await;
    eventually("it goes", async || pods(&api).await.is_empty()).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Daemon set [Serial] should update pod when spec was updated and update strategy is RollingUpdate [Conformance]
/// Conformance: [sig-apps] Daemon set [Serial] should rollback without unnecessary restarts [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_rolled_out_and_back() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    api.create(SETS, &set("a:1")).await;
    has(&api, 1).await;
    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    api.merge(SET, &image("a:2")).await;
    has(&api, 1).await;
    assert_eq!(pods(&api).await[0]["spec"]["containers"][0]["image"], "a:2");
    api.merge(SET, &image("a:1")).await;
    has(&api, 1).await;
    let pod = pods(&api).await.remove(0);
    assert_eq!(pod["spec"]["containers"][0]["image"], "a:1");
    // The first revision is the newest again.
    let mut revisions = api.items(REVISIONS).await;
    revisions.sort_by_key(|revision| revision["revision"].as_u64());
    let numbers: Vec<_> = revisions.iter().map(|revision| revision["revision"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 3]);
    let hash = "controller-revision-hash";
    assert_eq!(pod["metadata"]["labels"][hash], revisions[1]["metadata"]["labels"][hash]);
    cluster.stop().await.unwrap();
}

/// With surge the new daemon is there before the old one goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_surging_daemon_replaces_the_old_one_once_it_is_ready() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let mut surging = set("a:1");
    surging["spec"]["updateStrategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    api.create(SETS, &surging).await;
    has(&api, 1).await;
    let first = name(&pods(&api).await[0]);
    let gated =
        json!({"containers": [{"name": "c", "image": "a:2"}], "readinessGates": [{"conditionType": "example.com/go"}]});
    api.merge(SET, &json!({"spec": {"template": {"spec": gated}}})).await;
    eventually("both are there", async || pods(&api).await.len() == 2).await;
    let pods_now = pods(&api).await;
    assert!(pods_now.iter().any(|pod| name(pod) == first), "the old one stays while the new one is not ready");
    let open = json!({"spec": {"template": {"spec": {"readinessGates": null}}}});
    api.merge(SET, &open).await;
    has(&api, 1).await;
    cluster.stop().await.unwrap();
}
