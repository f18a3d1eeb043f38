//! Custom objects as they come back from the store: answers show what the stored version's schema makes of them.

use apiserver::testing::TestServer;
use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use super::{DEFINITIONS, WIDGETS, define, definition, fields, redefine, version, widget};
use crate::client::{APPLY, Client, JSON_PATCH, expect};

async fn start(definition: &Value) -> (TestServer, Client) {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    define(&client, definition).await;
    (server, client)
}

fn apply_body(name: &str, spec: &Value) -> Value {
    widget(name, spec)
}

#[tokio::test]
async fn answers_have_the_defaults_that_reading_gives() {
    let mut version = version("v1", &fields(&json!({"size": {"type": "integer"}})));
    version["subresources"] = json!({"status": {}});
    version["schema"]["openAPIV3Schema"]["properties"]["status"] = json!({
        "type": "object", "default": {"observed": -1}, "properties": {"observed": {"type": "integer"}},
    });
    let (_server, client) = start(&definition(&json!([version]))).await;
    let dry = expect(client.post(&format!("{WIDGETS}?dryRun=All"), &widget("a", &json!({}))).await, 201);
    assert_eq!(dry["status"], json!({"observed": -1}));
    let made = expect(client.post(WIDGETS, &widget("a", &json!({}))).await, 201);
    assert_eq!(made["status"], json!({"observed": -1}));
    let read = expect(client.get(&format!("{WIDGETS}/a")).await, 200);
    assert_eq!(read, made);
    let applied = client.patch(&format!("{WIDGETS}/b?fieldManager=m"), APPLY, &apply_body("b", &json!({}))).await;
    assert_eq!(expect(applied, 201)["status"], json!({"observed": -1}));
}

