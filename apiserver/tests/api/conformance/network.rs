//! What `[sig-network]` asks of the API server alone.

use std::sync::Arc;
use std::time::Duration;

use apiserver::Config;
use apiserver::testing::TestServer;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;

use super::operations::Operations;
use super::start_without_fairness;
use crate::client::{Client, MERGE, expect};

const NETWORKING: &str = "networking.k8s.io";
/// What may be changed of kinds whose spec may not.
const ANNOTATION: &str = "/metadata/annotations/patched";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";

fn updated() -> Value {
    json!("updated")
}

/// Conformance: [sig-network] EndpointSlice should support creating EndpointSlice API operations [Conformance]
#[tokio::test]
async fn endpoint_slices_support_all_operations() {
    let object = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80}]});
    let group = "discovery.k8s.io";
    let path = format!("/apis/{group}/v1/namespaces/default/endpointslices");
    let (field, changed) = ("/endpoints/0/addresses/0", json!("192.0.2.2"));
    let names = ["one", "two", "three"];
    let kind = Operations {
        group,
        plural: "endpointslices",
        path,
        names,
        object,
        field,
        changed: &changed,
        status: json!({}),
    };
    kind.work().await;
}

/// Conformance: [sig-network] Ingress API should support creating Ingress API operations [Conformance]
#[tokio::test]
async fn ingresses_support_all_operations() {
    let object = json!({"spec": {"defaultBackend": {"service": {"name": "default", "port": {"number": 80}}}}});
    let path = format!("/apis/{NETWORKING}/v1/namespaces/default/ingresses");
    let (field, changed) = ("/spec/defaultBackend/service/name", json!("other"));
    let (names, status) = (["one", "two", "three"], json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}}));
    Operations { group: NETWORKING, plural: "ingresses", path, names, object, field, changed: &changed, status }
        .work()
        .await;
}

/// Conformance: [sig-network] IngressClass API should support creating IngressClass API operations [Conformance]
#[tokio::test]
async fn ingress_classes_support_all_operations() {
    let object = json!({"spec": {"controller": "example.com/controller"}});
    let path = format!("/apis/{NETWORKING}/v1/ingressclasses");
    let (names, changed, status) = (["one", "two", "three"], updated(), json!({}));
    let field = ANNOTATION;
    Operations { group: NETWORKING, plural: "ingressclasses", path, names, object, field, changed: &changed, status }
        .work()
        .await;
}

/// Conformance: [sig-network] ServiceCIDR and IPAddress API should support IPAddress API operations [Conformance]
#[tokio::test]
async fn addresses_support_all_operations() {
    let parent = json!({"group": "", "resource": "services", "namespace": "default", "name": "none"});
    let object = json!({"spec": {"parentRef": parent}});
    let path = format!("/apis/{NETWORKING}/v1/ipaddresses");
    let (names, changed, status) = (["192.0.2.1", "192.0.2.2", "192.0.2.3"], updated(), json!({}));
    let field = ANNOTATION;
    Operations { group: NETWORKING, plural: "ipaddresses", path, names, object, field, changed: &changed, status }
        .work()
        .await;
}

/// Conformance: [sig-network] ServiceCIDR and IPAddress API should support ServiceCIDR API operations [Conformance]
#[tokio::test]
async fn ranges_of_services_support_all_operations() {
    let object = json!({"spec": {"cidrs": ["203.0.113.0/28"]}});
    let path = format!("/apis/{NETWORKING}/v1/servicecidrs");
    let condition = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let (names, changed, status) = (["one", "two", "three"], updated(), json!({"conditions": [condition]}));
    let field = ANNOTATION;
    Operations { group: NETWORKING, plural: "servicecidrs", path, names, object, field, changed: &changed, status }
        .work()
        .await;
}

/// Conformance: [sig-network] Endpoints should test the lifecycle of an Endpoint [Conformance]
#[tokio::test]
async fn endpoints_live_and_die() {
    let (_server, client) = start_without_fairness().await;
    let subsets = |ip: &str| json!([{"addresses": [{"ip": ip}], "ports": [{"name": "http", "port": 80}]}]);
    let object = json!({"metadata": {"name": "e", "labels": {"test": "yes"}}, "subsets": subsets("192.0.2.1")});
    let mut events = client.watch(&format!("{ENDPOINTS}?watch=1&labelSelector=test%3Dyes")).await;
    let created = expect(client.post(ENDPOINTS, &object).await, 201);
    assert_eq!(events.soon().await.unwrap()["type"], "ADDED");
    let everywhere = expect(client.get("/api/v1/endpoints?labelSelector=test%3Dyes").await, 200);
    assert_eq!(everywhere["items"].as_array().unwrap().len(), 1);
    let one = format!("{ENDPOINTS}/e");
    let mut updated = created.clone();
    updated["metadata"]["labels"]["updated"] = json!("yes");
    expect(client.put(&one, &updated).await, 200);
    assert_eq!(events.soon().await.unwrap()["object"]["metadata"]["labels"]["updated"], "yes");
    let patched = expect(client.patch(&one, MERGE, &json!({"subsets": subsets("192.0.2.2")})).await, 200);
    assert_eq!(patched["subsets"][0]["addresses"][0]["ip"], "192.0.2.2");
    assert_eq!(events.soon().await.unwrap()["object"]["subsets"], patched["subsets"]);
    expect(client.delete(&format!("{ENDPOINTS}?labelSelector=test%3Dyes")).await, 200);
    assert_eq!(events.soon().await.unwrap()["type"], "DELETED");
    expect(client.get(&one).await, 404);
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"test": "yes"}},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]}})
}

