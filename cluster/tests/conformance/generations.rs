//! The generations of pods, and which the kubelet has seen.

use cluster::TestCluster;
use runtime::fake::Behavior;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const PODS: &str = "/api/v1/namespaces/default/pods";
const POD: &str = "/api/v1/namespaces/default/pods/p";

/// Creates the pod `p` and waits until it runs.
async fn run(api: &Api, metadata: &Value) {
    let mut metadata = metadata.clone();
    metadata["name"] = json!("p");
    let container = |name: &str| json!([{"name": name, "image": "a:1"}]);
    let spec = json!({"initContainers": container("i"), "containers": container("c")});
    api.create(PODS, &json!({"metadata": metadata, "spec": spec})).await;
    eventually("it runs", async || api.get(POD).await["status"]["phase"] == "Running").await;
}

/// Waits until the kubelet has seen the generation that the pod has, and returns it.
async fn seen(api: &Api) -> u64 {
    eventually("the kubelet sees it", async || {
        let pod = api.get(POD).await;
        pod["status"]["observedGeneration"] == pod["metadata"]["generation"]
    })
    .await;
    api.get(POD).await["metadata"]["generation"].as_u64().unwrap()
}

async fn start() -> (TestCluster, Api) {
    let cluster = TestCluster::start().await.unwrap();
    let after = std::time::Duration::from_millis(10);
    cluster.runtime().behave("i", [Behavior::Exit { after, code: 0 }]);
    let api = Api::of(&cluster);
    (cluster, api)
}

fn added(key: &str) -> Value {
    json!({"key": key, "operator": "Equal", "value": "bar", "effect": "NoSchedule"})
}

/// The pod's tolerations and another one: none may be taken away.
async fn with(api: &Api, toleration: Value) -> Value {
    let mut tolerations = api.get(POD).await["spec"]["tolerations"].clone();
    tolerations.as_array_mut().unwrap().push(toleration);
    json!({"spec": {"tolerations": tolerations}})
}

/// Conformance: [sig-node] Pods Extended (pod generation) Pod Generation pod generation should start at 1 and increment per update [MinimumKubeletVersion:1.34] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_a_pods_spec_is_a_generation() {
    let (cluster, api) = start().await;
    run(&api, &json!({})).await;
    assert_eq!(seen(&api).await, 1);
    let image = |field: &str, name: &str| json!({"spec": {field: [{"name": name, "image": "a:2"}]}});
    let changes = [
        (json!({}), false),
        (with(&api, added("foo")).await, true),
        (json!({"spec": {"activeDeadlineSeconds": 5000}}), true),
        (image("containers", "c"), true),
        (image("initContainers", "i"), true),
        (json!({"metadata": {"annotations": {"key": "value"}}}), false),
        (json!({"metadata": {"generation": 1}}), false),
    ];
    let mut wanted = 1;
    for (change, counts) in changes {
        api.strategic(POD, &change).await;
        wanted += u64::from(counts);
        assert_eq!(seen(&api).await, wanted, "{change}");
    }
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-node] Pods Extended (pod generation) Pod Generation issue 500 podspec updates and verify generation and observedGeneration eventually converge [MinimumKubeletVersion:1.34] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn the_kubelet_catches_up_with_hundreds_of_changes() {
    let (cluster, api) = start().await;
    run(&api, &json!({})).await;
    let change = with(&api, json!({"key": "foo", "operator": "Exists", "effect": "NoExecute"})).await;
    for seconds in (0..499).rev() {
        let mut change = change.clone();
        let last = change["spec"]["tolerations"].as_array_mut().unwrap().last_mut().unwrap();
        last["tolerationSeconds"] = json!(1000 + seconds);
        api.merge(POD, &change).await;
    }
    assert_eq!(seen(&api).await, 500);
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-node] Pods Extended (pod generation) Pod Generation custom-set generation on new pods and graceful delete [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_end_is_a_generation_and_nobody_else_sets_one() {
    let (cluster, api) = start().await;
    cluster.runtime().behave("c", [Behavior::IgnoreStop]);
    run(&api, &json!({"generation": 100})).await;
    assert_eq!(seen(&api).await, 1);
    api.delete_within(POD, 60).await;
    assert_eq!(api.get(POD).await["metadata"]["generation"], 2);
    api.delete_within(POD, 0).await;
    cluster.stop().await.unwrap();
}
