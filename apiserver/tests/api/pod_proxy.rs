//! The proxy to pods.

use apiserver::testing::TestServer;
use serde_json::json;

use crate::client::{Client, MERGE, expect};
use crate::hook_server::{HookServer, allow};

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_pod_may_speak_tls_with_a_certificate_of_its_own() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let backend = HookServer::start(allow).await;
    let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    expect(client.post(PODS, &pod).await, 201);
    let addressed = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    expect(client.patch(&format!("{PODS}/web/status"), MERGE, &addressed).await, 200);
    let review = json!({"kind": "AdmissionReview", "request": {"uid": "1"}});
    let path = |scheme: &str| format!("{PODS}/{scheme}:web:{}/proxy/", backend.port);
    let answer = expect(client.post(&path("https"), &review).await, 200);
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(expect(client.post(&path("gopher"), &review).await, 400)["reason"], "BadRequest");
}
