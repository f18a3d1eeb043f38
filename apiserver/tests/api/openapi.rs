//! OpenAPI documents as clients fetch them: in their form, once, and compressed.

use apiserver::testing::TestServer;
use axum::body::Body;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION,
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::client::{Client, expect};

async fn get(client: &Client, path: &str, headers: &[(http::HeaderName, &str)]) -> (StatusCode, HeaderMap, Vec<u8>) {
    let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(name, *value));
    let answer = client.raw(request.body(Body::empty()).unwrap()).await;
    let (parts, body) = answer.into_parts();
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes().into())
}

#[tokio::test]
async fn the_v2_document_comes_in_the_form_that_is_asked_for() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let (status, headers, body) = get(&client, "/openapi/v2", &[]).await;
    assert_eq!((status, &headers[CONTENT_TYPE]), (StatusCode::OK, &"application/json".parse().unwrap()));
    let document: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(document["swagger"], "2.0");
    for form in [
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf, */*",
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    ] {
        let (_, headers, message) = get(&client, "/openapi/v2", &[(ACCEPT, form)]).await;
        assert_eq!(headers[CONTENT_TYPE], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
        // Field 1, three bytes of text.
        assert!(message.starts_with(b"\x0a\x032.0"), "{:?}", &message[..8]);
    }
    let (_, zipped, body) = get(&client, "/openapi/v2", &[(ACCEPT_ENCODING, "gzip")]).await;
    assert!(zipped[CONTENT_ENCODING] == "gzip" && body.starts_with(&[0x1f, 0x8b]));
    let tag = headers[ETAG].to_str().unwrap();
    let (status, _, body) = get(&client, "/openapi/v2", &[(IF_NONE_MATCH, tag)]).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(get(&client, "/openapi/v2", &[(ACCEPT, "text/html")]).await.0, StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn a_document_with_its_hash_may_be_kept_for_ever() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let index = expect(client.get("/openapi/v3").await, 200);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let (_, headers, _) = get(&client, url, &[]).await;
    assert_eq!(headers[CACHE_CONTROL], "public, immutable");
    assert!(headers.contains_key(EXPIRES));
    let (_, headers, _) = get(&client, "/openapi/v3/apis/apps/v1", &[]).await;
    assert_ne!(headers[CACHE_CONTROL], "public, immutable");
    let (status, headers, _) = get(&client, "/openapi/v3/apis/apps/v1?hash=old", &[]).await;
    assert_eq!((status, headers[LOCATION].to_str().unwrap()), (StatusCode::MOVED_PERMANENTLY, url));
}

#[tokio::test]
async fn documents_of_v3_come_as_json_and_as_messages_and_once() {
    const MESSAGE: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let index = expect(client.get("/openapi/v3").await, 200);
    for place in ["api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "version", "openid/v1/jwks"] {
        let url = index["paths"][place]["serverRelativeURL"].as_str().unwrap();
        let (status, headers, body) = get(&client, url, &[]).await;
        assert_eq!((status, &headers[CONTENT_TYPE]), (StatusCode::OK, &"application/json".parse().unwrap()), "{place}");
        assert!(serde_json::from_slice::<Value>(&body).unwrap()["paths"].get(format!("/{place}/")).is_some());
        for form in [MESSAGE, "application/com.github.proto-openapi.spec.v3@v1.0+protobuf, application/json;q=0.5"] {
            let (_, headers, message) = get(&client, url, &[(ACCEPT, form)]).await;
            assert_eq!(headers[CONTENT_TYPE], MESSAGE);
            assert!(message.starts_with(b"\x0a\x053.0.0"), "{place}: {:?}", &message[..8]);
        }
        assert_eq!(get(&client, url, &[(ACCEPT, "text/html")]).await.0, StatusCode::NOT_ACCEPTABLE);
        let tag = headers[ETAG].to_str().unwrap();
        for known in [tag.to_owned(), format!("\"old\", W/{tag}"), "*".to_owned()] {
            assert_eq!(get(&client, url, &[(IF_NONE_MATCH, &known)]).await.0, StatusCode::NOT_MODIFIED, "{known}");
        }
    }
    assert_eq!(get(&client, "/openapi/v3/apis/nothing", &[]).await.0, StatusCode::NOT_FOUND);
    let (_, headers, _) = get(&client, "/openapi/v3", &[]).await;
    let tag = headers[ETAG].to_str().unwrap();
    assert_eq!(get(&client, "/openapi/v3", &[(IF_NONE_MATCH, tag)]).await.0, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn the_v2_document_has_the_paths_of_discovery() {
    let server = TestServer::start().await;
    let document = expect(Client::admin(&server).get("/openapi/v2").await, 200);
    for path in ["/api/", "/api/v1/", "/apis/", "/apis/apps/", "/apis/apps/v1/", "/version/", "/openid/v1/jwks/"] {
        assert!(document["paths"][path]["get"]["operationId"].is_string(), "{path}");
    }
    assert!(document["definitions"]["io.k8s.apimachinery.pkg.version.Info"].is_object());
}
