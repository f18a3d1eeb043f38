//! Endpoints of Services.

use std::time::{Duration, Instant};

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn slices_of(service: &str) -> String {
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    format!("{slices}?labelSelector=kubernetes.io%2Fservice-name%3D{service}")
}

fn service(name: &str, selector: &Value) -> Value {
    let ports = json!([{"name": "http", "port": 80, "targetPort": "web"}]);
    json!({"metadata": {"name": name}, "spec": {"selector": selector, "ports": ports}})
}

fn pod(name: &str) -> Value {
    let ports = json!([{"name": "web", "containerPort": 3000}]);
    json!({"metadata": {"name": name, "labels": {"app": "web", "pod": name}}, "spec": {
        "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "a:1", "ports": ports}]}})
}

/// The addresses of a Service in its slices and in its Endpoints, each in order.
async fn addresses(api: &Api, service: &str) -> (Vec<String>, Vec<String>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let slices = api.items(&slices_of(service)).await;
    let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let mut new: Vec<String> = endpoints.map(|endpoint| text(&endpoint["addresses"][0])).collect();
    let old = api.find(&format!("{ENDPOINTS}/{service}")).await.unwrap_or_default();
    let subsets = old["subsets"].as_array().into_iter().flatten();
    let mut old: Vec<String> = subsets
        .flat_map(|subset| subset["addresses"].as_array().into_iter().flatten())
        .map(|address| text(&address["ip"]))
        .collect();
    new.sort_unstable();
    old.sort_unstable();
    (new, old)
}

/// Conformance: [sig-network] EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service [Conformance]
/// Conformance: [sig-network] EndpointsController should create Endpoints for Pods matching a Service [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn pods_that_a_service_selects_are_its_endpoints() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    api.create(SERVICES, &service("one", &json!({"pod": "p1"}))).await;
    api.create(SERVICES, &service("both", &json!({"app": "web"}))).await;
    let mut ips = Vec::new();
    for name in ["p1", "p2"] {
        api.create(PODS, &pod(name)).await;
        let path = format!("{PODS}/{name}");
        eventually("the pod runs", async || api.get(&path).await["status"]["phase"] == "Running").await;
        ips.push(api.get(&path).await["status"]["podIP"].as_str().unwrap().to_owned());
    }
    for (service, mut expected) in [("one", ips[..1].to_vec()), ("both", ips.clone())] {
        expected.sort_unstable();
        eventually(&format!("{service} has {expected:?}"), async || {
            addresses(&api, service).await == (expected.clone(), expected.clone())
        })
        .await;
        let slice = api.items(&slices_of(service)).await.remove(0);
        assert_eq!((&slice["ports"][0]["port"], &slice["ports"][0]["name"]), (&json!(3000), &json!("http")));
        assert_eq!(slice["endpoints"][0]["targetRef"]["kind"], "Pod");
        assert_eq!(slice["endpoints"][0]["conditions"]["ready"], true);
    }
    api.delete(&format!("{PODS}/p1"), "Background").await;
    eventually("they follow", async || addresses(&api, "one").await == (Vec::new(), Vec::new())).await;
    eventually("both follow", async || addresses(&api, "both").await.0 == ips[1..]).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-network] EndpointSlice should create and delete EndpointSlices for a Service with a selector that matches no pods [Conformance]
/// Conformance: [sig-network] EndpointsController should create and delete Endpoints for a Service with a selector that matches no pods [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_pods_has_endpoints_that_go_with_it() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    api.create(SERVICES, &service("empty", &json!({"app": "none"}))).await;
    let endpoints = format!("{ENDPOINTS}/empty");
    eventually("there are Endpoints", async || api.find(&endpoints).await.is_some()).await;
    eventually("and a slice", async || api.items(&slices_of("empty")).await.len() == 1).await;
    assert_eq!(addresses(&api, "empty").await, (Vec::new(), Vec::new()));
    api.delete(&format!("{SERVICES}/empty"), "Background").await;
    api.gone(&endpoints).await;
    eventually("no slice is left", async || api.items(&slices_of("empty")).await.is_empty()).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-network] Service endpoints latency should not be very high [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_new_service_has_its_endpoints_soon() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    api.create(PODS, &pod("p")).await;
    eventually("the pod runs", async || api.get(&format!("{PODS}/p")).await["status"]["phase"] == "Running").await;
    let mut took = Vec::new();
    for number in 0..40 {
        let (name, began) = (format!("latency-{number}"), Instant::now());
        api.create(SERVICES, &service(&name, &json!({"app": "web"}))).await;
        eventually("it has an endpoint", async || addresses(&api, &name).await.1.len() == 1).await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    // Upstream's limits are 20 s and 50 s.
    assert!(
        took[took.len() / 2] < Duration::from_secs(2) && took[took.len() - 1] < Duration::from_secs(20),
        "{took:?}"
    );
    cluster.stop().await.unwrap();
}
