//! Paths, queries and headers.

use apiserver::testing::TestServer;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};

use super::{assert_small, in_time};
use crate::client::{Client, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn get(client: &Client, query: &str) -> (u16, Value) {
    let shown: String = query.chars().take(60).collect();
    let (status, answer) = in_time(&shown, client.get(&format!("{MAPS}?{query}"))).await;
    (status.as_u16(), answer)
}

#[tokio::test]
async fn long_and_odd_queries_are_answered_as_upstream_does() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    for at in 0..50 {
        let map = json!({"metadata": {"name": format!("m{at}"), "labels": {"a": "b"}}});
        expect(client.post(MAPS, &map).await, 201);
    }
    let values = (0..8_000).map(|at| at.to_string()).collect::<Vec<_>>().join(",");
    let terms = vec!["a!=c"; 10_000].join(",");
    let parameters = vec!["a=b"; 15_000].join("&");
    let value = format!("a={}", "x".repeat(60_000));
    for (query, want) in [
        (format!("labelSelector=a+in+({values})"), 200),
        (format!("labelSelector={terms}"), 200),
        (format!("labelSelector={value}"), 400),
        (parameters, 200),
        ("labelSelector=((((((((((".to_owned(), 400),
        ("labelSelector=a+in+(".to_owned(), 400),
        ("fieldSelector=spec.nothing%3Dx".to_owned(), 400),
        (format!("fieldSelector={}", "metadata.name!=x,".repeat(3_000)), 200),
        ("limit=9223372036854775807".to_owned(), 200),
        ("limit=-9223372036854775808".to_owned(), 200),
        ("limit=99999999999999999999".to_owned(), 400),
        ("timeoutSeconds=9223372036854775807".to_owned(), 200),
        ("resourceVersion=99999999999999999999999".to_owned(), 400),
        ("resourceVersion=-1".to_owned(), 400),
        ("timeout=nonsense".to_owned(), 400),
        ("timeout=1000000h".to_owned(), 200),
        (format!("continue={}", "A".repeat(60_000)), 400),
        ("%00=%ff&=&&;;&==".to_owned(), 200),
    ] {
        let (status, answer) = get(&client, &query).await;
        assert_eq!(status, want, "{}: {}", query.chars().take(60).collect::<String>(), answer["message"]);
    }
    for path in ["/api/v1/namespaces/%00/pods", "/api/v1/%2e%2e/%2e%2e/pods", "/api/v1/namespaces/a%2fb/pods/%ff"] {
        let answer = in_time(path, client.get(path)).await;
        assert!(answer.0 == 200 || answer.0.is_client_error(), "{path}: {}", answer.0);
    }
    let many = "/a".repeat(20_000);
    assert!(in_time("many parts", client.get(&format!("/api/v1{many}"))).await.0.is_client_error());
    assert_small();
}

#[tokio::test]
async fn a_watch_with_absurd_numbers_is_a_watch() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    expect(client.post(MAPS, &json!({"metadata": {"name": "x"}})).await, 201);
    for query in ["limit=9223372036854775807", "timeoutSeconds=9223372036854775807", "timeoutSeconds=-5"] {
        let mut events = client.watch(&format!("{MAPS}?watch=1&{query}")).await;
        assert_eq!(in_time(query, events.next()).await.unwrap()["type"], "ADDED");
    }
    let far = format!("{MAPS}?watch=1&resourceVersion=99999999&timeoutSeconds=1");
    let (status, answer) = in_time("a far version", client.get(&far)).await;
    assert!(status == 200 || status == 504, "{status}: {answer}");
}

#[tokio::test]
async fn forged_tokens_lead_nowhere_else() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    for namespace in ["other", "zzz"] {
        expect(client.post("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await, 201);
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        expect(client.post(&path, &json!({"metadata": {"name": "hidden"}})).await, 201);
    }
    expect(client.post(MAPS, &json!({"metadata": {"name": "x"}})).await, 201);
    let forged = |token: Value| URL_SAFE_NO_PAD.encode(token.to_string());
    let token = |revision: i64, start: &str| json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start});
    for start in ["other/hidden", "a", "/", "zzz/hidden\u{0}", "\u{0}", &"x".repeat(20_000)] {
        let (status, answer) = get(&client, &format!("limit=10&continue={}", forged(token(-1, start)))).await;
        assert_eq!(status, 200, "{start}: {}", answer["message"]);
        let items = answer["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["metadata"]["namespace"] == "default"), "{start}");
    }
    for (what, token) in [
        ("leads up", token(-1, "../secrets/default/x")),
        ("leads up", token(-1, "a/../../secrets/default/x")),
        ("no version", json!({"rv": 1, "start": "a"})),
        ("no revision", json!({"v": "meta.k8s.io/v1", "start": "a"})),
        ("no start", json!({"v": "meta.k8s.io/v1", "rv": 1})),
        ("a list", json!([1, 2])),
        ("a text", json!("x")),
    ] {
        assert_eq!(get(&client, &format!("limit=10&continue={}", forged(token))).await.0, 400, "{what}");
    }
    for revision in [1, i64::MIN, i64::MAX] {
        let (status, _) = get(&client, &format!("limit=10&continue={}", forged(token(revision, "a")))).await;
        assert!(matches!(status, 200 | 410 | 504), "{revision}: {status}");
    }
}

#[tokio::test]
async fn headers_are_looked_at_in_time() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let accept = vec!["application/json;as=Table;v=v9;g=meta.k8s.io;q=0.1"; 2_000].join(",");
    let answer = in_time("a long Accept", client.send(Method::GET, MAPS, &[("accept", &accept)], Vec::new())).await;
    assert_eq!(answer.0, 406);
    let agent = "x".repeat(60_000);
    let body = json!({"metadata": {"name": "x"}, "data": {"a": "b"}}).to_string().into_bytes();
    let headers = [("content-type", "application/json"), ("user-agent", agent.as_str())];
    let created = expect(client.send(Method::POST, MAPS, &headers, body).await, 201);
    let manager = created["metadata"]["managedFields"][0]["manager"].as_str().unwrap();
    assert!(manager.len() <= 128, "{}", manager.len());
    let token = format!("Bearer {}", "a.".repeat(30_000));
    let anonymous = Client::of(server.anonymous());
    assert_eq!(anonymous.send(Method::GET, MAPS, &[("authorization", &token)], Vec::new()).await.0, 401);
    let groups: Vec<(&str, &str)> = vec![("impersonate-group", "g"); 500];
    let mut impersonating = vec![("impersonate-user", "somebody")];
    impersonating.extend(groups);
    assert_eq!(in_time("groups", client.send(Method::GET, MAPS, &impersonating, Vec::new())).await.0, 403);
    let impersonated = [("impersonate-user", ""), ("impersonate-group", "system:masters")];
    assert_eq!(client.send(Method::GET, MAPS, &impersonated, Vec::new()).await.0, 400);
}
