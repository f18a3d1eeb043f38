//! ResourceQuotas as objects; their status is counted by a controller.

use serde_json::json;

use super::start;
use crate::client::{MERGE, STRATEGIC, expect};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// Conformance: [sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota. [Conformance]
#[tokio::test]
async fn a_quota_is_updated_and_deleted() {
    let (_server, client) = start().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"cpu": "1", "memory": "500Mi"}}});
    let mut quota = expect(client.post(QUOTAS, &quota).await, 201);
    assert_eq!(quota["spec"]["hard"], json!({"cpu": "1", "memory": "500Mi"}));
    quota["spec"]["hard"] = json!({"cpu": "2", "memory": "1Gi"});
    expect(client.put(&format!("{QUOTAS}/q"), &quota).await, 200);
    let stored = expect(client.get(&format!("{QUOTAS}/q")).await, 200);
    assert_eq!(stored["spec"]["hard"], json!({"cpu": "2", "memory": "1Gi"}));
    expect(client.delete(&format!("{QUOTAS}/q")).await, 200);
    expect(client.get(&format!("{QUOTAS}/q")).await, 404);
}

/// Conformance: [sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota [Conformance]
#[tokio::test]
async fn quotas_are_found_patched_and_deleted_by_label() {
    let (_server, client) = start().await;
    let quota = json!({"metadata": {"name": "q", "labels": {"e2e": "yes"}}, "spec": {"hard": {"cpu": "500m"}}});
    expect(client.post(QUOTAS, &quota).await, 201);
    let everywhere = "/api/v1/resourcequotas?labelSelector=e2e%3Dyes";
    assert_eq!(expect(client.get(everywhere).await, 200)["items"].as_array().unwrap().len(), 1);
    let patch = json!({"metadata": {"labels": {"patched": "yes"}}, "spec": {"hard": {"cpu": "750m"}}});
    let patched = expect(client.patch(&format!("{QUOTAS}/q"), STRATEGIC, &patch).await, 200);
    assert_eq!(
        (&patched["metadata"]["labels"]["patched"], &patched["spec"]["hard"]["cpu"]),
        (&json!("yes"), &json!("750m"))
    );
    expect(client.delete(&format!("{QUOTAS}?labelSelector=e2e%3Dyes")).await, 200);
    assert_eq!(expect(client.get(everywhere).await, 200)["items"], json!([]));
}

/// Conformance: [sig-api-machinery] ResourceQuota should apply changes to a resourcequota status [Conformance]
#[tokio::test]
async fn the_status_of_a_quota_is_written_apart_from_its_spec() {
    let (_server, client) = start().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"cpu": "500m", "memory": "500Mi"}}});
    let mut quota = expect(client.post(QUOTAS, &quota).await, 201);
    let (path, status) = (format!("{QUOTAS}/q"), format!("{QUOTAS}/q/status"));
    quota["status"] = json!({"hard": quota["spec"]["hard"]});
    let updated = expect(client.put(&status, &quota).await, 200);
    assert_eq!(updated["status"]["hard"], updated["spec"]["hard"]);
    let more = json!({"cpu": "1", "memory": "1Gi"});
    let patched = expect(client.patch(&path, MERGE, &json!({"spec": {"hard": more}})).await, 200);
    assert_eq!(patched["status"]["hard"], json!({"cpu": "500m", "memory": "500Mi"}));
    let patch = json!({"spec": {"hard": {"cpu": "9"}}, "status": {"hard": more}});
    expect(client.patch(&status, MERGE, &patch).await, 200);
    let got = expect(client.get(&status).await, 200);
    assert_eq!((&got["status"]["hard"], &got["spec"]["hard"]), (&more, &more), "the spec is not written by /status");
    let patch = json!({"status": {"hard": {"cpu": "2", "memory": "2Gi"}}});
    let again = expect(client.patch(&status, MERGE, &patch).await, 200);
    assert_eq!((&again["status"]["hard"]["cpu"], &again["spec"]["hard"]), (&json!("2"), &more));
}
