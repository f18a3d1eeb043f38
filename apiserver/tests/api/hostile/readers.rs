//! Clients that ask for much and do not read it.

use std::sync::Arc;

use apiserver::Config;
use apiserver::testing::TestServer;
use axum::body::Body;
use futures::FutureExt as _;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;

use super::in_time;
use crate::client::{Client, MERGE, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server with so many ConfigMaps of so many bytes, and its administrator.
async fn filled(count: usize, size: usize) -> (TestServer, Client) {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    let data = "x".repeat(size);
    let create = |at: usize| {
        let map = json!({"metadata": {"name": format!("m{at:05}"), "labels": {"a": "b"}}, "data": {"k": data}});
        let admin = admin.clone();
        async move { expect(admin.post(MAPS, &map).await, 201) }
    };
    for at in (0..count).step_by(100) {
        futures::future::join_all((at..count.min(at + 100)).map(create)).await;
    }
    (server, admin)
}

async fn unread(client: &Client, path: &str, headers: &[(&str, &str)]) -> http::Response<Body> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    in_time(path, client.raw(request.body(Body::empty()).unwrap())).await
}

async fn read(mut body: Body) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(frame) = body.frame().await {
        out.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    out
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn two_hundred_readers_who_do_not_read_cost_little() {
    const READERS: usize = 200;
    let (_server, admin) = filled(2_000, 4_000).await;
    let whole = read(unread(&admin, MAPS, &[]).await.into_body()).await.len();
    assert!(whole > 8_000_000);
    let before = resident();
    let mut readers = Vec::new();
    for at in 0..READERS {
        let encodings: [&[(&str, &str)]; 4] = [
            &[],
            &[("accept-encoding", "gzip")],
            &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
            &[("accept", "application/vnd.kubernetes.protobuf")],
        ];
        let mut body = unread(&admin, MAPS, encodings[at % 4]).await.into_body();
        // One piece was read, and nothing after it.
        assert!(body.frame().await.unwrap().is_ok());
        readers.push(body);
    }
    let held = resident().saturating_sub(before);
    let mebibytes = held >> 20;
    faults::Attack::new("apiserver: 200 readers that do not read a list of 8 MB")
        .tried(READERS as u64, u64::from(held > 100 << 20))
        .figure("held", format!("{mebibytes} MiB"))
        .figure("if each had a copy", format!("{} MiB", (READERS * whole) >> 20))
        .record();
    drop(readers);
}

#[tokio::test]
async fn a_list_is_made_as_it_is_read_and_shows_the_moment_at_which_it_was_asked_for() {
    let (_server, admin) = filled(100, 2_000).await;
    let mut body = unread(&admin, MAPS, &[]).await.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!((16_000..80_000).contains(&first.len()), "{}", first.len());
    expect(admin.patch(&format!("{MAPS}/m00099"), MERGE, &json!({"data": {"k": "new"}})).await, 200);
    expect(admin.delete(&format!("{MAPS}/m00098")).await, 200);
    let rest = read(body).await;
    let list: Value = serde_json::from_slice(&[&first[..], &rest].concat()).unwrap();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.last().unwrap()["data"]["k"].as_str().unwrap().len(), 2_000);
    assert!(items.iter().any(|item| item["metadata"]["name"] == "m00098"));
}

/// Large objects are not copied for each reader.
#[tokio::test]
async fn readers_of_large_objects_share_them() {
    let (_server, admin) = filled(20, 700_000).await;
    let plain = |accept: &'static str| {
        let admin = admin.clone();
        async move { read(unread(&admin, MAPS, &[("accept", accept)]).await.into_body()).await }
    };
    let list: Value = serde_json::from_slice(&plain("application/json").await).unwrap();
    let sizes: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|map| map["data"]["k"].as_str().unwrap().len()).collect();
    assert_eq!(sizes, [700_000; 20]);
    assert_eq!(plain("application/json").await, plain("*/*").await);
    let before = resident();
    let mut readers = Vec::new();
    for _ in 0..200 {
        let mut body = unread(&admin, MAPS, &[]).await.into_body();
        assert!(body.frame().await.unwrap().is_ok());
        readers.push(body);
    }
    assert!(resident().saturating_sub(before) < 50 << 20);
}

