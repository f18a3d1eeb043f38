//! Definitions themselves: names, conditions, discovery, documents and their end.

use apiserver::Config;
use apiserver::testing::TestServer;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;

use super::{
    DEFINITIONS, WIDGETS, WIDGETS_DEFINITION, condition, define, definition, fields, until, version, widget, widgets,
};
use crate::client::{Client, MERGE, expect};

/// A definition in the group of widgets with names of its own.
fn other(plural: &str, kind: &str) -> Value {
    let mut other = widgets();
    other["metadata"]["name"] = format!("{plural}.example.com").into();
    other["spec"]["names"] = json!({"plural": plural, "kind": kind});
    other
}

/// Conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple
/// CustomResourceDefinition creating/deleting custom resource definition objects works [Conformance]
#[tokio::test]
async fn a_definition_comes_and_goes() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let established = define(&client, &widgets()).await;
    assert_eq!(established["status"]["acceptedNames"]["listKind"], "WidgetList");
    assert_eq!(established["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(condition(&established, "NamesAccepted")["reason"], "NoConflicts");
    let going = expect(client.delete(WIDGETS_DEFINITION).await, 200);
    assert_eq!(going["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    until(&client, WIDGETS_DEFINITION, |answer| answer["code"] == 404).await;
    until(&client, WIDGETS, |answer| answer == "404 page not found\n").await;
}

/// Conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple
/// CustomResourceDefinition listing custom resource definition objects works [Conformance]
#[tokio::test]
async fn definitions_are_listed_and_deleted_by_label() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    for at in 0..10 {
        let mut definition = other(&format!("kind{at}s"), &format!("Kind{at}"));
        definition["metadata"]["labels"] = json!({"many": "yes"});
        expect(client.post(DEFINITIONS, &definition).await, 201);
    }
    define(&client, &widgets()).await;
    let many = format!("{DEFINITIONS}?labelSelector=many%3Dyes");
    assert_eq!(expect(client.get(&many).await, 200)["items"].as_array().map(Vec::len), Some(10));
    expect(client.delete(&many).await, 200);
    until(&client, &many, |list| list["items"] == json!([])).await;
    expect(client.get(WIDGETS_DEFINITION).await, 200);
}

/// Conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple
/// CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works [Conformance]
#[tokio::test]
async fn the_status_of_a_definition_can_be_written() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut definition = define(&client, &widgets()).await;
    let status = format!("{WIDGETS_DEFINITION}/status");
    expect(client.get(&status).await, 200);
    let added = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set by a test"});
    definition["status"]["conditions"].as_array_mut().unwrap().push(added);
    let updated = expect(client.put(&status, &definition).await, 200);
    assert_eq!(condition(&updated, "StatusUpdate")["reason"], "E2E");
    let mut conditions = updated["status"]["conditions"].clone();
    conditions.as_array_mut().unwrap().push(json!({"type": "StatusPatched", "status": "True"}));
    let patch = json!({"status": {"conditions": conditions}});
    expect(client.patch(&status, MERGE, &patch).await, 200);
    let read = expect(client.get(WIDGETS_DEFINITION).await, 200);
    assert_eq!(condition(&read, "StatusPatched")["status"], "True");
    assert_eq!(condition(&read, "Established")["status"], "True");
}

/// Conformance: [sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition
/// Watch watch on custom resource definition objects [Conformance]
#[tokio::test]
async fn definitions_are_watched() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut events = client.watch(&format!("{DEFINITIONS}?watch=1")).await;
    define(&client, &widgets()).await;
    assert_eq!(events.soon().await.unwrap()["type"], "ADDED");
    assert_eq!(events.soon().await.unwrap()["type"], "MODIFIED");
    expect(client.delete(WIDGETS_DEFINITION).await, 200);
    loop {
        let event = events.soon().await.unwrap();
        if event["type"] == "DELETED" {
            break assert_eq!(event["object"]["metadata"]["name"], "widgets.example.com");
        }
    }
}

/// Conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom
/// resource definition resources in discovery documents [Conformance]
#[tokio::test]
async fn discovery_shows_definitions_and_what_they_define() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    define(&client, &widgets()).await;
    let groups = names(&expect(client.get("/apis").await, 200)["groups"]);
    assert!(groups.contains(&"apiextensions.k8s.io".to_owned()) && groups.contains(&"example.com".to_owned()));
    let group = expect(client.get("/apis/apiextensions.k8s.io").await, 200);
    assert_eq!(group["preferredVersion"]["version"], "v1");
    let resources = expect(client.get("/apis/apiextensions.k8s.io/v1").await, 200);
    assert!(names(&resources["resources"]).contains(&"customresourcedefinitions".to_owned()));
    let resources = expect(client.get("/apis/example.com/v1").await, 200);
    assert_eq!(names(&resources["resources"]), ["widgets"]);
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let aggregated = expect(client.get_as("/apis", accept).await, 200);
    let last = aggregated["items"].as_array().unwrap().last().unwrap();
    assert_eq!(last["metadata"]["name"], "example.com");
    assert_eq!(last["versions"][0]["resources"][0]["shortNames"], json!(["wd"]));
}

#[tokio::test]
async fn names_that_are_taken_are_given_when_they_become_free() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    define(&client, &widgets()).await;
    expect(client.post(DEFINITIONS, &other("gadgets", "Widget")).await, 201);
    let gadgets = format!("{DEFINITIONS}/gadgets.example.com");
    let refused = until(&client, &gadgets, |gadgets| !condition(gadgets, "NamesAccepted").is_null()).await;
    assert_eq!(condition(&refused, "NamesAccepted")["reason"], "ListKindConflict");
    assert_eq!(condition(&refused, "Established")["status"], "False");
    assert_eq!(client.get("/apis/example.com/v1/gadgets").await.0, 404);
    expect(client.delete(WIDGETS_DEFINITION).await, 200);
    until(&client, &gadgets, |gadgets| condition(gadgets, "Established")["status"] == "True").await;
    expect(client.get("/apis/example.com/v1/gadgets").await, 200);
}

#[tokio::test]
async fn a_definition_goes_when_its_objects_are_gone() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    define(&client, &widgets()).await;
    let mut held = widget("held", &json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    expect(client.post(WIDGETS, &held).await, 201);
    expect(client.post(WIDGETS, &widget("free", &json!({}))).await, 201);
    expect(client.delete(WIDGETS_DEFINITION).await, 200);
    until(&client, &format!("{WIDGETS}/free"), |answer| answer["code"] == 404).await;
    until(&client, WIDGETS_DEFINITION, |it| condition(it, "Terminating")["reason"] == "InstanceDeletionInProgress")
        .await;
    let refused = expect(client.post(WIDGETS, &widget("late", &json!({}))).await, 405);
    assert_eq!(refused["message"], "create not allowed while custom resource definition is terminating");
    let patch = json!({"metadata": {"finalizers": null}});
    expect(client.patch(&format!("{WIDGETS}/held"), MERGE, &patch).await, 200);
    until(&client, WIDGETS_DEFINITION, |answer| answer["code"] == 404).await;
    // Nothing of the old objects is left for a definition of the same name.
    define(&client, &widgets()).await;
    assert_eq!(expect(client.get(WIDGETS).await, 200)["items"], json!([]));
}

#[tokio::test]
async fn a_server_that_starts_serves_what_was_defined_before() {
    let store = std::sync::Arc::new(EmbeddedStore::in_memory());
    let server = TestServer::with(Config::default(), store.clone()).await;
    let client = Client::admin(&server);
    define(&client, &widgets()).await;
    expect(client.post(WIDGETS, &widget("a", &json!({"size": 1}))).await, 201);
    server.stop().await;
    let server = TestServer::with(Config::default(), store).await;
    let read = expect(Client::admin(&server).get(&format!("{WIDGETS}/a")).await, 200);
    assert_eq!(read["spec"]["size"], 1);
}

#[tokio::test]
async fn another_server_on_the_same_store_notices_a_definition() {
    let store = std::sync::Arc::new(EmbeddedStore::in_memory());
    let one = TestServer::with(Config::default(), store.clone()).await;
    let other = TestServer::with(Config::default(), store).await;
    let (one, other) = (Client::admin(&one), Client::admin(&other));
    define(&one, &widgets()).await;
    until(&other, WIDGETS, |list| list["kind"] == "WidgetList").await;
    expect(other.post(WIDGETS, &widget("a", &json!({}))).await, 201);
    expect(one.get(&format!("{WIDGETS}/a")).await, 200);
    expect(one.delete(WIDGETS_DEFINITION).await, 200);
    until(&other, WIDGETS, |answer| answer == "404 page not found\n").await;
}

