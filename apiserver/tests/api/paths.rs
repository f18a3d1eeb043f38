//! Paths that are no resources: what there is, how the server is, and what it says of itself.

use apiserver::Config;
use apiserver::testing::TestServer;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use store::embedded::EmbeddedStore;

use crate::client::{Client, expect};

/// Names that scripts and probes of others wait for.
const WAITED_FOR: [&str; 6] = [
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/apiservice-registration-controller",
    "autoregister-completion",
];

#[tokio::test]
async fn the_root_lists_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("sa.key");
    std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let config = Config { service_account_signing_key: Some(key), ..Config::default() };
    let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
    let client = Client::admin(&server);
    let root = expect(client.get("/").await, 200);
    let paths: Vec<&str> = root["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    assert!(paths.is_sorted());
    for path in ["/.well-known/openid-configuration", "/openid/v1/jwks", "/flagz", "/statusz", "/metrics/slis"] {
        assert!(paths.contains(&path), "{path}");
    }
    for hook in WAITED_FOR {
        assert!(paths.contains(&format!("/healthz/{hook}").as_str()), "{hook}");
    }
    // What is listed answers, except for /openapi/v3/, below which the documents are.
    for path in paths.iter().filter(|path| **path != "/openapi/v3/") {
        assert_eq!(client.get(path).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn what_is_waited_for_has_the_names_that_others_know() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    for endpoint in ["healthz", "livez", "readyz"] {
        let whole = expect(client.get(&format!("/{endpoint}?verbose")).await, 200);
        for hook in WAITED_FOR {
            assert!(whole.as_str().unwrap().contains(&format!("[+]{hook} ok\n")), "{whole}");
            assert_eq!(expect(client.get(&format!("/{endpoint}/{hook}")).await, 200), "ok");
        }
        assert_eq!(client.get(&format!("/{endpoint}/poststarthook/bootstrap")).await.0, StatusCode::NOT_FOUND);
    }
    let ready = expect(client.get("/readyz?verbose&exclude=etcd").await, 200);
    let ready = ready.as_str().unwrap();
    for line in ["[+]etcd excluded: ok\n", "[+]etcd-readiness ok\n", "[+]informer-sync ok\n", "[+]shutdown ok\n"] {
        assert!(ready.contains(line), "{ready}");
    }
}

#[tokio::test]
async fn outcomes_of_health_checks_are_counted_apart() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    expect(client.get("/livez").await, 200);
    expect(client.get("/livez/ping").await, 200);
    let slis = expect(client.get("/metrics/slis").await, 200);
    let slis = slis.as_str().unwrap();
    assert!(
        slis.contains("kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"livez\"} 2"),
        "{slis}"
    );
    assert!(slis.contains("kubernetes_healthcheck{name=\"etcd\",type=\"livez\"} 1"), "{slis}");
}

#[tokio::test]
async fn pages_for_people_tell_the_version_and_the_flags() {
    let config = Config { flags: vec![("secure-port".into(), "6443".into())], ..Config::default() };
    let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
    let client = Client::admin(&server);
    let (status, flags) = (expect(client.get("/statusz").await, 200), expect(client.get("/flagz").await, 200));
    let (status, flags) = (status.as_str().unwrap(), flags.as_str().unwrap());
    assert!(
        status.starts_with("\nkube-apiserver statusz\nWarning: ") && status.contains("Binary version: v1.36"),
        "{status}"
    );
    assert!(
        flags.starts_with("\nkube-apiserver flagz\nWarning: ") && flags.ends_with("\n\nsecure-port=6443\n"),
        "{flags}"
    );
    expect(client.post("/flagz", &json!({})).await, 405);
    expect(Client::of(server.service_as("jane", &[])).get("/flagz").await, 403);
}

#[tokio::test]
async fn the_version_is_indented_and_has_no_empty_parts() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let (_, bytes) =
        client.exchange(http::Method::GET, "/version", &[("user-agent", "kubectl/v1.36.2")], Vec::new()).await;
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.starts_with("{\n  \"major\": \"1\",\n  \"minor\": \"36\",\n"), "{text}");
    let version: Value = serde_json::from_str(&text).unwrap();
    assert!(version.as_object().unwrap().values().all(|part| part.as_str().is_some_and(|part| !part.is_empty())));
}

#[tokio::test]
async fn a_namespace_that_is_left_out_means_all_for_who_may_see_all() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    expect(client.post("/api/v1/namespaces", &json!({"metadata": {"name": "b"}})).await, 201);
    for namespace in ["default", "b"] {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        expect(client.post(&path, &json!({"metadata": {"name": "m"}})).await, 201);
    }
    let list = expect(client.get("/api/v1/namespaces//configmaps").await, 200);
    let names =
        |list: &Value| list["items"].as_array().unwrap().iter().filter(|map| map["metadata"]["name"] == "m").count();
    assert_eq!(names(&list), 2);
    expect(Client::of(server.service_as("jane", &[])).get("/api/v1/namespaces//configmaps").await, 403);
    let one = expect(client.get("/api/v1/namespaces//configmaps/m").await, 400);
    assert_eq!(one["message"], "an empty namespace may not be set when a resource name is provided");
    let new = expect(client.post("/api/v1/namespaces//configmaps", &json!({"metadata": {"name": "m"}})).await, 400);
    assert_eq!(new["message"], "an empty namespace may not be set during creation");
    for path in ["/api/v1//configmaps", "/api/v1/namespaces///configmaps", "/api/v1/namespaces/b//configmaps"] {
        expect(client.get(path).await, 404);
    }
}

#[tokio::test]
async fn components_say_how_they_are_as_long_as_somebody_asks() {
    let config = Config { is_whole_control_plane: true, ..Config::default() };
    let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
    let client = Client::admin(&server);
    let path = "/api/v1/componentstatuses";
    let list = expect(client.get(path).await, 200);
    assert_eq!((&list["kind"], &list["items"].as_array().map(Vec::len)), (&"ComponentStatusList".into(), &Some(3)));
    let well = json!([{"type": "Healthy", "status": "True", "message": "ok"}]);
    for (item, name) in list["items"].as_array().unwrap().iter().zip(["controller-manager", "etcd-0", "scheduler"]) {
        assert_eq!((&item["metadata"]["name"], &item["conditions"]), (&name.into(), &well));
    }
    let one = expect(client.get(&format!("{path}/etcd-0")).await, 200);
    assert_eq!((&one["kind"], &one["conditions"]), (&"ComponentStatus".into(), &well));
    assert_eq!(expect(client.get(&format!("{path}/x")).await, 500)["message"], "Component not found: x");
    let some = expect(client.get(&format!("{path}?fieldSelector=metadata.name%3Dscheduler")).await, 200);
    assert_eq!(some["items"].as_array().unwrap().len(), 1);
    let table = expect(client.get_as(path, "application/json;as=Table;v=v1;g=meta.k8s.io").await, 200);
    assert_eq!(table["rows"][1]["cells"], json!(["etcd-0", "Healthy", "ok", ""]));
    for (status, _) in [client.post(path, &json!({})).await, client.delete(&format!("{path}/x")).await] {
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    }
    let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    let warned = client.raw(request).await.headers()["warning"].to_str().unwrap().to_owned();
    assert_eq!(warned, "299 - \"v1 ComponentStatus is deprecated in v1.19+\"");
}
