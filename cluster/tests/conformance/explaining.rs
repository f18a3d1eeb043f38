//! What the scheduler says of its decisions, to those who may know, and who is let in by the banker's check.

use std::time::Duration;

use cluster::{NODE, TestCluster};
use scheduler::Config;
use scheduler::config::{PluginRef, PluginSet, Plugins, ProfileConfig};
use scheduler::explain::{Question, simulate, why};
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const PODS: &str = "/api/v1/namespaces/default/pods";
const EVENTS: &str = "/api/v1/namespaces/default/events";
/// A resource of which the node has four.
const RESOURCE: &str = "example.com/fake";

async fn start(config: Config) -> (TestCluster, Api) {
    let cluster = TestCluster::with(Vec::new(), config).await.unwrap();
    let api = Api::of(&cluster);
    let amounts = json!({RESOURCE: "4"});
    let status = json!({"status": {"capacity": amounts, "allocatable": amounts}});
    let node = format!("/api/v1/nodes/{NODE}");
    api.merge(&format!("{node}/status"), &status).await;
    eventually("the node takes pods", async || api.get(&node).await["spec"]["taints"].is_null()).await;
    (cluster, api)
}

fn pod(name: &str, amount: u32, most: Option<&str>) -> Value {
    let amounts = json!({RESOURCE: amount.to_string()});
    let containers = json!([{"name": "c", "image": "web:1", "resources": {"requests": amounts, "limits": amounts}}]);
    let annotations = most.map(|most| json!({"coracle.dev/claim": json!({RESOURCE: most}).to_string()}));
    let metadata = json!({"name": name, "annotations": annotations});
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": containers});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

fn question() -> Question {
    Question { config: Config::default(), namespace: "default".to_owned(), patience: Duration::from_secs(20) }
}

async fn is_placed(api: &Api, name: &str) {
    let path = format!("{PODS}/{name}");
    eventually(&format!("{name} has a node"), async || api.get(&path).await["spec"]["nodeName"] == NODE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_waits_is_told_by_whom_each_node_is_refused() {
    let (cluster, api) = start(Config::default()).await;
    let mut large = pod("large", 5, None);
    large["spec"]["nodeSelector"] = json!({"disk": "fast"});
    api.create(PODS, &large).await;
    api.create(PODS, &pod("small", 1, None)).await;
    is_placed(&api, "small").await;
    let told = why(&question(), cluster.client(), "large").await.unwrap();
    for part in [
        "pod default/large has no node",
        "test-node: refused",
        "NodeAffinity: node(s) didn't match Pod's node affinity/selector",
        "NodeResourcesFit: Insufficient example.com/fake",
        "would go nowhere: 0/1 nodes are available",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    let told = why(&question(), cluster.client(), "small").await.unwrap();
    for part in ["is on node test-node", "test-node: fits, with a score of", "TaintToleration: 100 x 3"] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_read_the_cluster_is_told() {
    let (cluster, api) = start(Config::default()).await;
    api.create(PODS, &pod("small", 1, None)).await;
    is_placed(&api, "small").await;
    let refused = why(&question(), cluster.client_as("nobody", &[]), "small").await.unwrap_err();
    assert!(format!("{refused:#}").contains("forbidden"), "{refused:#}");
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    api.create(roles, &json!({"metadata": {"name": "reader"}, "rules": rules})).await;
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"});
    let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}]);
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    api.create(bindings, &json!({"metadata": {"name": "reader"}, "roleRef": reference, "subjects": subjects})).await;
    let short = Question { patience: Duration::from_secs(2), ..question() };
    eventually("who may read the pod only learns what is missing", async || {
        let refused = why(&short, cluster.client_as("reader", &["system:authenticated"]), "small").await.unwrap_err();
        format!("{refused:#}").contains("could not be read within 2s")
    })
    .await;
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_tried_without_being_made() {
    let (cluster, api) = start(Config::default()).await;
    let labels = json!({"scheduling.x-k8s.io/pod-group": "g", "scheduling.x-k8s.io/min-available": "2"});
    let mut gang = [pod("gang-0", 2, None), pod("gang-1", 2, None)];
    gang.iter_mut().for_each(|pod| pod["metadata"]["labels"] = labels.clone());
    let [first, second] = gang;
    let documents = |pods: &[&Value]| pods.iter().map(|pod| format!("---\n{pod}\n")).collect::<String>();
    let told = simulate(&question(), cluster.client(), &documents(&[&pod("a", 3, None), &pod("b", 2, None)])).await;
    let refused = "pod default/b would wait: 0/1 nodes are available: 1 Insufficient example.com/fake.";
    let told = told.unwrap();
    assert!(told.starts_with("pod default/a would go to node test-node\n") && told.contains(refused), "{told}");
    let told = simulate(&question(), cluster.client(), &documents(&[&first, &second])).await.unwrap();
    assert_eq!(told, "pod default/gang-0 would go to node test-node\npod default/gang-1 would go to node test-node\n");
    let told = simulate(&question(), cluster.client(), &documents(&[&first])).await.unwrap();
    assert!(told.contains("would wait: waiting for minCount pods from a gang"), "{told}");
    assert!(api.items(PODS).await.is_empty(), "nothing was made");
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_could_leave_others_waiting_for_ever_is_let_in_when_they_are_done() {
    let enabled = vec![PluginRef { name: "BankersCheck".to_owned(), weight: None }];
    let plugins = Plugins { multi_point: PluginSet { enabled, disabled: Vec::new() }, ..Plugins::default() };
    let name = "default-scheduler".to_owned();
    let profile = ProfileConfig { scheduler_name: name, plugins, ..ProfileConfig::default() };
    let (cluster, api) = start(Config { profiles: vec![profile], ..Config::default() }).await;
    let says = async |pod: &str, text: &str| {
        eventually(&format!("{pod} is told {text:?}"), async || {
            api.items(EVENTS).await.iter().any(|event| {
                event["involvedObject"]["name"] == pod && event["message"].as_str().unwrap_or("").contains(text)
            })
        })
        .await;
    };
    api.create(PODS, &pod("first", 2, Some("4"))).await;
    is_placed(&api, "first").await;
    api.create(PODS, &pod("second", 1, Some("4"))).await;
    says("second", "2 could not finish for certain: pod default/first may still claim 2 example.com/fake").await;
    for (name, most, why) in [
        ("lying", "0", "less than the 1 requested"),
        ("negative", "-1", "must not be negative"),
        ("absurd", "9000000000000000000", "node(s) have less example.com/fake than coracle.dev/claim claims"),
    ] {
        api.create(PODS, &pod(name, 1, Some(most))).await;
        says(name, why).await;
    }
    api.delete(&format!("{PODS}/first"), "Background").await;
    is_placed(&api, "second").await;
    // A claim that is put right is looked at at once.
    let right = json!({"coracle.dev/claim": json!({RESOURCE: "2"}).to_string()});
    api.merge(&format!("{PODS}/lying"), &json!({"metadata": {"annotations": right}})).await;
    is_placed(&api, "lying").await;
    cluster.stop().await.unwrap();
}
