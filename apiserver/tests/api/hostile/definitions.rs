//! Definitions of custom resources, and what they make the server do.

use apiserver::testing::TestServer;
use http::Method;
use serde_json::{Value, json};

use super::{assert_small, in_time, nested_value, send};
use crate::client::{Client, MERGE, expect};
use crate::custom::{DEFINITIONS, WIDGETS, define, definition, fields, version, widget};

/// Defines widgets with this spec and returns the refusal.
async fn refused(client: &Client, spec: &Value) -> String {
    let body = definition(&json!([version("v1", spec)])).to_string().into_bytes();
    let (status, answer) = send(client, Method::POST, DEFINITIONS, "application/json", body).await;
    assert_eq!(status, 422, "{spec}: {}", answer["message"]);
    answer["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn rules_that_cost_too_much_are_refused_when_they_are_defined() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let lists = |rule: &str| {
        json!({"type": "object", "properties": {
            "a": {"type": "array", "items": {"type": "string"}}, "b": {"type": "array", "items": {"type": "string"}},
        }, "x-kubernetes-validations": [{"rule": rule}]})
    };
    for rule in [
        "self.a.all(x, self.b.all(y, x != y))",
        "self.a.all(x, self.a.all(y, self.a.all(z, x != y && y != z)))",
        "self.a.all(x, x.matches('(a|aa)+$'))",
    ] {
        let why = refused(&client, &lists(rule)).await;
        assert!(why.contains("estimated rule cost"), "{rule}: {why}");
    }
    let deep = format!("{}true{}", "(".repeat(5_000), ")".repeat(5_000));
    let long = vec!["true"; 60_000].join(" && ");
    let chain = format!("self.a{}", ".map(x, x)".repeat(2_000));
    for rule in [deep, long, chain] {
        refused(&client, &lists(&rule)).await;
    }
    assert_small();
}

#[tokio::test]
async fn rules_stop_when_they_have_used_up_what_they_may() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let spec = json!({"type": "object", "properties": {
        "a": {"type": "array", "maxItems": 1000, "items": {"type": "string", "maxLength": 10}},
    }, "x-kubernetes-validations": [{"rule": "self.a.all(x, self.a.all(y, x == y))"}]});
    define(&client, &definition(&json!([version("v1", &spec)]))).await;
    let items = vec!["same"; 1000];
    let body = widget("x", &json!({"a": items})).to_string().into_bytes();
    let (status, answer) = send(&client, Method::POST, WIDGETS, "application/json", body).await;
    assert!(status == 201 || status == 422, "{status}: {}", answer["message"]);
    assert_small();
}

#[tokio::test]
async fn patterns_are_linear_and_small() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    for pattern in ["(((((a{100}){100}){100}){100}){100})", "(?P<", "a{1000000000}", "[[:nothing:]"] {
        refused(&client, &fields(&json!({"a": {"type": "string", "pattern": pattern}}))).await;
    }
    let catastrophic = fields(&json!({"a": {"type": "string", "pattern": "^(x+x+)+y$"}}));
    define(&client, &definition(&json!([version("v1", &catastrophic)]))).await;
    let body = widget("x", &json!({"a": "x".repeat(500_000)})).to_string().into_bytes();
    let (status, answer) = send(&client, Method::POST, WIDGETS, "application/json", body).await;
    assert_eq!(status, 422);
    let said = answer["message"].as_str().unwrap().len();
    assert!(said < 1 << 20, "{said}");
    assert_small();
}

#[tokio::test]
async fn columns_that_look_everywhere_do_not_multiply() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut version = version("v1", &open);
    let paths =
        [".spec..*..*..*..*..*..*", ".spec..a..a..a..a..a..a..a..a", ".spec[*][*][*][*]", ".spec.wide[?(@[0])]"];
    version["additionalPrinterColumns"] = paths
        .iter()
        .enumerate()
        .map(|(at, path)| json!({"name": format!("Column {at}"), "type": "string", "jsonPath": path}))
        .collect();
    define(&client, &definition(&json!([version]))).await;
    let deep = json!({"deep": nested_value(100)});
    let wide: Vec<Value> = (0..40).map(|_| json!([[[1, 2, 3, 4], [1, 2, 3, 4]], [[1, 2], [3, 4]]])).collect();
    for (name, spec) in [("deep", deep), ("wide", json!({"wide": wide}))] {
        let body = widget(name, &spec).to_string().into_bytes();
        expect(send(&client, Method::POST, WIDGETS, "application/json", body).await, 201);
    }
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let rows = expect(in_time("a table", client.get_as(WIDGETS, table)).await, 200);
    assert_eq!(rows["rows"].as_array().unwrap().len(), 2);
    assert_small();
}

#[tokio::test]
async fn a_table_of_huge_objects_is_made_in_time() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut version = version("v1", &open);
    version["additionalPrinterColumns"] = json!([{"name": "Everything", "type": "string", "jsonPath": ".spec"}, {"name": "A", "type": "string", "jsonPath": ".spec.a"}]);
    define(&client, &definition(&json!([version]))).await;
    for at in 0..20 {
        let spec = json!({"a": "x".repeat(400_000), "b": (0..5_000).collect::<Vec<_>>()});
        let body = widget(&format!("w{at}"), &spec).to_string().into_bytes();
        expect(send(&client, Method::POST, WIDGETS, "application/json", body).await, 201);
    }
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let rows = expect(in_time("a table", client.get_as(WIDGETS, table)).await, 200);
    assert_eq!(rows["rows"].as_array().unwrap().len(), 20);
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    expect(in_time("metadata", client.get_as(WIDGETS, metadata)).await, 200);
    expect(in_time("YAML", client.get_as(WIDGETS, "application/yaml")).await, 200);
    assert_small();
}

#[tokio::test]
async fn schemas_that_grow_or_refer_to_themselves_are_refused() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    refused(&client, &json!({"$ref": "#/definitions/spec"})).await;
    let wide: serde_json::Map<String, Value> =
        (0..20_000).map(|at| (format!("f{at}"), json!({"type": "string"}))).collect();
    let body = definition(&json!([version("v1", &fields(&wide.into()))])).to_string().into_bytes();
    let (status, answer) = send(&client, Method::POST, DEFINITIONS, "application/json", body).await;
    assert!(status == 201 || status == 413, "{status}: {}", answer["message"]);
    in_time("OpenAPI", client.get("/openapi/v2")).await;
    let nothing = json!({"spec": {"versions": []}});
    let path = format!("{DEFINITIONS}/widgets.example.com");
    assert!(in_time("a patch", client.patch(&path, MERGE, &nothing)).await.0.is_client_error());
    assert_small();
}
