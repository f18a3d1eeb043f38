//! What the deletion of a namespace takes with it, and in which order.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const NAMESPACES: &str = "/api/v1/namespaces";

fn pod(finalizers: &Value) -> Value {
    json!({"metadata": {"name": "p", "finalizers": finalizers},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "i"}]}})
}

async fn namespace(api: &Api, name: &str) -> String {
    api.create(NAMESPACES, &json!({"metadata": {"name": name}})).await;
    let path = format!("{NAMESPACES}/{name}");
    let account = format!("{path}/serviceaccounts/default");
    eventually("the namespace has its account", async || api.find(&account).await.is_some()).await;
    path
}

/// Conformance: [sig-api-machinery] Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted [Conformance]
/// Conformance: [sig-api-machinery] Namespaces [Serial] should ensure that all services are removed when a namespace is deleted [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn pods_and_services_go_with_their_namespace() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let path = namespace(&api, "n").await;
    api.create(&format!("{path}/pods"), &pod(&json!([]))).await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    api.create(&format!("{path}/services"), &service).await;
    api.delete(&path, "Background").await;
    api.gone(&path).await;
    namespace(&api, "n").await;
    for kind in ["pods", "services"] {
        assert!(api.items(&format!("{path}/{kind}")).await.is_empty(), "{kind}");
    }
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-api-machinery] OrderedNamespaceDeletion namespace deletion should delete pod first [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn pods_are_deleted_before_anything_else() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let path = namespace(&api, "n").await;
    api.create(&format!("{path}/pods"), &pod(&json!(["example.com/held"]))).await;
    api.create(&format!("{path}/configmaps"), &json!({"metadata": {"name": "m"}})).await;
    api.delete(&path, "Background").await;
    let held = format!("{path}/pods/p");
    eventually("the pod is being deleted", async || api.get(&held).await["metadata"]["deletionTimestamp"].is_string())
        .await;
    eventually("the namespace says what it waits for", async || {
        let namespace = api.get(&path).await;
        let conditions = namespace["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|known| known["type"] == "NamespaceFinalizersRemaining" && known["status"] == "True")
    })
    .await;
    let map = api.get(&format!("{path}/configmaps/m")).await;
    assert!(map["metadata"].get("deletionTimestamp").is_none(), "{map}");
    api.merge(&held, &json!({"metadata": {"finalizers": null}})).await;
    api.gone(&path).await;
    cluster.stop().await.unwrap();
}