/// Conformance: [sig-network] Services should complete a service status lifecycle [Conformance]
#[tokio::test]
async fn the_status_of_a_service_is_written_by_itself() {
    let (_server, client) = start_without_fairness().await;
    let mut events = client.watch(&format!("{SERVICES}?watch=1&labelSelector=test%3Dyes")).await;
    expect(client.post(SERVICES, &service("s")).await, 201);
    events.soon().await.unwrap();
    let (one, status) = (format!("{SERVICES}/s"), format!("{SERVICES}/s/status"));
    let balanced = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}});
    expect(client.patch(&status, MERGE, &balanced).await, 200);
    let told = events.soon().await.unwrap();
    assert_eq!(told["object"]["status"]["loadBalancer"]["ingress"][0]["ip"], "203.0.113.1");
    let mut read = expect(client.get(&status).await, 200);
    let condition = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "set",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    read["status"]["conditions"] = json!([condition]);
    read["spec"]["ports"][0]["port"] = json!(81);
    let updated = expect(client.put(&status, &read).await, 200);
    assert_eq!(updated["status"]["conditions"][0]["type"], "StatusUpdate");
    assert_eq!(updated["spec"]["ports"][0]["port"], 80, "the spec is not written by way of the status");
    events.soon().await.unwrap();
    let annotated = json!({"metadata": {"annotations": {"patched": "true"}}, "status": {"conditions": null}});
    let patched = expect(client.patch(&one, MERGE, &annotated).await, 200);
    assert_eq!(patched["status"]["conditions"][0]["type"], "StatusUpdate", "nor the other way round");
    expect(client.delete(&one).await, 200);
}

/// Conformance: [sig-network] Services should delete a collection of services [Conformance]
/// Conformance: [sig-network] Services should find a service from listing all namespaces [Conformance]
#[tokio::test]
async fn services_are_found_everywhere_and_deleted_together() {
    let (_server, client) = start_without_fairness().await;
    for name in ["one", "two", "three"] {
        expect(client.post(SERVICES, &service(name)).await, 201);
    }
    let other = json!({"metadata": {"name": "other"}, "spec": {"ports": [{"port": 80}]}});
    expect(client.post(SERVICES, &other).await, 201);
    let names = async |path: &str| -> Vec<String> {
        let list = expect(client.get(path).await, 200);
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        list["items"].as_array().unwrap().iter().map(name).collect()
    };
    let everywhere = names("/api/v1/services").await;
    assert!(
        ["one", "other", "kubernetes"].iter().all(|name| everywhere.iter().any(|one| one == name)),
        "{everywhere:?}"
    );
    expect(client.delete(&format!("{SERVICES}?labelSelector=test%3Dyes")).await, 200);
    let left = names(SERVICES).await;
    assert!(left.contains(&"other".to_owned()) && !left.contains(&"one".to_owned()), "{left:?}");
}

/// Conformance: [sig-network] API Server should have Endpoints and EndpointSlices pointing to API Server [Conformance]
/// Conformance: [sig-network] API Server should provide secure master service [Conformance]
#[tokio::test]
async fn the_service_kubernetes_leads_to_the_api_server_by_tls() {
    let config = Config { advertise_address: "192.0.2.1".parse().ok(), ..Config::default() };
    let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
    let client = Client::admin(&server);
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slices = format!("{slices}?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes");
    let are_there = async {
        while expect(client.get(&slices).await, 200)["items"] == json!([]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), are_there).await.unwrap();
    let service = expect(client.get(&format!("{SERVICES}/kubernetes")).await, 200);
    assert_eq!(
        (&service["spec"]["ports"][0]["name"], &service["spec"]["ports"][0]["port"]),
        (&json!("https"), &json!(443))
    );
    let endpoints = expect(client.get(&format!("{ENDPOINTS}/kubernetes")).await, 200);
    let subset = &endpoints["subsets"][0];
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let found =
        expect(client.get(&format!("{slices}?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes")).await, 200);
    let slice = &found["items"][0];
    assert_eq!(slice["endpoints"][0]["addresses"][0], subset["addresses"][0]["ip"]);
    assert_eq!(
        (&slice["ports"][0]["port"], &slice["ports"][0]["name"]),
        (&subset["ports"][0]["port"], &json!("https"))
    );
    assert!(subset["addresses"][0]["ip"].is_string(), "{endpoints}");
}
