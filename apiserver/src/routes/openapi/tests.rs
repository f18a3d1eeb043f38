use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::json;
use tower::ServiceExt as _;

use crate::documents::Which;
use crate::testing::TestServer;

#[tokio::test]
async fn documents_of_custom_resources_are_made_before_anybody_asks() {
    let server = TestServer::start().await;
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "shirts.clothes.example.com"},
        "spec": {
            "group": "clothes.example.com", "scope": "Namespaced", "names": {"plural": "shirts", "kind": "Shirt"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}},
            }],
        },
    });
    let request = Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions");
    let Ok(answer) = server.service().oneshot(request.body(Body::from(definition.to_string())).unwrap()).await;
    assert_eq!(answer.status(), 201);
    let documents = server.server().documents();
    let which = Which::V3 { place: "apis/clothes.example.com/v1".to_owned() };
    let made = async {
        while !documents.is_kept(&which) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), made).await.expect("it is made");
    // Nobody asked for others, so nobody pays for them.
    assert!(!documents.is_kept(&Which::V2) && !documents.is_kept(&Which::V3 { place: "api/v1".to_owned() }));
}