/// The OpenAPI document of a group and version.
async fn document(client: &Client, path: &str) -> Value {
    until(client, &format!("/openapi/v3/apis/{path}"), |document| document["openapi"] == "3.0.0").await
}

/// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation
/// schema [Conformance]
/// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of
/// same group and version but different kinds [Conformance]
#[tokio::test]
async fn documents_say_what_authors_say() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let size = json!({"type": "integer", "description": "How big.", "minimum": 1});
    let mut schema = fields(&json!({"size": size, "tags": {"type": "array", "items": {"type": "string"}}}));
    schema["required"] = json!(["size"]);
    schema["description"] = "What is wanted.".into();
    define(&client, &super::definition(&json!([version("v1", &schema)]))).await;
    define(&client, &other("gadgets", "Gadget")).await;
    let document = document(&client, "example.com/v1").await;
    let schemas = &document["components"]["schemas"];
    let spec = &schemas["com.example.v1.Widget"]["properties"]["spec"];
    assert_eq!(spec, &schema);
    assert!(schemas["com.example.v1.Widget"]["properties"]["metadata"]["allOf"][0]["$ref"].is_string());
    assert!(schemas["com.example.v1.Gadget"].is_object() && schemas["com.example.v1.WidgetList"].is_object());
}

/// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without
/// validation schema [Conformance]
/// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving
/// unknown fields at the schema root [Conformance]
/// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving
/// unknown fields in an embedded object [Conformance]
#[tokio::test]
async fn documents_of_open_schemas_let_everything_through() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut root = widgets();
    root["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = open.clone();
    define(&client, &root).await;
    let mut nested = other("gadgets", "Gadget");
    nested["spec"]["versions"] = json!([version("v1", &open)]);
    define(&client, &nested).await;
    let document = document(&client, "example.com/v1").await;
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["com.example.v1.Widget"]["x-kubernetes-preserve-unknown-fields"], true);
    assert_eq!(schemas["com.example.v1.Gadget"]["properties"]["spec"], open);
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let free =
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "any": {"thing": [1]}});
    assert_eq!(expect(client.post(&strict, &free).await, 201)["any"], json!({"thing": [1]}));
}

/// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of
/// different groups [Conformance]
/// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of
/// same group but different versions [Conformance]
/// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec
/// when one version gets changed to not be served [Conformance]
/// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec
/// when one version gets renamed [Conformance]
#[tokio::test]
async fn documents_follow_groups_and_versions() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let spec = fields(&json!({"a": {"type": "string"}}));
    let versions = |second: &str| json!([version("v1", &spec), version(second, &spec)]);
    define(&client, &super::definition(&versions("v2"))).await;
    let mut elsewhere = widgets();
    elsewhere["metadata"]["name"] = "widgets.example.org".into();
    elsewhere["spec"]["group"] = "example.org".into();
    define(&client, &elsewhere).await;
    for (path, name) in [
        ("example.com/v1", "com.example.v1"),
        ("example.com/v2", "com.example.v2"),
        ("example.org/v1", "org.example.v1"),
    ] {
        let document = document(&client, path).await;
        assert!(document["components"]["schemas"][format!("{name}.Widget")].is_object(), "{path}");
    }
    let index = expect(client.get("/openapi/v3").await, 200);
    super::redefine(&client, &versions("v3"), "/openapi/v3/apis/example.com/v2", |it| !it.is_object()).await;
    document(&client, "example.com/v3").await;
    let now = expect(client.get("/openapi/v3").await, 200);
    assert_eq!(index["paths"]["apis/example.com/v1"], now["paths"]["apis/example.com/v1"], "unchanged, so cached");
    let mut unserved = versions("v3");
    unserved[1]["served"] = false.into();
    super::redefine(&client, &unserved, "/openapi/v3/apis/example.com/v3", |it| !it.is_object()).await;
    assert!(expect(client.get("/openapi/v3").await, 200)["paths"].get("apis/example.com/v3").is_none());
}

#[tokio::test]
async fn a_dry_run_asks_the_conversion_webhook_too() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut converted = definition(&json!([version("v1", &open), version("v2", &open)]));
    converted["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/convert"}}});
    define(&client, &converted).await;
    let path = "/apis/example.com/v2/namespaces/default/widgets?dryRun=All";
    let widget = json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": "w"}});
    let refused = expect(client.post(path, &widget).await, 500);
    let why = "dial tcp 127.0.0.1:1: connect: connection refused";
    assert!(refused["message"].as_str().unwrap().ends_with(why), "{refused}");
}
