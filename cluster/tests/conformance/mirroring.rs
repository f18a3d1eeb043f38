//! Endpoints that are written by hand, for Services without a selector.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const SLICES: &str =
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dhand";

fn subsets(ip: &str, port: u16) -> Value {
    json!([{"addresses": [{"ip": ip}], "ports": [{"name": "h", "port": port}]}])
}

/// Address and port of each slice.
async fn shown(api: &Api) -> Vec<(Value, Value)> {
    let slices = api.items(SLICES).await;
    slices
        .iter()
        .map(|slice| (slice["endpoints"][0]["addresses"][0].clone(), slice["ports"][0]["port"].clone()))
        .collect()
}

/// Conformance: [sig-network] EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_made_by_hand_are_shown_in_slices() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let ports = json!([{"name": "h", "port": 80, "targetPort": 8080}]);
    api.create(SERVICES, &json!({"metadata": {"name": "hand"}, "spec": {"ports": ports}})).await;
    let hand = json!({"metadata": {"name": "hand"}, "subsets": subsets("10.1.2.3", 8080)});
    api.create(ENDPOINTS, &hand).await;
    eventually("a slice shows them", async || shown(&api).await == [(json!("10.1.2.3"), json!(8080))]).await;
    let slice = api.items(SLICES).await.remove(0);
    assert_eq!(
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
        "endpointslicemirroring-controller.k8s.io"
    );
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
    let path = format!("{ENDPOINTS}/hand");
    api.merge(&path, &json!({"subsets": subsets("10.2.3.4", 9090)})).await;
    eventually("the slice follows", async || shown(&api).await == [(json!("10.2.3.4"), json!(9090))]).await;
    assert_eq!(api.items(SLICES).await[0]["metadata"]["uid"], slice["metadata"]["uid"], "it is the same");
    api.merge(&path, &json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}})).await;
    eventually("the slice goes when nobody wants it", async || shown(&api).await.is_empty()).await;
    api.merge(&path, &json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": null}}})).await;
    eventually("and comes back", async || shown(&api).await.len() == 1).await;
    api.delete(&path, "Background").await;
    eventually("the slice goes with the Endpoints", async || shown(&api).await.is_empty()).await;
    cluster.stop().await.unwrap();
}