#[tokio::test]
async fn a_write_that_changes_nothing_stores_what_a_new_schema_says() {
    let with = |properties: Value| json!([version("v1", &fields(&properties))]);
    let old = with(json!({"a": {"type": "string"}, "gone": {"type": "string"}}));
    let (_server, client) = start(&definition(&old)).await;
    let item = format!("{WIDGETS}/x");
    let made = expect(client.post(WIDGETS, &widget("x", &json!({"gone": "g"}))).await, 201);
    let new = with(json!({"a": {"type": "string", "default": "A"}}));
    let shown = redefine(&client, &new, &item, |object| object["spec"] == json!({"a": "A"})).await;
    assert_eq!(shown["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let list = expect(client.get(WIDGETS).await, 200);
    assert_eq!(list["items"][0]["spec"], json!({"a": "A"}));
    let first = expect(client.put(&item, &shown).await, 200);
    assert_ne!(first["metadata"]["resourceVersion"], shown["metadata"]["resourceVersion"], "it is written once");
    let second = expect(client.put(&item, &first).await, 200);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"], "and no more");
}

#[tokio::test]
async fn nulls_that_apply_brings_are_left_for_validation() {
    let schema = fields(&json!({"size": {"type": "integer"}, "may": {"type": "string", "nullable": true}}));
    let (_server, client) = start(&definition(&json!([version("v1", &schema)]))).await;
    let path = format!("{WIDGETS}/x?fieldManager=m");
    let refused = expect(client.patch(&path, APPLY, &apply_body("x", &Value::Null)).await, 422);
    let why = "spec in body must be of type object: \"null\"";
    assert!(refused["message"].as_str().unwrap().contains(why), "{refused}");
    expect(client.patch(&path, APPLY, &apply_body("x", &json!({"may": null}))).await, 201);
    expect(client.post(WIDGETS, &widget("y", &json!({"size": null}))).await, 201);
}

#[tokio::test]
async fn what_nobody_declared_is_neither_answered_nor_in_conflict() {
    let schema = fields(&json!({"list": {"type": "array", "items": {"type": "object"}},
        "open": {"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": {"type": "object"}}}));
    let (_server, client) = start(&definition(&json!([version("v1", &schema)]))).await;
    let spec = json!({"list": [{"a": 1}], "open": [{"config": "input { }"}]});
    let path = |manager: &str| format!("{WIDGETS}/x?fieldManager={manager}");
    let made = expect(client.patch(&path("one"), APPLY, &apply_body("x", &spec)).await, 201);
    assert_eq!(made["spec"], json!({"list": [{}], "open": [{"config": "input { }"}]}));
    assert_eq!(expect(client.patch(&path("one"), APPLY, &apply_body("x", &spec)).await, 200), made);
    expect(client.patch(&path("two"), APPLY, &apply_body("x", &spec)).await, 200);
    let posted = expect(client.post(WIDGETS, &widget("y", &spec)).await, 201);
    assert_eq!(posted["spec"], made["spec"]);
}

async fn warnings(client: &Client, method: Method, path: &str, media: &str, body: &Value) -> Vec<String> {
    let request = Request::builder().method(method).uri(path).header("content-type", media);
    let answer = client.raw(request.body(Body::from(body.to_string())).unwrap()).await;
    let texts = answer.headers().get_all("warning").into_iter();
    texts.map(|text| text.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn clients_are_warned_of_versions_formats_and_finalizers() {
    let mut one = version("v1", &fields(&json!({"replicas": {"type": "integer"}})));
    one["deprecated"] = true.into();
    one["subresources"] = json!({"status": {}, "scale": {
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}});
    let (_server, client) = start(&definition(&json!([one]))).await;
    expect(client.post(WIDGETS, &widget("x", &json!({"replicas": 1}))).await, 201);
    for subresource in ["", "/status", "/scale", "/none"] {
        let path = format!("{WIDGETS}/x{subresource}");
        let found = warnings(&client, Method::GET, &path, "application/json", &json!({})).await;
        assert_eq!(found, ["299 - \"example.com/v1 Widget is deprecated\""], "{subresource}");
    }
    let mut held = widget("y", &json!({}));
    held["metadata"]["finalizers"] = json!(["a.example.com", "example.com/b", "orphan"]);
    let found = warnings(&client, Method::POST, WIDGETS, "application/json", &held).await;
    assert!(found.iter().any(|text| text.contains("metadata.finalizers: \\\"a.example.com\\\": prefer a domain")));
    assert!(!found.iter().any(|text| text.contains("/b") || text.contains("orphan")), "{found:?}");
    let mut other = definition(&json!([version(
        "v1",
        &fields(&json!({"a": {"type": "string", "format": "odd"},
        "b": {"type": "integer", "format": "int64"}, "c": {"type": "string", "format": "date-time"}}))
    )]));
    other["metadata"]["name"] = "gadgets.example.com".into();
    other["spec"]["names"] = json!({"plural": "gadgets", "kind": "Gadget"});
    let found = warnings(&client, Method::POST, DEFINITIONS, "application/json", &other).await;
    assert_eq!(found, ["299 - \"unrecognized format \\\"odd\\\"\""]);
}

#[tokio::test]
async fn schemas_are_read_to_their_depths() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let cases = [
        (json!({"type": "array", "items": {"type": "object", "required": true}}), "required of type []string"),
        (json!({"type": "array", "items": {"type": "object", "properties": {"a": 5}}}), "properties of type"),
        (json!({"type": "object", "additionalProperties": "yes"}), "boolean or JSON schema expected"),
        (json!({"type": "object", "x-kubernetes-validations": "s"}), "x-kubernetes-validations of type"),
    ];
    for (schema, why) in cases {
        let wrong = definition(&json!([version("v1", &fields(&json!({"a": schema})))]));
        let refused = expect(client.post(&format!("{DEFINITIONS}?dryRun=All"), &wrong).await, 400);
        assert!(refused["message"].as_str().unwrap().contains(why), "{refused}");
    }
    let open = json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": true});
    let fine = definition(&json!([version("v1", &fields(&json!({"a": open})))]));
    expect(client.post(&format!("{DEFINITIONS}?dryRun=All"), &fine).await, 201);
}

#[tokio::test]
async fn every_rule_tells_what_it_has_against_a_value() {
    let mut one = version(
        "v1",
        &fields(&json!({
            "kind": {"type": "string", "enum": ["a", "b"]},
            "choice": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
                "oneOf": [{"required": ["x"]}, {"required": ["y"]}]},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
        })),
    );
    one["subresources"] = json!({"status": {}});
    let (_server, client) = start(&definition(&json!([one]))).await;
    let refused = client.post(WIDGETS, &widget("x", &json!({"kind": {"a": 1}, "map": ["s"]}))).await;
    let message = expect(refused, 422)["message"].as_str().unwrap().to_owned();
    for part in [
        "spec.kind in body must be of type string: \"object\"",
        "spec.kind: Unsupported value: {}",
        "spec.map[0]: Invalid value: \"s\": must be an object for an array of list-type map",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let refused = expect(client.post(&strict, &widget("x", &json!({"kind": {"a": 1}}))).await, 400);
    assert!(refused["message"].as_str().unwrap().contains("unknown field \"spec.kind.a\""), "{refused}");
    let refused = expect(client.post(WIDGETS, &widget("x", &json!({"choice": []}))).await, 422);
    assert!(refused["message"].as_str().unwrap().contains("one and only one schema (oneOf)"), "{refused}");
}

#[tokio::test]
async fn a_status_write_keeps_everything_else() {
    let mut one = version("v1", &fields(&json!({"size": {"type": "integer"}})));
    one["subresources"] = json!({"status": {}});
    let (_server, client) = start(&definition(&json!([one]))).await;
    let mut body = widget("x", &json!({"size": 1}));
    body["metadata"]["labels"] = json!({"a": "b"});
    let made = expect(client.post(WIDGETS, &body).await, 201);
    let mut status = made.clone();
    status["spec"] = json!({"size": 2, "more": {"deep": []}});
    status["metadata"]["labels"] = json!({"c": "d"});
    status["status"] = json!({"ready": true});
    let written = expect(client.put(&format!("{WIDGETS}/x/status"), &status).await, 200);
    assert_eq!((&written["spec"], &written["status"]), (&json!({"size": 1}), &json!({"ready": true})));
    assert_eq!((&written["metadata"]["labels"], &written["metadata"]["generation"]), (&json!({"a": "b"}), &json!(1)));
    let patch = json!([{"op": "remove", "path": "/spec"}, {"op": "replace", "path": "/status/ready", "value": false}]);
    let patched = expect(client.patch(&format!("{WIDGETS}/x/status"), JSON_PATCH, &patch).await, 200);
    assert_eq!((&patched["spec"], &patched["status"]), (&json!({"size": 1}), &json!({"ready": false})));
}
