//! Several versions of a custom resource.

use apiserver::testing::TestServer;
use serde_json::{Value, json};

use super::{WIDGETS, WIDGETS_DEFINITION, define, definition, fields, version, widget};
use crate::client::{APPLY, Client, MERGE, expect};
use crate::hook_server::HookServer;

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
    let changed = expect(client.patch(WIDGETS_DEFINITION, MERGE, &patch).await, 200);
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
    let refused = expect(client.patch(WIDGETS_DEFINITION, MERGE, &dropped).await, 422);
    assert!(refused["message"].as_str().unwrap().contains("missing from spec.versions"), "{refused}");
}

const V2: &str = "/apis/example.com/v2/namespaces/default/widgets";

/// Splits `hostPort` of `v1` into `host` and `port` of `v2`, and the reverse.
fn converted(object: &Value, wanted: &str) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = wanted.into();
    let spec = object["spec"].clone();
    object["spec"] = match spec["hostPort"].as_str().and_then(|both| both.split_once(':')) {
        Some((host, port)) => json!({"host": host, "port": port}),
        None => json!({"hostPort": format!("{}:{}", spec["host"].as_str().unwrap(), spec["port"].as_str().unwrap())}),
    };
    object
}

pub(crate) async fn converter() -> HookServer {
    HookServer::start(|request| {
        let wanted = request["desiredAPIVersion"].as_str().unwrap();
        let objects: Vec<Value> =
            request["objects"].as_array().unwrap().iter().map(|object| converted(object, wanted)).collect();
        json!({"result": {"status": "Success"}, "convertedObjects": objects})
    })
    .await
}

/// A definition of two versions between which a webhook converts.
pub(crate) fn converting(hook: &HookServer, path: &str, storage: &str) -> Value {
    let string = json!({"type": "string"});
    let mut versions = json!([
        version("v1", &fields(&json!({"hostPort": string}))),
        version("v2", &fields(&json!({"host": string, "port": string}))),
    ]);
    versions[0]["selectableFields"] = json!([{"jsonPath": ".spec.hostPort"}]);
    versions[1]["selectableFields"] = json!([{"jsonPath": ".spec.host"}, {"jsonPath": ".spec.port"}]);
    for version in versions.as_array_mut().unwrap() {
        version["storage"] = (version["name"] == storage).into();
    }
    let mut definition = definition(&versions);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v2", "v1"], "clientConfig": hook.client_config(path)}});
    definition
}

fn host(version: &str, name: &str, spec: &Value) -> Value {
    let mut host = widget(name, spec);
    host["apiVersion"] = format!("example.com/{version}").into();
    host
}

/// Conformance: [sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert
/// from CR v1 to CR v2 [Conformance]
#[tokio::test]
async fn a_webhook_converts_between_versions() {
    let (server, hook) = (TestServer::start().await, converter().await);
    let client = Client::admin(&server);
    define(&client, &converting(&hook, "/", "v1")).await;
    let mut events = client.watch(&format!("{V2}?watch=1")).await;
    expect(client.post(WIDGETS, &host("v1", "a", &json!({"hostPort": "h:1"}))).await, 201);
    assert!(hook.asked().is_empty(), "nothing to convert for a client of the stored version");
    let read = expect(client.get(&format!("{V2}/a")).await, 200);
    assert_eq!((&read["apiVersion"], &read["spec"]), (&json!("example.com/v2"), &json!({"host": "h", "port": "1"})));
    assert_eq!(events.soon().await.unwrap()["object"]["spec"], read["spec"]);
    let patched = expect(client.patch(&format!("{V2}/a"), MERGE, &json!({"spec": {"port": "2"}})).await, 200);
    assert_eq!(patched["spec"], json!({"host": "h", "port": "2"}));
    let made = expect(client.post(V2, &host("v2", "b", &json!({"host": "g", "port": "3"}))).await, 201);
    assert_eq!(made["apiVersion"], "example.com/v2");
    let applied = host("v2", "a", &json!({"host": "h", "port": "4"}));
    expect(client.patch(&format!("{V2}/a?fieldManager=m&force=true"), APPLY, &applied).await, 200);
    let stored = expect(client.get(WIDGETS).await, 200);
    let specs: Vec<&Value> = stored["items"].as_array().unwrap().iter().map(|item| &item["spec"]).collect();
    assert_eq!(specs, [&json!({"hostPort": "h:4"}), &json!({"hostPort": "g:3"})]);
    let unknown = host("v2", "c", &json!({"hostPort": "h:1"}));
    let refused = expect(client.post(&format!("{V2}?fieldValidation=Strict"), &unknown).await, 400);
    assert!(refused["message"].as_str().unwrap().contains("unknown field \"spec.hostPort\""), "{refused}");
}

