//! Writers that meet at one object.

use apiserver::testing::TestServer;
use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::json;

use crate::client::{Client, MERGE, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_that_name_no_version_never_conflict() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let map = json!({"metadata": {"name": "shared"}});
    expect(client.post(MAPS, &map).await, 201);
    let path = format!("{MAPS}/shared");
    let patch = |n: usize| {
        let (client, path) = (client.clone(), path.clone());
        let body = json!({"data": {format!("key-{n}"): "x"}}).to_string().into_bytes();
        tokio::spawn(async move { client.send(Method::PATCH, &path, &[("content-type", MERGE)], body).await })
    };
    for answer in join_all((0..64).map(patch)).await {
        expect(answer.unwrap(), 200);
    }
    let read = expect(client.get(&path).await, 200);
    assert_eq!(read["data"].as_object().unwrap().len(), 64, "{read}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_replacements_of_one_version_one_wins() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let created = expect(client.post(MAPS, &json!({"metadata": {"name": "shared"}})).await, 201);
    let path = format!("{MAPS}/shared");
    let replace = |n: usize| {
        let (client, path) = (client.clone(), path.clone());
        let mut body = created.clone();
        body["data"] = json!({"writer": n.to_string()});
        let headers = [("content-type", "application/json")];
        tokio::spawn(async move { client.send(Method::PUT, &path, &headers, body.to_string().into_bytes()).await })
    };
    let answers = join_all((0..16).map(replace)).await;
    let codes: Vec<StatusCode> = answers.into_iter().map(|answer| answer.unwrap().0).collect();
    let count = |code| codes.iter().filter(|each| **each == code).count();
    assert_eq!((count(StatusCode::OK), count(StatusCode::CONFLICT)), (1, 15), "{codes:?}");
}

#[tokio::test]
async fn who_holds_a_lease_no_more_writes_no_more() {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}});
    lease = expect(client.post(LEASES, &lease).await, 201);
    let write = async |name: &str, held: &str| {
        let body = json!({"metadata": {"name": name}}).to_string().into_bytes();
        let headers = [("content-type", "application/json"), ("coracle-held-lease", held)];
        client.send(Method::POST, MAPS, &headers, body).await
    };
    expect(write("first", "default/l=a").await, 201);
    expect(write("other", "default/l=b").await, 409);
    expect(write("other", "default/none=a").await, 409);
    expect(write("other", "nonsense").await, 400);
    lease["spec"]["holderIdentity"] = json!("b");
    expect(client.put(&format!("{LEASES}/l"), &lease).await, 200);
    expect(write("second", "default/l=a").await, 409);
    expect(write("second", "default/l=b").await, 201);
    let reads = client.send(Method::GET, MAPS, &[("coracle-held-lease", "default/l=a")], Vec::new()).await;
    expect(reads, 200);
}
