//! `/metrics`: names and labels that dashboards and alerts are written for (upstream's `stable-metrics-list.yaml`).

use std::collections::{BTreeMap, BTreeSet};

use apiserver::testing::TestServer;
use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::client::{APPLY, Client, MERGE, expect};

/// Type and labels of each stable metric of the API server, in order.
const STABLE: &[(&str, &str, &[&str])] = &[
    (
        "apiserver_admission_controller_admission_duration_seconds",
        "histogram",
        &["name", "operation", "rejected", "type"],
    ),
    ("apiserver_admission_step_admission_duration_seconds", "histogram", &["operation", "rejected", "type"]),
    ("apiserver_current_inflight_requests", "gauge", &["request_kind"]),
    ("apiserver_longrunning_requests", "gauge", &PLACE),
    ("apiserver_request_duration_seconds", "histogram", &ASKED),
    ("apiserver_request_total", "counter", &ANSWERED),
    (
        "apiserver_requested_deprecated_apis",
        "gauge",
        &["group", "removed_release", "resource", "subresource", "version"],
    ),
    ("apiserver_response_sizes", "histogram", &PLACE),
    ("apiserver_storage_objects", "gauge", &["resource"]),
];
const PLACE: [&str; 7] = ["component", "group", "resource", "scope", "subresource", "verb", "version"];
const ASKED: [&str; 8] = ["component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"];
const ANSWERED: [&str; 9] =
    ["code", "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"];

async fn metrics(client: &Client) -> String {
    let (status, text) = client.get("/metrics").await;
    assert_eq!(status, 200);
    text.as_str().unwrap().to_owned()
}

/// The labels of a series, by name.
fn labels(series: &str) -> BTreeMap<String, String> {
    let Some((_, rest)) = series.split_once('{') else { return BTreeMap::new() };
    let pairs = rest.rsplit_once("\"}").unwrap().0.split("\",");
    pairs.map(|pair| pair.split_once("=\"").unwrap()).map(|(name, value)| (name.into(), value.into())).collect()
}

/// The series of a metric.
fn series<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter(move |line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
}

/// The value of the series with these labels.
fn value(text: &str, name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
    let fits = |line: &&str| {
        let labels = labels(line);
        wanted.iter().all(|(name, value)| labels.get(*name).is_some_and(|known| known == value))
    };
    series(text, name).find(fits).and_then(|line| line.rsplit_once(' ')?.1.parse().ok())
}

#[tokio::test]
async fn stable_metrics_have_the_types_and_labels_that_upstream_promises() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let map = json!({"metadata": {"name": "m"}});
    expect(client.post("/api/v1/namespaces/default/configmaps", &map).await, 201);
    expect(client.get("/api/v1/endpoints").await, 200);
    let _watch = client.watch("/api/v1/pods?watch=1").await;
    let text = metrics(&client).await;
    for (name, kind, names) in STABLE {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is a {kind}");
        let sample = if *kind == "histogram" { format!("{name}_count") } else { (*name).to_owned() };
        let first = series(&text, &sample).next().unwrap_or_else(|| panic!("no series of {name}"));
        let known: BTreeSet<String> = labels(first).into_keys().collect();
        assert_eq!(known, names.iter().map(ToString::to_string).collect(), "{name}");
    }
    assert!(!text.contains("# EOF") && !text.contains("le=\"1.0\""), "this is not OpenMetrics");
}

#[tokio::test]
async fn requests_are_counted_by_the_verbs_of_upstream() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let (maps, map) = ("/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/configmaps/m");
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    expect(client.post(&format!("{maps}?dryRun=All"), &body).await, 201);
    expect(client.post(maps, &body).await, 201);
    expect(client.put(map, &body).await, 200);
    expect(client.patch(map, MERGE, &json!({"data": {"a": "b"}})).await, 200);
    expect(client.patch(&format!("{map}?fieldManager=f"), APPLY, &body).await, 200);
    expect(client.get(map).await, 200);
    expect(client.get(maps).await, 200);
    expect(client.delete(map).await, 200);
    expect(client.delete(maps).await, 200);
    drop(client.watch(&format!("{maps}?watch=1")).await);
    let text = metrics(&client).await;
    for (verb, scope, dry_run, code, count) in [
        ("POST", "resource", "All", "201", 1.0),
        ("POST", "resource", "", "201", 1.0),
        ("PUT", "resource", "", "200", 1.0),
        ("PATCH", "resource", "", "200", 1.0),
        ("APPLY", "resource", "", "200", 1.0),
        ("GET", "resource", "", "200", 1.0),
        ("LIST", "namespace", "", "200", 1.0),
        ("DELETE", "resource", "", "200", 1.0),
        ("DELETE", "namespace", "", "200", 1.0),
        ("WATCH", "namespace", "", "200", 1.0),
    ] {
        let wanted =
            [("resource", "configmaps"), ("verb", verb), ("scope", scope), ("dry_run", dry_run), ("code", code)];
        assert_eq!(value(&text, "apiserver_request_total", &wanted), Some(count), "{verb} {scope} {dry_run}");
    }
    let open = value(&text, "apiserver_longrunning_requests", &[("verb", "WATCH"), ("resource", "configmaps")]);
    assert_eq!(open, Some(0.0), "a watch that has ended");
    let read = value(&text, "apiserver_response_sizes_count", &[("verb", "LIST"), ("resource", "configmaps")]);
    assert_eq!(read, Some(1.0));
    assert_eq!(value(&text, "apiserver_storage_objects", &[("resource", "namespaces")]), Some(4.0));
}

#[tokio::test]
async fn nobody_makes_series_by_asking_for_what_there_is_not() {
    let server = TestServer::start().await;
    let (client, anonymous) = (Client::admin(&server), Client::of(server.anonymous()));
    let count = async || series(&metrics(&client).await, "apiserver_request_total").count();
    metrics(&client).await;
    anonymous.get("/apis/made.up/v1/things").await;
    client.get("/apis/made.up/v1/things").await;
    let before = count().await;
    for round in 0..20 {
        anonymous.get(&format!("/apis/g{round}.example.com/v{round}/things{round}/x/y{round}")).await;
        client.get(&format!("/apis/g{round}.example.com/v{round}/things{round}")).await;
        client.get(&format!("/made/up/{round}")).await;
    }
    let after = count().await;
    assert!(after <= before + 2, "{before} series became {after}");
}

#[tokio::test]
async fn a_request_whose_client_goes_away_is_not_in_flight_for_ever() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let endless = Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let request = Request::post("/api/v1/namespaces").header("content-type", "application/json").body(endless).unwrap();
    let unfinished = tokio::time::timeout(std::time::Duration::from_millis(200), client.raw(request)).await;
    assert!(unfinished.is_err());
    let writing =
        value(&metrics(&client).await, "apiserver_current_inflight_requests", &[("request_kind", "mutating")]);
    assert_eq!(writing, Some(0.0));
}