/// Conformance: [sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert
/// a non homogeneous list of CRs [Conformance]
#[tokio::test]
async fn a_list_of_objects_that_were_stored_in_several_versions_is_converted_at_once() {
    let (server, hook) = (TestServer::start().await, converter().await);
    let client = Client::admin(&server);
    define(&client, &converting(&hook, "/", "v1")).await;
    expect(client.post(WIDGETS, &host("v1", "a", &json!({"hostPort": "h:1"}))).await, 201);
    let changed = json!({"spec": {"versions": converting(&hook, "/", "v2")["spec"]["versions"]}});
    let changed = expect(client.patch(WIDGETS_DEFINITION, MERGE, &changed).await, 200);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    // The new storage version counts for what is written once the server has noticed.
    let is_stored = |version: &'static str| {
        let store = server.store().clone();
        async move {
            let entry = store.get("/registry/example.com/widgets/default/b").await.unwrap().unwrap();
            let stored: Value = serde_json::from_slice(&entry.value).unwrap();
            stored["apiVersion"] == version
        }
    };
    expect(client.post(V2, &host("v2", "b", &json!({"host": "g", "port": "2"}))).await, 201);
    while !is_stored("example.com/v2").await {
        expect(client.delete(&format!("{V2}/b")).await, 200);
        expect(client.post(V2, &host("v2", "b", &json!({"host": "g", "port": "2"}))).await, 201);
    }
    hook.asked();
    let list = expect(client.get(V2).await, 200);
    let specs: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["spec"]).collect();
    assert_eq!(specs, [&json!({"host": "h", "port": "1"}), &json!({"host": "g", "port": "2"})]);
    assert_eq!(hook.asked().iter().map(|asked| asked["objects"].as_array().unwrap().len()).collect::<Vec<_>>(), [1]);
}

/// Conformance: [sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors
/// MUST list and watch custom resources matching the field selector [Conformance]
#[tokio::test]
async fn every_version_selects_by_fields_of_its_own() {
    let (server, hook) = (TestServer::start().await, converter().await);
    let client = Client::admin(&server);
    define(&client, &converting(&hook, "/", "v1")).await;
    let mut events = client.watch(&format!("{V2}?watch=1&fieldSelector=spec.host%3Dh")).await;
    for (name, both) in [("a", "h:1"), ("b", "h:2"), ("c", "g:1")] {
        expect(client.post(WIDGETS, &host("v1", name, &json!({"hostPort": both}))).await, 201);
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let select = async |path: &str, selector: &str| {
        names(&expect(client.get(&format!("{path}?fieldSelector={selector}")).await, 200))
    };
    assert_eq!(select(WIDGETS, "spec.hostPort%3Dh:1").await, ["a"]);
    assert_eq!(select(V2, "spec.host%3Dh").await, ["a", "b"]);
    assert_eq!(select(V2, "spec.host%3Dh,spec.port%3D2").await, ["b"]);
    assert_eq!(select(V2, "spec.host!%3Dh").await, ["c"]);
    expect(client.get(&format!("{WIDGETS}?fieldSelector=spec.host%3Dh")).await, 400);
    expect(client.patch(&format!("{V2}/a"), MERGE, &json!({"spec": {"host": "f"}})).await, 200);
    expect(client.delete(&format!("{V2}?fieldSelector=spec.host%3Dh")).await, 200);
    assert_eq!(select(V2, "").await, ["a", "c"]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let event = events.soon().await.unwrap();
        seen.push(format!(
            "{} {}",
            event["type"].as_str().unwrap(),
            event["object"]["metadata"]["name"].as_str().unwrap()
        ));
    }
    assert_eq!(seen, ["ADDED a", "ADDED b", "DELETED a", "DELETED b"]);
}

#[tokio::test]
async fn what_a_webhook_does_wrong_is_told() {
    let hook = HookServer::start(|request| {
        let object = &request["objects"][0];
        let success = |object: Value| json!({"result": {"status": "Success"}, "convertedObjects": [object]});
        let mut other = converted(object, request["desiredAPIVersion"].as_str().unwrap());
        match object["metadata"]["name"].as_str().unwrap() {
            "failed" => json!({"result": {"status": "Failed", "message": "not today"}}),
            "renamed" => {
                other["metadata"]["name"] = "x".into();
                success(other)
            }
            "same" => success(object.clone()),
            "none" => json!({"result": {"status": "Success"}, "convertedObjects": []}),
            _ => {
                other["metadata"] = json!({"name": "fine", "namespace": "default", "uid": object["metadata"]["uid"],
                    "labels": {"a": "b"}, "finalizers": ["x/y"]});
                other["spec"]["unknown"] = true.into();
                success(other)
            }
        }
    })
    .await;
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    define(&client, &converting(&hook, "/", "v1")).await;
    let head = "conversion webhook for example.com/v1, Kind=Widget";
    for (name, why) in [
        ("failed", "failed: not today"),
        ("renamed", "returned invalid converted object at index 0: must have the same name: renamed != x"),
        (
            "same",
            "returned invalid converted object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v1)",
        ),
        ("none", "returned 0 objects, expected 1"),
    ] {
        expect(client.post(WIDGETS, &host("v1", name, &json!({"hostPort": "h:1"}))).await, 201);
        let refused = expect(client.get(&format!("{V2}/{name}")).await, 500);
        assert_eq!(refused["message"], format!("{head} {why}"));
        let mut events = client.watch(&format!("{V2}?watch=1&fieldSelector=metadata.name%3D{name}")).await;
        assert_eq!(events.soon().await.unwrap()["type"], "ERROR");
        assert!(events.soon().await.is_none(), "a watch that cannot go on ends");
        expect(client.delete(&format!("{WIDGETS}/{name}")).await, 200);
    }
    expect(client.post(WIDGETS, &host("v1", "fine", &json!({"hostPort": "h:1"}))).await, 201);
    let fine = expect(client.get(&format!("{V2}/fine")).await, 200);
    assert_eq!((&fine["metadata"]["labels"], fine["metadata"].get("finalizers")), (&json!({"a": "b"}), None));
    assert_eq!(fine["spec"], json!({"host": "h", "port": "1"}));
}
