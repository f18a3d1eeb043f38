//! ReplicaSets and the pods that they take and let go.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Conformance: [sig-apps] ReplicaSet should adopt matching pods on creation and release no longer matching pods [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_set_takes_pods_that_match_and_lets_go_those_that_no_longer_do() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let template = json!({"metadata": {"labels": {"name": "mine"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "web:1"}]}});
    let mut orphan = template.clone();
    orphan["metadata"]["name"] = json!("orphan");
    api.create(PODS, &orphan).await;
    let pod = format!("{PODS}/orphan");
    eventually("the orphan runs", async || api.get(&pod).await["status"]["phase"] == "Running").await;
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"name": "mine"}}, "template": template});
    let set = api.create(SETS, &json!({"metadata": {"name": "s"}, "spec": spec})).await;
    let owner = async || api.get(&pod).await["metadata"]["ownerReferences"][0].clone();
    eventually("the orphan is adopted", async || {
        let owner = owner().await;
        owner["uid"] == set["metadata"]["uid"] && owner["controller"] == true
    })
    .await;
    eventually("the set counts it", async || api.get(&format!("{SETS}/s")).await["status"]["availableReplicas"] == 1)
        .await;
    assert_eq!(api.items(PODS).await.len(), 1, "none was made beside it");
    api.update(&pod, |pod| pod["metadata"]["labels"] = json!({"name": "not-matching"})).await;
    eventually("it is let go", async || owner().await.is_null()).await;
    eventually("another takes its place", async || {
        let of_set = |pod: &&Value| pod["metadata"]["ownerReferences"][0]["name"] == "s";
        api.items(PODS).await.iter().filter(of_set).count() == 1
    })
    .await;
    cluster.stop().await.unwrap();
}
