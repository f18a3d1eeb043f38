//! Lists in chunks.

use serde_json::{Value, json};

use super::start;
use crate::client::{Client, expect};

const TEMPLATES: &str = "/api/v1/namespaces/default/podtemplates";
const COUNT: usize = 40;

async fn create_templates(client: &Client) {
    for number in 0..COUNT {
        let template = json!({"metadata": {"name": format!("template-{number:04}")},
            "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
        expect(client.post(TEMPLATES, &template).await, 201);
    }
}

fn count(list: &Value) -> usize {
    list["items"].as_array().unwrap().len()
}

/// Reads from a token to the end; asserts that each page says how many follow, and that all are of one version.
async fn read_rest(client: &Client, mut token: String, limit: usize, seen: usize, version: Option<&Value>) -> usize {
    let (mut seen, mut version) = (seen, version.cloned());
    loop {
        let page = expect(client.get(&format!("{TEMPLATES}?limit={limit}&continue={token}")).await, 200);
        assert!(count(&page) <= limit);
        let metadata = &page["metadata"];
        assert_eq!(version.get_or_insert_with(|| metadata["resourceVersion"].clone()), &metadata["resourceVersion"]);
        for item in page["items"].as_array().unwrap() {
            assert_eq!(item["metadata"]["name"], format!("template-{seen:04}"));
            seen += 1;
        }
        let Some(next) = metadata["continue"].as_str() else {
            assert_eq!(metadata.get("remainingItemCount"), None);
            return seen;
        };
        assert_eq!(metadata["remainingItemCount"], COUNT - seen);
        next.clone_into(&mut token);
    }
}

/// Conformance: [sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls [Conformance]
#[tokio::test]
async fn chunks_are_of_one_version_and_say_what_remains() {
    let (_server, client) = start().await;
    create_templates(&client).await;
    for limit in [1, 7, 39, 40, 41] {
        let first = expect(client.get(&format!("{TEMPLATES}?limit={limit}")).await, 200);
        assert_eq!(count(&first), limit.min(COUNT));
        let Some(token) = first["metadata"]["continue"].as_str() else {
            assert!(limit >= COUNT);
            continue;
        };
        assert_eq!(first["metadata"]["remainingItemCount"], COUNT - limit);
        let version = &first["metadata"]["resourceVersion"];
        assert_eq!(read_rest(&client, token.to_owned(), limit, limit, Some(version)).await, COUNT);
    }
    assert_eq!(count(&expect(client.get(TEMPLATES).await, 200)), COUNT);
}

/// Conformance: [sig-api-machinery] Servers with support for API chunking should support continue listing from the last key if the original version has been compacted away, though the list is inconsistent [Slow] [Conformance]
#[tokio::test]
async fn an_expired_token_comes_with_one_that_goes_on_inconsistently() {
    let (server, client) = start().await;
    create_templates(&client).await;
    let first = expect(client.get(&format!("{TEMPLATES}?limit=10")).await, 200);
    let (token, version) = (&first["metadata"]["continue"], &first["metadata"]["resourceVersion"]);
    assert_eq!(first["metadata"]["remainingItemCount"], COUNT - 10);
    // Something else is written, and history before it forgotten.
    expect(client.post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": "x"}})).await, 201);
    server.store().compact(server.store().revision().await.unwrap()).await.unwrap();

    let path = format!("{TEMPLATES}?limit=10&continue={}", token.as_str().unwrap());
    let expired = expect(client.get(&path).await, 410);
    assert_eq!(expired["reason"], "Expired");
    let inconsistent = expired["metadata"]["continue"].as_str().expect("a token that goes on");
    let path = format!("{TEMPLATES}?limit=10&continue={inconsistent}");
    let second = expect(client.get(&path).await, 200);
    assert_eq!(count(&second), 10);
    assert_eq!(second["items"][0]["metadata"]["name"], "template-0010");
    assert_eq!(second["metadata"]["remainingItemCount"], COUNT - 20);
    let newer = &second["metadata"]["resourceVersion"];
    assert_ne!(newer, version);
    let token = second["metadata"]["continue"].as_str().unwrap().to_owned();
    assert_eq!(read_rest(&client, token, 10, 20, Some(newer)).await, COUNT);
}
