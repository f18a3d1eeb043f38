//! Custom resources where the suite looks at more than the definitions: strict decoding, and discovery.

use apiserver::testing::TestServer;
use http::Method;
use serde_json::{Value, json};

use super::start;
use crate::client::{APPLY, Answer, Client, expect};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NOXUS: &str = "/apis/example.com/v1/namespaces/default/noxus";

/// A server with the custom resource `noxus`, once it is served.
async fn with_noxus(schema: &Value) -> (TestServer, Client) {
    let (server, client) = start().await;
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let spec = json!({"group": "example.com", "scope": "Namespaced", "names": {"plural": "noxus", "kind": "Noxu"},
        "versions": [version]});
    expect(client.post(DEFINITIONS, &json!({"metadata": {"name": "noxus.example.com"}, "spec": spec})).await, 201);
    let mut events = client.watch(&format!("{DEFINITIONS}?watch=1")).await;
    let is_established = |event: &Value| {
        let conditions = event["object"]["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|known| known["type"] == "Established" && known["status"] == "True")
    };
    while !is_established(&events.soon().await.unwrap()) {}
    while client.get(NOXUS).await.0 == 404 {
        tokio::task::yield_now().await;
    }
    (server, client)
}

fn schema(spec: &Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

async fn create(client: &Client, body: &str) -> Answer {
    let path = format!("{NOXUS}?fieldValidation=Strict");
    client.send(Method::POST, &path, &[("content-type", "application/json")], body.as_bytes().to_vec()).await
}

async fn apply(client: &Client, body: &str) -> Answer {
    let path = format!("{NOXUS}/mynoxu?fieldValidation=Strict&fieldManager=m");
    client.send(Method::PATCH, &path, &[("content-type", APPLY)], body.as_bytes().to_vec()).await
}

fn noxu(metadata: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion": "example.com/v1", "kind": "Noxu", "metadata": {{"name": "mynoxu"{metadata}}}, "spec": {{{spec}}}}}"#
    )
}

#[track_caller]
fn assert_refused(answer: Answer, parts: &[&str]) {
    let refused = expect(answer, 400);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("strict decoding error"), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part} is not in {message}");
    }
}

/// Conformance: [sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema [Conformance]
#[tokio::test]
async fn without_a_schema_every_field_is_known() {
    let (_server, client) = with_noxus(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})).await;
    let applied = expect(apply(&client, &noxu("", r#""foo": "foo1", "num": 5"#)).await, 201);
    assert_eq!(applied["spec"], json!({"foo": "foo1", "num": 5}));
    expect(create(&client, &noxu("", r#""foo": "foo1""#).replace("mynoxu", "other")).await, 201);
}

/// Conformance: [sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema [Conformance]
/// Conformance: [sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema [Conformance]
#[tokio::test]
async fn with_a_schema_only_its_fields_are_known() {
    let spec = json!({"type": "object", "properties": {"foo": {"type": "string"}, "num": {"type": "integer"}}});
    let (_server, client) = with_noxus(&schema(&spec)).await;
    let extra = noxu("", r#""foo": "foo1", "extraProperty": "arbitrary""#);
    let unknown = [r#"unknown field "spec.extraProperty""#];
    assert_refused(create(&client, &extra).await, &unknown);
    expect(apply(&client, &noxu("", r#""foo": "foo1", "num": 5"#)).await, 201);
    expect(create(&client, &noxu("", r#""foo": "foo1""#).replace("mynoxu", "other")).await, 201);
    assert_eq!(expect(client.get(&format!("{NOXUS}/mynoxu")).await, 200)["spec"], json!({"foo": "foo1", "num": 5}));
}

/// Conformance: [sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields [Conformance]
#[tokio::test]
async fn duplicates_are_refused_where_unknown_fields_are_kept() {
    let spec = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"foo": {"type": "string"}}});
    let (_server, client) = with_noxus(&schema(&spec)).await;
    let twice = noxu("", r#""unknown": "uk1", "unknownDupe": "a", "unknownDupe": "b", "foo": "foo1", "foo": "foo2""#);
    let duplicates = [r#"duplicate field "spec.unknownDupe""#, r#"duplicate field "spec.foo""#];
    assert_refused(create(&client, &twice).await, &duplicates);
    expect(create(&client, &noxu("", r#""unknown": "uk1", "foo": "foo1""#)).await, 201);
}

/// Conformance: [sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR [Conformance]
#[tokio::test]
async fn metadata_of_embedded_objects_has_no_other_fields() {
    let template =
        json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    let (_server, client) = with_noxus(&schema(&json!({"type": "object", "properties": {"template": template}}))).await;
    let embedded = r#""template": {"apiVersion": "foo/v1", "kind": "Sub", "metadata": {"name": "sub", "unknownSubMeta": "x"}, "kept": 1}"#;
    let body = noxu(r#", "unknownMeta": "y""#, embedded);
    let unknown =
        [r#"unknown field "metadata.unknownMeta""#, r#"unknown field "spec.template.metadata.unknownSubMeta""#];
    assert_refused(create(&client, &body).await, &unknown);
}

/// Conformance: [sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface for CRDs [Conformance]
/// Conformance: [sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery request for CRDs [Conformance]
#[tokio::test]
async fn custom_resources_are_in_aggregated_discovery() {
    let (_server, client) = with_noxus(&json!({"type": "object"})).await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let document = expect(client.get_as("/apis", accept).await, 200);
    let groups = document["items"].as_array().unwrap();
    let group = groups.iter().find(|group| group["metadata"]["name"] == "example.com").expect("the group");
    let version = &group["versions"][0];
    assert_eq!(version["version"], "v1");
    let resource = &version["resources"][0];
    assert_eq!((&resource["resource"], &resource["responseKind"]["kind"]), (&json!("noxus"), &json!("Noxu")));
    assert_eq!(resource["scope"], "Namespaced");
}