#[tokio::test]
async fn a_long_list_is_the_same_in_every_encoding() {
    let (_server, admin) = filled(300, 1_000).await;
    let plain: Value = serde_json::from_slice(&read(unread(&admin, MAPS, &[]).await.into_body()).await).unwrap();
    let count = plain["items"].as_array().unwrap().len();
    assert_eq!(count, 300);
    for query in ["", "?pretty=1", "?labelSelector=a%3Db", "?limit=300", "?resourceVersion=0"] {
        let path = format!("{MAPS}{query}");
        let answer = unread(&admin, &path, &[("user-agent", "test")]).await;
        assert!(http_body::Body::size_hint(answer.body()).exact().is_none(), "{path} is streamed");
        let list: Value = serde_json::from_slice(&read(answer.into_body()).await).unwrap();
        assert_eq!(list["items"], plain["items"], "{path}");
        let zipped = unread(&admin, &path, &[("accept-encoding", "gzip")]).await;
        assert_eq!(zipped.headers()["content-encoding"], "gzip");
        let mut text = String::new();
        let bytes = read(zipped.into_body()).await;
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["items"], plain["items"], "{path}");
    }
    let pretty = read(unread(&admin, &format!("{MAPS}?pretty=1"), &[]).await.into_body()).await;
    let tree: Value = serde_json::from_slice(&pretty).unwrap();
    assert_eq!(pretty, serde_json::to_vec_pretty(&tree).unwrap());
    let yaml = read(unread(&admin, MAPS, &[("accept", "application/yaml")]).await.into_body()).await;
    let tree = api::codec::yaml::parse(&yaml).unwrap().0.into_value();
    assert_eq!(tree["items"], plain["items"]);
    assert_eq!(String::from_utf8(yaml).unwrap(), api::codec::to_yaml(&tree).unwrap());
    let protobuf = "application/vnd.kubernetes.protobuf";
    // The second time the lengths of the items are known.
    for _ in 0..2 {
        let bytes = read(unread(&admin, MAPS, &[("accept", protobuf)]).await.into_body()).await;
        let tree = api::codec::protobuf::decode(&bytes).unwrap();
        assert_eq!(tree["items"], plain["items"]);
        assert_eq!(bytes, api::codec::protobuf::encode(&plain).unwrap());
    }
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = expect(admin.get_as(MAPS, table).await, 200);
    assert_eq!(table["rows"].as_array().unwrap().len(), count);
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = expect(admin.get_as(MAPS, partial).await, 200);
    assert_eq!(partial["items"].as_array().unwrap().len(), count);
}

#[tokio::test]
async fn an_empty_list_is_one_in_every_encoding() {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    let path = "/api/v1/namespaces/none/configmaps";
    for (accept, items) in [
        ("application/json", json!([])),
        ("application/yaml", json!([])),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", Value::Null),
    ] {
        for query in ["", "?pretty=1"] {
            let body = read(unread(&admin, &format!("{path}{query}"), &[("accept", accept)]).await.into_body()).await;
            let tree = api::codec::yaml::parse(&body).unwrap().0.into_value();
            assert_eq!(tree["items"], items, "{accept}: {}", String::from_utf8_lossy(&body));
        }
    }
    let list = read(unread(&admin, path, &[("accept", "application/vnd.kubernetes.protobuf")]).await.into_body()).await;
    assert_eq!(api::codec::protobuf::decode(&list).unwrap()["kind"], "ConfigMapList");
}

