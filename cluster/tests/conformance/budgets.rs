//! PodDisruptionBudgets and the evictions that they allow.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};
use crate::kubectl::Shell;

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Creates a Deployment and waits until its pods are ready.
async fn deploy(api: &Api, replicas: u32) {
    let labels = json!({"app": "web"});
    let pod = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "web:1"}]});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod}});
    api.create(DEPLOYMENTS, &json!({"metadata": {"name": "web"}, "spec": spec})).await;
    eventually("the pods are ready", async || {
        api.get(&format!("{DEPLOYMENTS}/web")).await["status"]["readyReplicas"] == replicas
    })
    .await;
}

/// Creates a budget and waits until its numbers are as expected.
async fn budget(api: &Api, spec: Value, expected: Value) {
    create_budget(api, spec).await;
    says(api, expected).await;
}

async fn create_budget(api: &Api, mut spec: Value) {
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    api.create(BUDGETS, &json!({"metadata": {"name": "b"}, "spec": spec})).await;
}

/// Waits until the budget's status says these things, among others.
async fn says(api: &Api, expected: Value) {
    eventually(&format!("the budget says {expected}"), async || {
        let budget = api.get(&format!("{BUDGETS}/b")).await;
        let is_seen = budget["status"]["observedGeneration"] == budget["metadata"]["generation"];
        is_seen && expected.as_object().unwrap().iter().all(|(field, value)| budget["status"][field] == *value)
    })
    .await;
}

async fn ready_pods(api: &Api) -> Vec<String> {
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().any(|known| known["type"] == "Ready" && known["status"] == "True");
        ready && pod["metadata"]["deletionTimestamp"].is_null()
    };
    let pods = api.items(PODS).await;
    pods.iter().filter(is_ready).map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn eviction(pod: &str) -> (String, Value) {
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
    (format!("{PODS}/{pod}/eviction"), body)
}

/// Conformance: [sig-apps] DisruptionController should observe PodDisruptionBudget status updated [Conformance]
/// Conformance: [sig-apps] DisruptionController should update/patch PodDisruptionBudget status [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_counts_the_pods_that_its_controllers_want() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    deploy(&api, 3).await;
    let counts = |allowed: u32, desired: u32| json!({"expectedPods": 3, "currentHealthy": 3, "desiredHealthy": desired, "disruptionsAllowed": allowed});
    budget(&api, json!({"maxUnavailable": "34%"}), counts(2, 1)).await;
    let conditions = api.get(&format!("{BUDGETS}/b")).await["status"]["conditions"].clone();
    assert_eq!((&conditions[0]["type"], &conditions[0]["status"]), (&json!("DisruptionAllowed"), &json!("True")));
    api.merge(&format!("{BUDGETS}/b"), &json!({"spec": {"maxUnavailable": null, "minAvailable": "100%"}})).await;
    says(&api, counts(0, 3)).await;
    // What somebody else writes is corrected.
    let status = json!({"status": {"disruptionsAllowed": 7}});
    api.merge(&format!("{BUDGETS}/b/status"), &status).await;
    says(&api, counts(0, 3)).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] DisruptionController should create a PodDisruptionBudget [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_followed_through_its_life() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    deploy(&api, 3).await;
    budget(&api, json!({"minAvailable": "1%"}), json!({"desiredHealthy": 1, "disruptionsAllowed": 2})).await;
    let path = format!("{BUDGETS}/b");
    let updated = api.update(&path, |budget| budget["spec"]["minAvailable"] = json!("2%")).await;
    assert_eq!(updated["spec"]["minAvailable"], "2%");
    says(&api, json!({"desiredHealthy": 1, "disruptionsAllowed": 2})).await;
    let patched = api.strategic(&path, &json!({"spec": {"minAvailable": "50%"}})).await;
    assert_eq!(patched["spec"]["minAvailable"], "50%");
    says(&api, json!({"desiredHealthy": 2, "disruptionsAllowed": 1})).await;
    api.delete(&path, "Background").await;
    api.gone(&path).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] DisruptionController should block an eviction until the PDB is updated to allow it [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_waits_for_a_budget_that_allows_it() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    deploy(&api, 2).await;
    budget(&api, json!({"minAvailable": 2}), json!({"disruptionsAllowed": 0, "currentHealthy": 2})).await;
    let victim = ready_pods(&api).await.remove(0);
    let (path, body) = eviction(&victim);
    assert_eq!(api.refused(&path, &body).await, 429);
    api.merge(&format!("{BUDGETS}/b"), &json!({"spec": {"minAvailable": 1}})).await;
    says(&api, json!({"disruptionsAllowed": 1})).await;
    api.create(&path, &body).await;
    api.gone(&format!("{PODS}/{victim}")).await;
    says(&api, json!({"disruptionsAllowed": 1, "currentHealthy": 2, "disruptedPods": null})).await;
    cluster.stop().await.unwrap();
}

/// Two at once never take the last disruption both.
#[tokio::test(flavor = "multi_thread")]
async fn only_as_many_evictions_pass_as_the_budget_allows() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    deploy(&api, 4).await;
    // Nobody replaces them, so that none becomes healthy meanwhile.
    api.merge("/api/v1/nodes/test-node", &json!({"spec": {"unschedulable": true}})).await;
    budget(&api, json!({"minAvailable": 2}), json!({"disruptionsAllowed": 2, "currentHealthy": 4})).await;
    let pods = ready_pods(&api).await;
    let evictions = pods.iter().map(|pod| async {
        let (path, body) = eviction(pod);
        api.try_create(&path, &body).await
    });
    let outcomes = futures::future::join_all(evictions).await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Ok(())).count(), 2, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(429))), "{outcomes:?}");
    says(&api, json!({"disruptionsAllowed": 0, "currentHealthy": 2})).await;
    cluster.stop().await.unwrap();
}

/// Pods of a kind that cannot be scaled: nothing is known, so nothing may go.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_cannot_be_counted_allows_nothing() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let template = json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "web:1"}]}});
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": template}});
    api.create("/apis/batch/v1/namespaces/default/jobs", &job).await;
    eventually("the job runs", async || ready_pods(&api).await.len() == 1).await;
    create_budget(&api, json!({"maxUnavailable": 1})).await;
    let why = "jobs.batch does not implement the scale subresource";
    eventually("the budget says why", async || {
        let condition = api.get(&format!("{BUDGETS}/b")).await["status"]["conditions"][0].clone();
        condition["reason"] == "SyncFailed" && condition["message"] == why
    })
    .await;
    let (path, body) = eviction(&ready_pods(&api).await[0]);
    assert_eq!(api.refused(&path, &body).await, 429);
    cluster.stop().await.unwrap();
}

/// A drained node keeps what a budget protects.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_leaves_what_budgets_protect() {
    let Some(shell) = Shell::start().await else { return };
    let api = shell.api();
    deploy(&api, 2).await;
    budget(&api, json!({"minAvailable": "50%"}), json!({"disruptionsAllowed": 1, "currentHealthy": 2})).await;
    let drain = ["drain", "test-node", "--timeout=8s"];
    let refused = shell.kubectl(&drain).await.failed();
    assert!(refused.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{refused}");
    assert_eq!(ready_pods(&api).await.len(), 1);
    api.delete(&format!("{BUDGETS}/b"), "Background").await;
    shell.kubectl(&drain).await.ok();
    assert!(ready_pods(&api).await.is_empty());
}
