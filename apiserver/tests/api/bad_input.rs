//! Bad input gets an error that says what is wrong, and harms nothing.

use apiserver::testing::TestServer;
use http::Method;
use serde_json::json;

use crate::client::{Client, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn bodies_that_are_no_objects_are_refused() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let deep = "[".repeat(100_000);
    for body in ["", "{", "null x", "[]", "\"x\"", "\u{0}", r#"{"kind":"Pod","apiVersion":"v1"}"#, &deep] {
        let answer =
            client.send(Method::POST, MAPS, &[("content-type", "application/json")], body.as_bytes().to_vec()).await;
        assert!((400..500).contains(&answer.0.as_u16()), "{:?}: {answer:?}", body.get(..20));
        assert_eq!(answer.1["kind"], "Status");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let body =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "x".repeat(4 << 20)}});
    let status = expect(client.post(MAPS, &body).await, 413);
    assert_eq!(status["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn nobody_gets_in_without_credentials_or_rights() {
    let server = TestServer::start().await;
    let anonymous = Client::of(server.anonymous());
    assert_eq!(expect(anonymous.get(MAPS).await, 403)["reason"], "Forbidden");
    expect(anonymous.get("/readyz").await, 200);
    let token = [("authorization", "Bearer wrong")];
    expect(anonymous.send(Method::GET, MAPS, &token, Vec::new()).await, 401);
    let stranger = Client::of(server.service_as("stranger", &[]));
    let refused = expect(stranger.get(MAPS).await, 403);
    let why = r#"configmaps is forbidden: User "stranger" cannot list resource "configmaps" in API group "" in the namespace "default""#;
    assert_eq!(refused["message"], why);
}

#[tokio::test]
async fn unknown_media_types_and_methods_are_refused() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    expect(client.get_as(MAPS, "text/html").await, 406);
    expect(client.send(Method::POST, MAPS, &[("content-type", "text/plain")], b"x".to_vec()).await, 415);
    expect(client.send(Method::PUT, MAPS, &[], b"{}".to_vec()).await, 405);
    expect(client.get("/api/v1/namespaces/default/nothings").await, 404);
    expect(client.get("/apis/nothing.example.com/v1").await, 404);
}

/// The feature gate `CBORServingAndStorage` is off, as it is by default.
#[tokio::test]
async fn cbor_is_neither_taken_nor_given() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let empty_map = vec![0xd9, 0xd9, 0xf7, 0xa0];
    let cbor = [("content-type", "application/cbor")];
    let refused = expect(client.send(Method::POST, MAPS, &cbor, empty_map.clone()).await, 415);
    let why = "the body of the request was in an unknown format - accepted media types include: application/json, \
               application/yaml, application/vnd.kubernetes.protobuf";
    assert_eq!(refused["message"], why);
    let apply = [("content-type", "application/apply-patch+cbor")];
    expect(client.send(Method::PATCH, &format!("{MAPS}/x?fieldManager=a"), &apply, empty_map).await, 415);
    expect(client.get_as(MAPS, "application/cbor").await, 406);
    expect(client.get_as(&format!("{MAPS}?watch=1"), "application/cbor-seq").await, 406);
    expect(client.get_as(MAPS, "application/cbor, application/json;q=0.5").await, 200);
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    expect(client.get_as(definition, "application/cbor").await, 406);
    expect(client.get_as("/apis", "application/cbor").await, 406);
}

#[tokio::test]
async fn a_write_names_the_object_that_its_path_names() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
    let created = expect(client.post(MAPS, &map).await, 201);
    let path = format!("{MAPS}/x");
    let nameless = expect(client.put(&path, &json!({"metadata": {}})).await, 400);
    let why = "the name of the object (x based on URL) was undeterminable: name must be provided";
    assert_eq!(nameless["message"], why);
    let merge = "application/merge-patch+json";
    expect(client.patch(&path, merge, &json!({"metadata": {"name": "y"}})).await, 400);
    // A PUT is refused for being about another object, a patch for changing what cannot change.
    let foreign = json!({"metadata": {"name": "x", "uid": "another"}});
    expect(client.put(&path, &foreign).await, 409);
    expect(client.patch(&path, merge, &foreign).await, 422);
    expect(client.patch(&path, merge, &json!({"kind": "Secret"})).await, 422);
    let times = json!({"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z"}});
    assert_eq!(expect(client.patch(&path, merge, &times).await, 200), created);
}

#[tokio::test]
async fn nothing_is_created_in_a_namespace_that_is_missing_or_going() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
    expect(client.post("/api/v1/namespaces/missing/configmaps", &map).await, 404);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}});
    expect(client.post("/api/v1/namespaces", &namespace).await, 201);
    let going = expect(client.delete("/api/v1/namespaces/going").await, 200);
    assert_eq!(going["status"]["phase"], "Terminating");
    let refused = expect(client.post("/api/v1/namespaces/going/configmaps", &map).await, 403);
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut finalized = going.clone();
    finalized["spec"]["finalizers"] = json!([]);
    expect(client.put("/api/v1/namespaces/going/finalize", &finalized).await, 200);
    expect(client.get("/api/v1/namespaces/going").await, 404);
    expect(client.delete("/api/v1/namespaces/default").await, 403);
}
