//! Unknown and duplicate fields of built-in kinds.

use http::Method;

use super::start;
use crate::client::expect;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict";

fn deployment(metadata: &str, spec: &str) -> Vec<u8> {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "d", "labels": {{"app": "x"}}{metadata}}},
            "spec": {{"selector": {{"matchLabels": {{"app": "x"}}}}{spec},
                "template": {{"metadata": {{"labels": {{"app": "x"}}}}, "spec": {{"containers": [{{"name": "c", "image": "i"}}]}}}}}}}}"#
    )
    .into_bytes()
}

async fn refusal(media: &str, body: Vec<u8>) -> String {
    let (_server, client) = start().await;
    let path = DEPLOYMENTS;
    let refused = expect(client.send(Method::POST, path, &[("content-type", media)], body).await, 400);
    refused["message"].as_str().unwrap().to_owned()
}

/// Conformance: [sig-api-machinery] FieldValidation should detect unknown and duplicate fields of a typed object [Conformance]
#[tokio::test]
async fn unknown_and_duplicate_fields_of_a_typed_object_are_refused() {
    let spec = r#", "unknown": "x", "paused": true, "paused": false"#;
    let message = refusal("application/json", deployment("", spec)).await;
    assert!(message.contains("strict decoding error"), "{message}");
    for part in [r#"unknown field "spec.unknown""#, r#"duplicate field "spec.paused""#] {
        assert!(message.contains(part), "{message}");
    }
}

/// Conformance: [sig-api-machinery] FieldValidation should detect unknown metadata fields of a typed object [Conformance]
#[tokio::test]
async fn unknown_metadata_fields_of_a_typed_object_are_refused() {
    let message = refusal("application/json", deployment(r#", "unknownMeta": "x""#, "")).await;
    assert!(message.contains(r#"strict decoding error: unknown field "metadata.unknownMeta""#), "{message}");
}
