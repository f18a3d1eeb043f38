//! Several versions of a custom resource.

use apiserver::testing::TestServer;
use serde_json::json;

use super::{WIDGETS, define, definition, fields, version, widget};
use crate::client::{APPLY, Client, MERGE, expect};

const BETA: &str = "/apis/example.com/v1beta1/namespaces/default/widgets";

#[tokio::test]
async fn every_version_sees_what_its_schema_knows() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let string = json!({"type": "string"});
    let versions = json!([
        version("v1", &fields(&json!({"a": string, "b": string}))),
        version("v1beta1", &fields(&json!({"a": string}))),
    ]);
    define(&client, &definition(&versions)).await;
    let mut events = client.watch(&format!("{BETA}?watch=1")).await;
    expect(client.post(WIDGETS, &widget("x", &json!({"a": "1", "b": "2"}))).await, 201);
    let added = events.soon().await.unwrap();
    assert_eq!(added["object"]["apiVersion"], "example.com/v1beta1");
    assert_eq!(added["object"]["spec"], json!({"a": "1"}));
    let list = expect(client.get(BETA).await, 200);
    assert_eq!(list["items"][0]["spec"], json!({"a": "1"}));
    let patched = expect(client.patch(&format!("{BETA}/x"), MERGE, &json!({"spec": {"a": "3"}})).await, 200);
    assert_eq!(patched["apiVersion"], "example.com/v1beta1");
    let mut applied = widget("x", &json!({"a": "4"}));
    applied["apiVersion"] = "example.com/v1beta1".into();
    expect(client.patch(&format!("{BETA}/x?fieldManager=m&force=true"), APPLY, &applied).await, 200);
    let stored = expect(client.get(&format!("{WIDGETS}/x")).await, 200);
    assert_eq!(stored["apiVersion"], "example.com/v1");
    let managers: Vec<&str> = stored["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["apiVersion"].as_str().unwrap())
        .collect();
    assert!(managers.contains(&"example.com/v1beta1"), "{managers:?}");
}

#[tokio::test]
async fn a_new_storage_version_leaves_old_objects_readable() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let string = json!({"type": "string"});
    let mut versions =
        json!([version("v1", &fields(&json!({"a": string}))), version("v1beta1", &fields(&json!({"a": string})))]);
    define(&client, &definition(&versions)).await;
    expect(client.post(WIDGETS, &widget("old", &json!({"a": "1"}))).await, 201);
    versions[0]["storage"] = false.into();
    versions[1]["storage"] = true.into();
    let patch = json!({"spec": {"versions": versions}});
    let changed = expect(client.patch(super::WIDGETS_DEFINITION, MERGE, &patch).await, 200);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v1beta1"]));
    expect(client.post(WIDGETS, &widget("new", &json!({"a": "2"}))).await, 201);
    for path in [WIDGETS, BETA] {
        let list = expect(client.get(path).await, 200);
        let version = list["apiVersion"].clone();
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        assert!(items.iter().all(|item| item["apiVersion"] == version), "{items:?}");
    }
    // A version that is still stored cannot be dropped.
    let dropped = json!({"spec": {"versions": [versions[1]]}});
    let refused = expect(client.patch(super::WIDGETS_DEFINITION, MERGE, &dropped).await, 422);
    assert!(refused["message"].as_str().unwrap().contains("missing from spec.versions"), "{refused}");
}
