//! What nobody should ask for: whoever did is told, and nobody else notices.

use cluster::{NODE, TestCluster};
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const PODS: &str = "/api/v1/namespaces/default/pods";
const EVENTS: &str = "/api/v1/namespaces/default/events";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const STATUS: &str = "/api/v1/nodes/test-node/status";

async fn start() -> (TestCluster, Api) {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    (cluster, api)
}

/// Waits until an event of an object says this.
async fn is_told(api: &Api, name: &str, reason: &str, text: &str) {
    eventually(&format!("{name} is told {reason}: {text}"), async || {
        api.items(EVENTS).await.iter().any(|event| {
            event["involvedObject"]["name"] == name
                && event["reason"] == reason
                && event["message"].as_str().is_some_and(|message| message.contains(text))
        })
    })
    .await;
}

fn pod(more: Value) -> Value {
    let mut spec = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "web:1"}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"labels": {"app": "web"}}, "spec": spec})
}

async fn create_pod(api: &Api, name: &str, more: Value) {
    let mut pod = pod(more);
    pod["metadata"]["name"] = json!(name);
    api.create(PODS, &pod).await;
}

async fn runs(api: &Api, name: &str) {
    let path = format!("{PODS}/{name}");
    eventually(&format!("{name} runs"), async || api.get(&path).await["status"]["phase"] == "Running").await;
}

fn budget(name: &str) -> Value {
    let selector = json!({"matchLabels": {"app": "web"}});
    json!({"metadata": {"name": name}, "spec": {"minAvailable": 1, "selector": selector}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_without_pods_says_so() {
    let (cluster, api) = start().await;
    api.create(BUDGETS, &budget("b")).await;
    is_told(&api, "b", "NoPods", "No matching pods found").await;
    let status = api.get(&format!("{BUDGETS}/b")).await["status"].clone();
    assert_eq!((&status["expectedPods"], &status["disruptionsAllowed"]), (&json!(0), &json!(0)));
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_two_budgets_is_not_evicted() {
    let (cluster, api) = start().await;
    create_pod(&api, "p", json!({})).await;
    runs(&api, "p").await;
    for name in ["one", "two"] {
        api.create(BUDGETS, &budget(name)).await;
    }
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    assert_eq!(api.refused(&format!("{PODS}/p/eviction"), &body).await, 500);
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_billion_completions_works_on_one_after_the_other() {
    let (cluster, api) = start().await;
    for (name, mode) in [("plain", "NonIndexed"), ("indexed", "Indexed")] {
        let mut template = pod(json!({"restartPolicy": "Never"}));
        template["metadata"]["labels"] = json!({"job": name});
        let spec =
            json!({"completions": 1_000_000_000, "parallelism": 2, "completionMode": mode, "template": template});
        api.create(JOBS, &json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    for name in ["plain", "indexed"] {
        eventually("two pods run", async || api.get(&format!("{JOBS}/{name}")).await["status"]["ready"] == 2).await;
        assert_eq!(api.items(&format!("{PODS}?labelSelector=job%3D{name}")).await.len(), 2);
    }
    // Too many at once are refused: each index needs a place in the status.
    let spec = json!({"completions": 1_000_000_000, "parallelism": 1_000_000_000, "completionMode": "Indexed",
        "template": pod(json!({"restartPolicy": "Never"}))});
    assert_eq!(api.refused(JOBS, &json!({"metadata": {"name": "wide"}, "spec": spec})).await, 422);
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_in_a_place_that_does_not_exist_is_refused() {
    let (cluster, api) = start().await;
    let template = json!({"spec": {"template": pod(json!({"restartPolicy": "Never"}))}});
    let spec = json!({"schedule": "* * * * *", "timeZone": "Mars/Phobos", "jobTemplate": template});
    let crons = "/apis/batch/v1/namespaces/default/cronjobs";
    assert_eq!(api.refused(crons, &json!({"metadata": {"name": "c"}, "spec": spec})).await, 422);
    let mut never = spec.clone();
    never["timeZone"] = Value::Null;
    never["schedule"] = json!("0 0 30 2 *");
    api.create(crons, &json!({"metadata": {"name": "never"}, "spec": never})).await;
    is_told(&api, "never", "InvalidSchedule", "invalid schedule: 0 0 30 2 *").await;
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_without_its_priority_class_is_told_when_it_is_missed() {
    let (cluster, api) = start().await;
    let class = json!({"metadata": {"name": "gold"}, "value": 700});
    api.create(CLASSES, &class).await;
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
        "template": pod(json!({"priorityClassName": "gold"}))});
    api.create(SETS, &json!({"metadata": {"name": "s"}, "spec": spec})).await;
    let ready = async || api.get(&format!("{SETS}/s")).await["status"]["readyReplicas"] == 1;
    eventually("the pod runs", ready).await;
    api.delete(&format!("{CLASSES}/gold"), "Background").await;
    let first = api.items(PODS).await.remove(0);
    assert_eq!(first["spec"]["priority"], 700);
    api.delete(&format!("{PODS}/{}", first["metadata"]["name"].as_str().unwrap()), "Background").await;
    is_told(&api, "s", "FailedCreate", "no PriorityClass with name gold was found").await;
    eventually("the set says so, too", async || {
        let condition = api.get(&format!("{SETS}/s")).await["status"]["conditions"][0].clone();
        condition["type"] == "ReplicaFailure" && condition["reason"] == "FailedCreate"
    })
    .await;
    api.create(CLASSES, &class).await;
    eventually("another pod runs", ready).await;
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cannot_offer_what_is_impossible() {
    let (cluster, api) = start().await;
    let offers = |amount: &str| {
        let amounts = json!({"example.com/fake": amount});
        json!({"status": {"capacity": amounts, "allocatable": amounts}})
    };
    assert_eq!(api.merge_refused(STATUS, &offers("-1")).await, 422);
    assert_eq!(api.merge_refused(STATUS, &offers("1500m")).await, 422);
    // As much as can be counted in thousandths, and two that ask for more than that together.
    api.merge(STATUS, &offers("9000000000000000")).await;
    for name in ["one", "two"] {
        let amounts = json!({"example.com/fake": "8000000000000000"});
        let resources = json!({"requests": amounts, "limits": amounts});
        let containers = json!([{"name": "c", "image": "web:1", "resources": resources}]);
        create_pod(&api, name, json!({"containers": containers})).await;
        if name == "one" {
            runs(&api, name).await;
        }
    }
    is_told(&api, "two", "FailedScheduling", "Insufficient example.com/fake").await;
    create_pod(&api, "other", json!({})).await;
    runs(&api, "other").await;
    assert_eq!(api.get(&format!("{PODS}/other")).await["spec"]["nodeName"], NODE);
    cluster.stop().await.unwrap();
}