/// Seats are kept by answers that are not read, so others of the level wait; other levels do not.
#[tokio::test]
async fn answers_that_are_not_read_keep_their_seats() {
    let limits = apiserver::Limits { max_requests_inflight: 20, max_mutating_requests_inflight: 20, fair: true };
    let store = Arc::new(EmbeddedStore::in_memory());
    let server = TestServer::with(Config { limits, ..Config::default() }, store).await;
    let admin = Client::admin(&server);
    let binding = json!({
        "metadata": {"name": "readers"}, "subjects": [{"kind": "Group", "name": "readers"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    });
    expect(admin.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await, 201);
    for at in 0..50 {
        let map = json!({"metadata": {"name": format!("m{at}")}, "data": {"k": "x".repeat(2_000)}});
        expect(admin.post(MAPS, &map).await, 201);
    }
    let flood = Client::of(server.service_as("flood", &["readers"]));
    let request = || Request::get(MAPS).body(Body::empty()).unwrap();
    let mut held = Vec::new();
    let waiting = loop {
        let mut one = Box::pin(flood.raw(request()));
        tokio::select! {
            answer = one.as_mut() => held.push(answer),
            () = in_time("an answer, or somebody who waits", somebody_waits(&admin)) => break one,
        }
        assert!(held.len() < 40, "all seats are taken at some time");
    };
    assert_eq!(held[0].status(), 200);
    let node = Client::of(server.service_as("system:node:n", &["system:nodes"]));
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
    let is_heard = async |who: &str, client: &Client, path: &str| {
        let (status, _) = in_time(who, client.get(path)).await;
        assert_ne!(status, 429, "{who}");
    };
    is_heard("the lease of a node", &node, lease).await;
    let manager = Client::of(server.service_as("system:kube-controller-manager", &[]));
    is_heard("a system controller", &manager, "/api/v1/namespaces/default").await;
    is_heard("health", &Client::of(server.anonymous()), "/readyz").await;
    is_heard("an administrator", &admin, "/api/v1/namespaces/default").await;
    // Who reads gives the seat back.
    read(held.pop().unwrap().into_body()).await;
    assert_eq!(in_time("the next one", waiting).await.status(), 200);
}

/// Waits until a request waits for a seat of the level that others share.
async fn somebody_waits(admin: &Client) {
    const WAITING: usize = 4;
    loop {
        let (_, table) = admin.get("/debug/api_priority_and_fairness/dump_priority_levels").await;
        let table = table.as_str().unwrap_or_default().to_owned();
        let level = table.lines().find(|line| line.starts_with("global-default,")).unwrap();
        if level.split(", ").nth(WAITING) != Some("0") {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn answers_tell_how_their_requests_were_classified() {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    let flows = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let uid = async |path: &str| {
        let object = expect(admin.get(&format!("{flows}/{path}")).await, 200);
        object["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let somebody = Client::of(server.service_as("jane", &[]));
    for (client, schema, level, path) in [
        (&admin, "exempt", "exempt", "/api/v1/pods"),
        (&somebody, "global-default", "global-default", "/api/v1/pods"),
        (&somebody, "global-default", "global-default", "/nothing"),
        (&somebody, "probes", "exempt", "/healthz"),
    ] {
        let wanted =
            (uid(&format!("flowschemas/{schema}")).await, uid(&format!("prioritylevelconfigurations/{level}")).await);
        // The objects are obeyed a moment after they were made.
        in_time("the headers", async {
            loop {
                let answer = unread(client, path, &[]).await;
                let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
                let got = (header("x-kubernetes-pf-flowschema-uid"), header("x-kubernetes-pf-prioritylevel-uid"));
                if got == wanted {
                    break;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert!(
        admin
            .raw(Request::get("/api/v1/pods?watch=1").body(Body::empty()).unwrap())
            .now_or_never()
            .is_none_or(|answer| answer.headers().contains_key("x-kubernetes-pf-flowschema-uid"))
    );
}

#[tokio::test]
async fn a_schema_tells_whether_its_level_is_there() {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    let flows = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let schema = json!({
        "metadata": {"name": "lost"},
        "spec": {"priorityLevelConfiguration": {"name": "missing"}, "matchingPrecedence": 1234, "rules": [{
            "subjects": [{"kind": "Group", "group": {"name": "*"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/x"]}],
        }]},
    });
    expect(admin.post(&format!("{flows}/flowschemas"), &schema).await, 201);
    for (name, status) in [("lost", "True"), ("global-default", "False")] {
        let path = format!("{flows}/flowschemas/{name}");
        in_time("a condition", async {
            loop {
                let schema = expect(admin.get(&path).await, 200);
                let condition = &schema["status"]["conditions"][0];
                if condition["type"] == "Dangling" {
                    assert_eq!(condition["status"], status, "{condition}");
                    break;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
