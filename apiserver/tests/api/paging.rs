//! Lists in pages, and lists of the past.

use apiserver::testing::TestServer;
use serde_json::{Value, json};

use crate::client::{Client, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn with_maps(client: &Client, count: usize) {
    for n in 0..count {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{n:02}")}});
        expect(client.post(MAPS, &body).await, 201);
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_are_of_one_revision_whatever_is_written_meanwhile() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    with_maps(&client, 7).await;
    let mut path = format!("{MAPS}?limit=3");
    let mut seen = Vec::new();
    let mut revision = Value::Null;
    loop {
        let page = expect(client.get(&path).await, 200);
        if revision.is_null() {
            assert_eq!(page["metadata"]["remainingItemCount"], 4);
            revision = page["metadata"]["resourceVersion"].clone();
        }
        assert_eq!(page["metadata"]["resourceVersion"], revision);
        seen.extend(names(&page));
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        path = format!("{MAPS}?limit=3&continue={token}");
        expect(client.delete(&format!("{MAPS}/m06")).await, if seen.len() == 3 { 200 } else { 404 });
    }
    assert_eq!(seen, ["m00", "m01", "m02", "m03", "m04", "m05", "m06"]);
}

#[tokio::test]
async fn a_collection_is_deleted_in_pages() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    with_maps(&client, 3).await;
    let gone = expect(client.delete(&format!("{MAPS}?limit=2")).await, 200);
    assert_eq!(names(&gone), ["m00", "m01"]);
    assert!(gone["metadata"]["continue"].is_string(), "{gone}");
    assert_eq!(names(&expect(client.get(MAPS).await, 200)), ["m02"]);
}

#[tokio::test]
async fn an_exact_list_shows_the_past() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    with_maps(&client, 2).await;
    let then = expect(client.get(MAPS).await, 200);
    let version = then["metadata"]["resourceVersion"].as_str().unwrap();
    expect(client.delete(&format!("{MAPS}/m00")).await, 200);
    let path = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(expect(client.get(&path).await, 200), then);
    assert_eq!(names(&expect(client.get(MAPS).await, 200)), ["m01"]);
}

#[tokio::test]
async fn bad_tokens_and_versions_are_refused() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    for query in ["continue=golden", "continue=eyJ2IjoieCJ9", "limit=x", "resourceVersion=x"] {
        let status = expect(client.get(&format!("{MAPS}?{query}")).await, 400);
        assert_eq!(status["reason"], "BadRequest", "{query}");
    }
}
