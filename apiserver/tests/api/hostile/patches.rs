//! Patches.

use apiserver::testing::TestServer;
use http::Method;
use serde_json::{Value, json};

use super::{assert_small, send};
use crate::client::{APPLY, Client, JSON_PATCH, MERGE, STRATEGIC, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";

async fn with_revision() -> (TestServer, Client) {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let data = json!({"a": ["x".repeat(1000)], "b": {"c": 1}});
    expect(client.post(REVISIONS, &json!({"metadata": {"name": "x"}, "revision": 1, "data": data})).await, 201);
    (server, client)
}

async fn json_patch(client: &Client, operations: Vec<Value>) -> (u16, String) {
    let body = Value::from(operations).to_string().into_bytes();
    let (status, answer) = send(client, Method::PATCH, &format!("{REVISIONS}/x"), JSON_PATCH, body).await;
    (status.as_u16(), answer["message"].as_str().unwrap_or("").chars().take(300).collect())
}

#[tokio::test]
async fn a_json_patch_cannot_multiply_what_is_there() {
    let (_server, client) = with_revision().await;
    let copy = json!({"op": "copy", "from": "/data/a", "path": "/data/a/-"});
    let (status, why) = json_patch(&client, vec![copy; 40]).await;
    assert_eq!(status, 422, "{why}");
    let nest = json!({"op": "copy", "from": "/data", "path": "/data/b/c"});
    assert_eq!(json_patch(&client, vec![nest; 40]).await.0, 422);
    let move_into_itself = json!({"op": "move", "from": "/data", "path": "/data/b/c"});
    assert_eq!(json_patch(&client, vec![move_into_itself]).await.0, 422);
    let many = vec![json!({"op": "test", "path": "/data/b/c", "value": 1}); 10_001];
    let (status, why) = json_patch(&client, many).await;
    assert_eq!(
        (status, why.as_str()),
        (413, "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001")
    );
    let long = format!("/data{}", "/a".repeat(200_000));
    for op in ["test", "remove", "add", "replace"] {
        let (status, why) = json_patch(&client, vec![json!({"op": op, "path": long, "value": 1})]).await;
        assert!(status == 422 || status == 400, "{op}: {status} {why}");
    }
    // Inserting at the front of a list moves all of it.
    let front = json!({"op": "add", "path": "/data/a/0", "value": 1});
    let (status, why) = json_patch(&client, vec![front; 10_000]).await;
    assert!(status == 422 && why.contains("data: Invalid value"), "{why}");
    assert_small();
}

#[tokio::test]
async fn wide_patches_are_merged_in_time() {
    let (_server, client) = with_revision().await;
    let labels: serde_json::Map<String, Value> = (0..20_000).map(|at| (format!("label-{at}"), json!("a"))).collect();
    for kind in [MERGE, STRATEGIC] {
        let patch = json!({"metadata": {"labels": labels}}).to_string().into_bytes();
        let answer = send(&client, Method::PATCH, &format!("{REVISIONS}/x"), kind, patch).await;
        assert_eq!(answer.0, 200, "{kind}: {}", answer.1);
    }
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    expect(client.post(pods, &pod).await, 201);
    let items: Vec<Value> =
        (0..4_000).map(|at| json!({"type": format!("example.com/{at}"), "status": "True"})).collect();
    let order: Vec<Value> = (0..4_000).map(|at| json!({"type": format!("example.com/{at}")})).collect();
    let patch = json!({"status": {"conditions": items, "$setElementOrder/conditions": order}}).to_string();
    for _ in 0..2 {
        let answer = send(&client, Method::PATCH, &format!("{pods}/x/status"), STRATEGIC, patch.clone().into()).await;
        assert_eq!(answer.0, 200, "{}", answer.1["message"]);
    }
    assert_small();
}

#[tokio::test]
async fn an_object_with_thousands_of_managers_can_still_be_applied() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let managers: Vec<Value> = (0..2_000)
        .map(|at| {
            json!({"manager": format!("manager-{at}"), "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:data": {"f:a": {}, format!("f:k{at}"): {}}}})
        })
        .collect();
    let map = json!({"metadata": {"name": "x", "managedFields": managers}, "data": {"a": "1"}});
    let created = send(&client, Method::POST, MAPS, "application/json", map.to_string().into_bytes()).await;
    assert_eq!(created.0, 201, "{}", created.1["message"]);
    let configuration = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "2"}});
    let apply = |query: &str| {
        let path = format!("{MAPS}/x?fieldManager=me{query}");
        let (client, body) = (client.clone(), configuration.to_string().into_bytes());
        async move { send(&client, Method::PATCH, &path, APPLY, body).await }
    };
    let conflicts = apply("").await;
    assert_eq!(conflicts.0, 409, "{}", conflicts.1["message"]);
    let forced = apply("&force=true").await;
    assert_eq!(forced.0, 200, "{}", forced.1["message"]);
    for _ in 0..3 {
        assert_eq!(apply("").await.0, 200);
    }
    assert_small();
}
