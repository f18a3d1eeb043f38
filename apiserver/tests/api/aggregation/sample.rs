//! What the conformance suite asks of the sample API server: objects, discovery, OpenAPI, and its APIService.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::extension::{FLUNDERS, Mood};
use super::{SERVICES, Stage, WARDLE};
use crate::client::{Client, JSON_PATCH, MERGE, expect};

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

fn flunder(name: &str) -> Value {
    json!({"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder", "metadata": {"name": name}, "spec": {}})
}

/// Conformance: [sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current
/// Aggregator [LinuxOnly] [Conformance]
#[tokio::test]
async fn the_objects_of_another_server_are_used_like_our_own() {
    let stage = Stage::start().await;
    stage.ready().await;
    let client = &stage.client;
    let mut events = client.watch(&format!("{FLUNDERS}?watch=true")).await;
    expect(client.post(FLUNDERS, &flunder("a")).await, 201);
    assert_eq!(events.soon().await.unwrap()["type"], "ADDED");
    let list = expect(client.get(FLUNDERS).await, 200);
    assert_eq!(list["items"], json!([flunder("a")]));
    let patched = expect(client.patch(&format!("{FLUNDERS}/a"), MERGE, &json!({"spec": {"x": 1}})).await, 200);
    assert_eq!(patched["spec"], json!({"x": 1}));
    assert_eq!(events.soon().await.unwrap()["object"], patched);
    expect(client.delete(&format!("{FLUNDERS}/a")).await, 200);
    assert_eq!(expect(client.get(FLUNDERS).await, 200)["items"], json!([]));
    expect(client.get(&format!("{FLUNDERS}/a")).await, 404);
    // The APIService itself.
    let path = format!("{SERVICES}/{WARDLE}");
    let label = json!([{"op": "add", "path": "/metadata/labels", "value": {"e2e": "patched"}}]);
    expect(client.patch(&path, JSON_PATCH, &label).await, 200);
    let selected = expect(client.get(&format!("{SERVICES}?labelSelector=e2e%3Dpatched")).await, 200);
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    let mut status = expect(client.get(&format!("{path}/status")).await, 200);
    let condition = json!({"type": "StatusUpdated", "status": "True", "reason": "E2E", "message": "set by a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    status["status"]["conditions"].as_array_mut().unwrap().push(condition.clone());
    let updated = expect(client.put(&format!("{path}/status"), &status).await, 200);
    assert_eq!(updated["status"]["conditions"][1], condition);
    expect(client.delete(&format!("{SERVICES}?labelSelector=e2e%3Dpatched")).await, 200);
    while client.get(FLUNDERS).await.0 != StatusCode::NOT_FOUND {
        tokio::task::yield_now().await;
    }
    assert!(!expect(client.get("/apis").await, 200).to_string().contains("wardle"));
}

#[tokio::test]
async fn another_server_is_told_who_asks_and_believes_nobody_else() {
    let stage = Stage::start().await;
    stage.ready().await;
    let rule = json!({"apiGroups": ["wardle.example.com"], "resources": ["*"], "verbs": ["list"]});
    let role = json!({"metadata": {"name": "lister"}, "rules": [rule]});
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    expect(stage.client.post(&format!("{rbac}/clusterroles"), &role).await, 201);
    let binding = json!({"metadata": {"name": "lister"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "lister"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    expect(stage.client.post(&format!("{rbac}/clusterrolebindings"), &binding).await, 201);
    let jane = Client::of(stage.server.service_as("jane", &["dev"]));
    expect(jane.post(FLUNDERS, &flunder("a")).await, 403);
    stage.extension.asked();
    let forged = [
        ("x-remote-user", "root"),
        ("x-remote-group", "system:masters"),
        ("x-remote-uid", "0"),
        ("x-remote-extra-scopes", "all"),
        ("authorization", "Bearer secret"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-kept", "yes"),
    ];
    expect(jane.send(Method::GET, &format!("{FLUNDERS}?limit=5&x=%2F"), &forged, Vec::new()).await, 200);
    let [asked] = stage.extension.asked().try_into().unwrap();
    assert_eq!(asked.line, format!("GET {FLUNDERS}?limit=5&x=%2F"));
    assert_eq!(asked.all("x-remote-user"), ["jane"]);
    assert_eq!(asked.all("x-remote-group"), ["dev", "system:authenticated"]);
    assert_eq!(asked.all("x-kept"), ["yes"]);
    assert_eq!(asked.all("x-forwarded-uri"), [FLUNDERS]);
    for gone in ["x-remote-uid", "x-remote-extra-scopes", "authorization", "x-hop"] {
        assert!(asked.all(gone).is_empty(), "{gone}");
    }
    let id = asked.all("x-remote-extra-authentication.kubernetes.io%2fcredential-id");
    assert!(id[0].starts_with("X509SHA256="), "{id:?}");
    // Who is impersonated is the user, and that is not asked for again.
    let other = [("impersonate-user", "jane"), ("impersonate-group", "ops")];
    expect(stage.client.send(Method::GET, FLUNDERS, &other, Vec::new()).await, 200);
    let [asked] = stage.extension.asked().try_into().unwrap();
    assert_eq!(
        (asked.all("x-remote-user"), asked.all("x-remote-group")),
        (vec!["jane".into()], vec!["ops".into(), "system:authenticated".into()])
    );
    assert!(asked.all("impersonate-user").is_empty() && asked.all("impersonate-group").is_empty());
}

#[tokio::test]
async fn discovery_and_openapi_are_one_with_our_own() {
    let stage = Stage::start().await;
    stage.ready().await;
    let group = stage.discovered(|group| group["versions"][0]["freshness"] == "Current").await;
    let resource = json!({"resource": "flunders", "responseKind": {"group": "", "version": "", "kind": "Flunder"},
        "scope": "Namespaced", "singularResource": "flunder", "verbs": ["create", "get", "list", "watch"]});
    assert_eq!(group["versions"], json!([{"version": "v1alpha1", "resources": [resource], "freshness": "Current"}]));
    let client = &stage.client;
    let all = expect(client.get("/apis").await, 200);
    let names: Vec<&str> =
        all["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("apiregistration.k8s.io", "wardle.example.com"));
    let version = json!({"groupVersion": "wardle.example.com/v1alpha1", "version": "v1alpha1"});
    let expected = json!({"kind": "APIGroup", "apiVersion": "v1", "name": "wardle.example.com", "versions": [version],
        "preferredVersion": version});
    assert_eq!(expect(client.get("/apis/wardle.example.com").await, 200), expected);
    let list = expect(client.get("/apis/wardle.example.com/v1alpha1").await, 200);
    assert_eq!(list["resources"][0]["name"], "flunders");
    let paths = expect(client.get("/").await, 200).to_string();
    assert!(paths.contains("\"/apis/wardle.example.com/v1alpha1\""), "{paths}");
    let index = expect(client.get("/openapi/v3").await, 200);
    let url = index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(expect(client.get(url).await, 200)["info"]["title"], "wardle");
    let apps = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(!apps.contains("EVIL"), "{apps}");
    // An older server tells the same in other words.
    stage.extension.set(Mood::Old);
    client.delete("/api/v1/namespaces/default/services/sample").await;
    stage.until("ServiceNotFound").await;
    let service =
        json!({"metadata": {"name": "sample"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    expect(client.post("/api/v1/namespaces/default/services", &service).await, 201);
    stage.ready().await;
    assert_eq!(stage.discovered(|group| group["versions"][0]["freshness"] == "Current").await, group);
}

#[tokio::test]
async fn the_document_of_everything_has_a_part_of_other_servers() {
    let stage = Stage::start().await;
    stage.ready().await;
    let client = &stage.client;
    let document = expect(client.get("/openapi/v2").await, 200);
    let path = &document["paths"]["/apis/wardle.example.com/v1alpha1/flunders"];
    assert_eq!(path["get"]["responses"]["200"]["schema"]["$ref"], "#/definitions/wardle.Flunder");
    assert!(document["paths"]["/apis/apps/v1/deployments"]["get"]["evil"].is_null(), "theirs is not taken for ours");
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let definitions = &document["definitions"];
    let target = &definitions["wardle.Flunder"]["properties"]["metadata"]["$ref"];
    assert_eq!(*target, format!("#/definitions/{meta}_v2"));
    assert_eq!(definitions[format!("{meta}_v2")]["description"], "of an older library");
    assert!(definitions[meta]["properties"]["name"].is_object());
    let message = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let (status, bytes) = client.exchange(Method::GET, "/openapi/v2", &message, Vec::new()).await;
    assert!(status == 200 && bytes.windows(14).any(|part| part == b"wardle.Flunder"));
    // What is known stays while the server is silent, and goes with its APIService.
    stage.extension.set(Mood::Hanging);
    assert!(expect(client.get("/openapi/v2").await, 200)["definitions"]["wardle.Flunder"].is_object());
    expect(client.delete(&format!("{SERVICES}/{WARDLE}")).await, 200);
    while expect(client.get("/openapi/v2").await, 200)["definitions"]["wardle.Flunder"].is_object() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_marked_and_comes_back() {
    let stage = Stage::start().await;
    stage.ready().await;
    stage.extension.set(Mood::Down);
    // Something about the Service changes, so it is looked at.
    let touch = json!({"metadata": {"labels": {"touched": "1"}}});
    expect(stage.client.patch("/api/v1/namespaces/default/services/sample", MERGE, &touch).await, 200);
    let condition = stage.until("FailedDiscoveryCheck").await;
    assert_eq!(condition["status"], "False");
    let message = condition["message"].as_str().unwrap();
    let url = format!("https://localhost:{}/apis/wardle.example.com/v1alpha1", stage.extension.port);
    assert_eq!(message, format!("failing or missing response from {url}: bad status from {url}: 503"));
    stage.server.server().registry().freshen().await.unwrap();
    let stale = stage.discovered(|group| group["versions"][0]["freshness"] == "Stale").await;
    assert_eq!(stale["versions"], json!([{"version": "v1alpha1", "freshness": "Stale"}]));
    loop {
        let (status, body) = stage.client.exchange(Method::GET, FLUNDERS, &[], Vec::new()).await;
        if status == StatusCode::SERVICE_UNAVAILABLE && body == "service unavailable\n" {
            break;
        }
    }
    stage.extension.set(Mood::Well);
    stage.ready().await;
    expect(stage.client.get(FLUNDERS).await, 200);
}

#[tokio::test]
async fn a_condition_is_written_when_it_changes_and_at_no_other_time() {
    let stage = Stage::start().await;
    stage.ready().await;
    let path = format!("{SERVICES}/{WARDLE}");
    let before = expect(stage.client.get(&path).await, 200);
    stage.extension.asked();
    let slice = json!({"metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "sample"}}, "addressType": "IPv4",
        "ports": [], "endpoints": []});
    expect(stage.client.post(SLICES, &slice).await, 201);
    while stage.extension.looks() == 0 {
        tokio::task::yield_now().await;
    }
    stage.server.server().registry().freshen().await.unwrap();
    assert_eq!(expect(stage.client.get(&path).await, 200), before);
}

#[tokio::test]
async fn what_is_missing_between_an_apiservice_and_its_server_is_said() {
    let stage = Stage::with(|config| config.aggregator_routing = true).await;
    let mut spec = stage.spec();
    spec["service"] = json!({"namespace": "default", "name": "none", "port": 443});
    stage.register(&spec).await;
    let said = |condition: &Value| condition["message"].as_str().unwrap().to_owned();
    assert_eq!(said(&stage.until("ServiceNotFound").await), "service/none in \"default\" is not present");
    let services = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "none"}, "spec": {"ports": [{"name": "https", "port": 444}]}});
    expect(stage.client.post(services, &service).await, 201);
    let expected = "service/none in \"default\" is not listening on port 443";
    assert_eq!(said(&stage.until("ServicePortError").await), expected);
    let port = json!({"spec": {"ports": [{"name": "https", "port": 443}]}});
    expect(stage.client.patch(&format!("{services}/none"), MERGE, &port).await, 200);
    let expected = "cannot find endpointslices for service/none in \"default\"";
    assert_eq!(said(&stage.until("EndpointsNotFound").await), expected);
    let slice = json!({"metadata": {"name": "none-1", "labels": {"kubernetes.io/service-name": "none"}},
        "addressType": "IPv4", "ports": [{"name": "https", "port": 443}],
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": false}}]});
    expect(stage.client.post(SLICES, &slice).await, 201);
    let expected = "endpointslices for service/none in \"default\" have no addresses with port name \"https\"";
    assert_eq!(said(&stage.until("MissingEndpoints").await), expected);
    let ready = json!({"endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": true}}]});
    expect(stage.client.patch(&format!("{SLICES}/none-1"), MERGE, &ready).await, 200);
    let message = said(&stage.until("FailedDiscoveryCheck").await);
    let url = "https://192.0.2.1:443/apis/wardle.example.com/v1alpha1";
    assert!(message.starts_with(&format!("failing or missing response from {url}: Get {url:?}: ")), "{message}");
}

#[tokio::test]
async fn a_service_without_a_cluster_address_is_reached_by_its_endpoints_only() {
    let stage = Stage::with(|_| {}).await;
    let mut spec = stage.spec();
    spec["service"] = json!({"namespace": "default", "name": "headless", "port": 443});
    stage.register(&spec).await;
    let service = json!({"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 443}]}});
    expect(stage.client.post("/api/v1/namespaces/default/services", &service).await, 201);
    let slice = json!({"metadata": {"name": "headless-1", "labels": {"kubernetes.io/service-name": "headless"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 443}], "endpoints": [{"addresses": ["192.0.2.1"]}]});
    expect(stage.client.post(SLICES, &slice).await, 201);
    let condition = stage.until("FailedDiscoveryCheck").await;
    assert_eq!(condition["message"], "cannot route to service with ClusterIP \"None\"");
}
