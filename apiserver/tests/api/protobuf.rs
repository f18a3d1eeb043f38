//! Clients that speak protobuf: typed clients in Go, and `kubectl create`.

use api::codec::protobuf::{self, MEDIA_TYPE};
use apiserver::testing::TestServer;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::client::Client;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Sends a request and returns status, content type and body.
async fn send(
    server: &TestServer,
    method: Method,
    path: &str,
    accept: &str,
    body: Vec<u8>,
) -> (StatusCode, String, Bytes) {
    let request =
        Request::builder().method(method).uri(path).header("accept", accept).header("content-type", MEDIA_TYPE);
    let answer = Client::admin(server).raw(request.body(Body::from(body)).unwrap()).await;
    let (parts, body) = answer.into_parts();
    let media = parts.headers.get("content-type").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    (parts.status, media, body.collect().await.unwrap().to_bytes())
}

fn map(name: &str) -> Vec<u8> {
    protobuf::encode(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}))
        .unwrap()
}

fn tree(bytes: &[u8]) -> Value {
    protobuf::decode(bytes).unwrap()
}

#[tokio::test]
async fn objects_lists_errors_and_deletes_are_protobuf_both_ways() {
    let server = TestServer::start().await;
    let accept = format!("{MEDIA_TYPE},application/json");
    let (status, media, body) = send(&server, Method::POST, MAPS, &accept, map("x")).await;
    assert_eq!((status, media.as_str()), (StatusCode::CREATED, MEDIA_TYPE));
    assert_eq!(tree(&body)["data"], json!({"a": "b"}));
    let (_, media, list) = send(&server, Method::GET, MAPS, &accept, Vec::new()).await;
    assert_eq!(media, MEDIA_TYPE);
    let list = tree(&list);
    assert_eq!((&list["kind"], list["items"][0]["metadata"]["name"].as_str()), (&json!("ConfigMapList"), Some("x")));
    let (status, _, missing) = send(&server, Method::GET, &format!("{MAPS}/y"), &accept, Vec::new()).await;
    assert_eq!((status, &tree(&missing)["reason"]), (StatusCode::NOT_FOUND, &json!("NotFound")));
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "another"}});
    let options = protobuf::encode(&options).unwrap();
    let (status, ..) = send(&server, Method::DELETE, &format!("{MAPS}/x"), &accept, options).await;
    assert_eq!(status, StatusCode::CONFLICT);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_is_framed_by_lengths() {
    let server = TestServer::start().await;
    let accept = protobuf::STREAM_MEDIA_TYPE;
    send(&server, Method::POST, MAPS, MEDIA_TYPE, map("x")).await;
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let (_, media, frames) = send(&server, Method::GET, &path, accept, Vec::new()).await;
    assert_eq!(media, accept);
    let (length, event) = frames.split_at(4);
    assert_eq!(u32::from_be_bytes(length.try_into().unwrap()) as usize, event.len());
    let event = protobuf::decode_fields(event, "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent").unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("x")));
    server.stop().await;
}

#[tokio::test]
async fn tables_are_never_protobuf_and_other_bytes_are_refused() {
    let server = TestServer::start().await;
    let table = format!("{MEDIA_TYPE};as=Table;v=v1;g=meta.k8s.io");
    let (status, ..) = send(&server, Method::GET, MAPS, &table, Vec::new()).await;
    assert_eq!(status, StatusCode::NOT_ACCEPTABLE);
    let (_, media, _) = send(&server, Method::GET, MAPS, &format!("{table},application/json"), Vec::new()).await;
    assert_eq!(media, "application/json");
    let (status, ..) = send(&server, Method::POST, MAPS, "", b"{}".to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    server.stop().await;
}
