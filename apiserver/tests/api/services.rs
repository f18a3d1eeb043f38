//! Addresses and ports of Services.

use std::sync::Arc;

use apiserver::Config;
use apiserver::testing::TestServer;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;

use crate::client::{Client, expect};

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: &Value) -> Value {
    let mut body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    body["spec"]["ports"] = json!([{"name": "a", "port": 80}, {"name": "b", "port": 80, "protocol": "UDP"}]);
    body
}

#[tokio::test]
async fn addresses_are_unique_freed_on_delete_and_survive_a_restart() {
    let store = Arc::new(EmbeddedStore::in_memory());
    let config = Config { service_cluster_ip_ranges: vec!["10.7.0.0/29".parse().unwrap()], ..Config::default() };
    let server = TestServer::with(config.clone(), store.clone()).await;
    let client = Client::admin(&server);
    // 10.7.0.1 is the `kubernetes` Service; 2 to 6 are left.
    let mut addresses = Vec::new();
    for n in 0..5 {
        let created = expect(client.post(SERVICES, &service(&format!("s{n}"), &json!({}))).await, 201);
        addresses.push(created["spec"]["clusterIP"].as_str().unwrap().to_owned());
    }
    addresses.sort();
    assert_eq!(addresses, ["10.7.0.2", "10.7.0.3", "10.7.0.4", "10.7.0.5", "10.7.0.6"]);
    expect(client.post(SERVICES, &service("full", &json!({}))).await, 500);
    server.stop().await;

    let server = TestServer::with(config, store).await;
    let client = Client::admin(&server);
    expect(client.post(SERVICES, &service("full", &json!({}))).await, 500);
    let freed = expect(client.get(&format!("{SERVICES}/s3")).await, 200)["spec"]["clusterIP"].clone();
    expect(client.delete(&format!("{SERVICES}/s3")).await, 200);
    let created = expect(client.post(SERVICES, &service("again", &json!({}))).await, 201);
    assert_eq!(created["spec"]["clusterIP"], freed);
}

#[tokio::test]
async fn node_ports_are_shared_between_protocols_and_refused_when_taken() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let created = expect(client.post(SERVICES, &service("a", &json!({"type": "NodePort"}))).await, 201);
    let ports = &created["spec"]["ports"];
    assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"]);
    let mut taken = service("b", &json!({"type": "NodePort"}));
    taken["spec"]["ports"] = json!([{"port": 1, "nodePort": ports[0]["nodePort"]}]);
    let refused = expect(client.post(SERVICES, &taken).await, 422);
    assert!(refused["message"].as_str().unwrap().contains("provided port is already allocated"), "{refused}");
    taken["spec"]["ports"][0]["nodePort"] = 80.into();
    let refused = expect(client.post(SERVICES, &taken).await, 422);
    assert!(refused["message"].as_str().unwrap().contains("The range of valid ports is 30000-32767"), "{refused}");
}

#[tokio::test]
async fn a_headless_service_gets_no_address() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let created = expect(client.post(SERVICES, &service("h", &json!({"clusterIP": "None"}))).await, 201);
    assert_eq!(created["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test]
async fn more_ranges_give_more_addresses_until_they_go() {
    const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";
    let config = Config { service_cluster_ip_ranges: vec!["10.7.0.0/30".parse().unwrap()], ..Config::default() };
    let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
    let client = Client::admin(&server);
    let cidr = |name: &str, range: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": name, "finalizers": ["example.com/kept"]}, "spec": {"cidrs": [range]},
        })
    };
    // 10.7.0.1 is the `kubernetes` Service; 2 is left.
    expect(client.post(SERVICES, &service("last", &json!({}))).await, 201);
    expect(client.post(SERVICES, &service("more", &json!({}))).await, 500);
    expect(client.post(CIDRS, &cidr("more", "10.8.0.0/28")).await, 201);
    let created = expect(client.post(SERVICES, &service("more", &json!({}))).await, 201);
    assert!(created["spec"]["clusterIP"].as_str().unwrap().starts_with("10.8.0."), "{created}");
    // The first half of a range is for those who ask.
    let wanted = service("wanted", &json!({"clusterIP": "10.8.0.3"}));
    expect(client.post(SERVICES, &wanted).await, 201);
    let outside = service("outside", &json!({"clusterIP": "10.9.0.9"}));
    let refused = expect(client.post(SERVICES, &outside).await, 422);
    assert!(refused["message"].as_str().unwrap().ends_with("valid IPs is 10.7.0.0/30, 10.8.0.0/28"), "{refused}");

    expect(client.delete(&format!("{CIDRS}/more")).await, 200);
    let late = service("late", &json!({"clusterIP": "10.8.0.10"}));
    let mut refusals = 0;
    // Other servers, and this one's cache, learn of it a moment later.
    for n in 0..200 {
        let answer = client.post(SERVICES, &service(&format!("late-{n}"), &json!({}))).await;
        refusals += u32::from(answer.0 == 500);
        if refusals > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(refusals > 0, "a range that goes gives addresses");
    expect(client.post(SERVICES, &late).await, 422);
}
