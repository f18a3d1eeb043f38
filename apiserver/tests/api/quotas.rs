//! What requests are charged for, without the controller that counts: the test says what is used.

use apiserver::testing::TestServer;
use serde_json::{Value, json};

use crate::client::{Client, MERGE, STRATEGIC, expect};

const BASE: &str = "/api/v1/namespaces/default";

/// A server whose namespace has a quota, counted as unused.
async fn start(hard: Value) -> (TestServer, Client) {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    expect(client.post(&format!("{BASE}/resourcequotas"), &quota).await, 201);
    let used: Value = hard.as_object().unwrap().keys().map(|name| (name.clone(), json!("0"))).collect();
    set_status(&client, &json!({"hard": hard, "used": used})).await;
    (server, client)
}

/// Writes the quota's status, and reads it: then admission, which reads the cache, knows it too.
async fn set_status(client: &Client, status: &Value) {
    let quota = format!("{BASE}/resourcequotas/q");
    expect(client.patch(&format!("{quota}/status"), MERGE, &json!({"status": status})).await, 200);
    expect(client.get(&quota).await, 200);
}

async fn used(client: &Client, name: &str) -> Value {
    expect(client.get(&format!("{BASE}/resourcequotas/q")).await, 200)["status"]["used"][name].clone()
}

fn message(answer: (http::StatusCode, Value)) -> String {
    expect(answer, 403)["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_larger_pod_is_charged_for_what_it_grows() {
    let (_server, client) = start(json!({"requests.cpu": "1"})).await;
    let container = |cpu: &str| json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container("500m")]}});
    expect(client.post(&format!("{BASE}/pods"), &pod).await, 201);
    let resize = async |cpu: &str| {
        let change = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        client.patch(&format!("{BASE}/pods/p/resize"), STRATEGIC, &change).await
    };
    expect(resize("800m").await, 200);
    assert_eq!(used(&client, "requests.cpu").await, "800m");
    let refused = message(resize("1200m").await);
    let why = "exceeded quota: q, requested: requests.cpu=400m, used: requests.cpu=800m, limited: requests.cpu=1";
    assert!(refused.ends_with(why), "{refused}");
    // What becomes less is given back by the controller, once it is so.
    expect(resize("100m").await, 200);
    assert_eq!(used(&client, "requests.cpu").await, "800m");
}

#[tokio::test]
async fn a_service_is_charged_for_becoming_another() {
    let (_server, client) = start(json!({"services": "5", "services.nodeports": "1"})).await;
    let service =
        |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    for name in ["a", "b"] {
        expect(client.post(&format!("{BASE}/services"), &service(name, "ClusterIP")).await, 201);
    }
    let become_node_port = async |name: &str| {
        client.patch(&format!("{BASE}/services/{name}"), MERGE, &json!({"spec": {"type": "NodePort"}})).await
    };
    expect(become_node_port("a").await, 200);
    assert_eq!(used(&client, "services.nodeports").await, "1");
    assert_eq!(used(&client, "services").await, "2");
    let refused = message(become_node_port("b").await);
    assert!(refused.contains("requested: services.nodeports=1, used: services.nodeports=1"), "{refused}");
    // A change that costs nothing passes though the quota is used up.
    let labels = json!({"metadata": {"labels": {"x": "y"}}});
    expect(client.patch(&format!("{BASE}/services/a"), MERGE, &labels).await, 200);
}

#[tokio::test]
async fn what_has_not_been_counted_is_refused() {
    let (_server, client) = start(json!({"configmaps": "1"})).await;
    set_status(&client, &json!({"hard": {"configmaps": "1", "count/configmaps": "5", "pods": "1"}})).await;
    let object = json!({"metadata": {"name": "c"}});
    let refused = message(client.post(&format!("{BASE}/configmaps"), &object).await);
    assert!(refused.ends_with("status unknown for quota: q, resources: configmaps,count/configmaps"), "{refused}");
    // What the quota does not limit is none of its business.
    expect(client.post(&format!("{BASE}/secrets"), &object).await, 201);
}
