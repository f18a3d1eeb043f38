//! Tables where there are none.

use serde_json::json;

use super::start;
use crate::client::{Client, expect};

/// Conformance: [sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does not implement metadata [Conformance]
#[tokio::test]
async fn a_review_has_no_table() {
    let (server, client) = start().await;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}});
    let headers = [("content-type", "application/json"), ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for client in [client, Client::of(server.service_as("jane", &[]))] {
        let refused = client.send(http::Method::POST, path, &headers, review.to_string().into_bytes()).await;
        assert_eq!(expect(refused, 406)["reason"], "NotAcceptable");
    }
}
