//! `metrics.k8s.io`: what kubelets say of nodes and pods, and what becomes of kubelets that say nothing or nonsense.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apiserver::Config;
use apiserver::http::Edge;
use apiserver::testing::TestServer;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::{Client, MERGE, expect};
use crate::hook_server::certificates;

const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
const PODS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";

/// How a kubelet behaves.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Its pod `p-NODE` uses half a core, and it half a core more.
    Honest,
    Hanging,
    /// It answers without end.
    Huge,
    /// Its counters go back, and it speaks of a pod of another node.
    Lying,
    Refusing,
}

/// A kubelet, and how often it was asked.
#[derive(Clone)]
struct Kubelet {
    name: &'static str,
    manner: Manner,
    asked: Arc<AtomicUsize>,
    began: Timestamp,
}

impl Kubelet {
    fn text(&self) -> String {
        let now = Timestamp::now();
        let passed = now.duration_since(self.began).as_secs_f64();
        let sign = if matches!(self.manner, Manner::Lying) { -1.0 } else { 1.0 };
        let (cpu, at) = (1000.0 + sign * passed / 2.0, now.as_millisecond());
        let mut text = format!(
            "# HELP x y\nnode_cpu_usage_seconds_total {} {at}\nnode_memory_working_set_bytes 1048576 {at}\nnonsense{{\n",
            2.0 * cpu
        );
        let pods = if sign < 0.0 {
            vec![format!("p-{}", self.name), "p-good".to_owned()]
        } else {
            vec![format!("p-{}", self.name)]
        };
        for pod in pods {
            let labels = format!("{{container=\"c\",namespace=\"default\",pod=\"{pod}\"}}");
            // Something that is said twice counts once.
            for _ in 0..2 {
                text += &format!("container_cpu_usage_seconds_total{labels} {cpu} {at}\n");
                text += &format!("container_memory_working_set_bytes{labels} 65536 {at}\n");
            }
            text += &format!("container_start_time_seconds{labels} 1\n");
        }
        text
    }
}

async fn answer(State(kubelet): State<Kubelet>) -> Response {
    kubelet.asked.fetch_add(1, Ordering::SeqCst);
    match kubelet.manner {
        Manner::Honest | Manner::Lying => kubelet.text().into_response(),
        Manner::Hanging => std::future::pending().await,
        Manner::Refusing => StatusCode::FORBIDDEN.into_response(),
        Manner::Huge => {
            let line = Bytes::from("container_start_time_seconds{container=\"c\"} 1\n".repeat(1000));
            Body::from_stream(futures::stream::repeat_with(move || Ok::<_, std::io::Error>(line.clone())))
                .into_response()
        }
    }
}

/// A server that can ask kubelets.
struct Cluster {
    server: TestServer,
    kubelets: Vec<Kubelet>,
    _directory: TempDir,
    _running: JoinSet<()>,
    _stop: DropGuard,
}

impl Cluster {
    async fn start(nodes: &[(&'static str, Manner)]) -> Self {
        daemon::install_crypto_provider();
        let directory = tempfile::tempdir().unwrap();
        let (authority, tls) = certificates();
        let ca = directory.path().join("ca.crt");
        std::fs::write(&ca, STANDARD.decode(authority).unwrap()).unwrap();
        let config = Config { kubelet_certificate_authority: Some(ca), ..Config::default() };
        let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
        let (stop, mut running, mut kubelets) = (CancellationToken::new(), JoinSet::new(), Vec::new());
        let edge = Arc::new(Edge::new(tls));
        for (name, manner) in nodes {
            let kubelet = Kubelet { name, manner: *manner, asked: Arc::default(), began: Timestamp::now() };
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let router = Router::new().route("/metrics/resource", get(answer)).with_state(kubelet.clone());
            running.spawn(apiserver::http::serve(listener, edge.clone(), router, stop.clone()));
            kubelets.push(kubelet);
            furnish(&Client::admin(&server), name, port).await;
        }
        Self { server, kubelets, _directory: directory, _running: running, _stop: stop.drop_guard() }
    }

    fn admin(&self) -> Client {
        Client::admin(&self.server)
    }

    fn asked(&self) -> Vec<usize> {
        self.kubelets.iter().map(|kubelet| kubelet.asked.load(Ordering::SeqCst)).collect()
    }
}

/// A node with a pod that runs there.
async fn furnish(admin: &Client, name: &str, port: u16) {
    let node = json!({"metadata": {"name": name, "labels": {"name": name}}});
    expect(admin.post("/api/v1/nodes", &node).await, 201);
    let status = json!({"status": {"addresses": [{"type": "Hostname", "address": "localhost"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    expect(admin.patch(&format!("/api/v1/nodes/{name}/status"), MERGE, &status).await, 200);
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": format!("p-{name}"), "labels": {"app": name}},
        "spec": {"nodeName": name, "containers": [{"name": "c", "image": "i"}]}});
    expect(admin.post(pods, &pod).await, 201);
    let phase = json!({"status": {"phase": "Running"}});
    expect(admin.patch(&format!("{pods}/p-{name}/status"), MERGE, &phase).await, 200);
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

/// About so many cores, in the window of about a second.
fn assert_cores(usage: &Value, window: &Value, expected: f64) {
    let cpu: facts::quantity::Quantity = usage["cpu"].as_str().unwrap().parse().unwrap();
    let cores = cpu.scaled(-9) as f64 / 1e9;
    assert!((cores - expected).abs() < 0.05, "{usage}");
    let seconds: f64 = window.as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap();
    assert!((0.9..20.0).contains(&seconds), "{window}");
}

#[tokio::test]
async fn the_first_question_is_answered_at_once_by_two_looks_and_the_next_by_none() {
    let cluster = Cluster::start(&[("good", Manner::Honest)]).await;
    let admin = cluster.admin();
    assert_eq!(cluster.asked(), [0], "nobody has asked");
    let list = expect(admin.get(NODES).await, 200);
    assert_eq!((&list["kind"], &list["metadata"]), (&"NodeMetricsList".into(), &json!({})));
    let node = &list["items"][0];
    assert_cores(&node["usage"], &node["window"], 1.0);
    assert_eq!(node["usage"]["memory"], "1Mi");
    assert_eq!(node["metadata"]["labels"], json!({"name": "good"}));
    let pod = expect(admin.get(&format!("{PODS}/p-good")).await, 200);
    assert_eq!((&pod["kind"], &pod["apiVersion"]), (&"PodMetrics".into(), &"metrics.k8s.io/v1beta1".into()));
    assert_eq!(pod["containers"][0]["name"], "c");
    assert_eq!(pod["containers"][0]["usage"]["memory"], "64Ki");
    assert_cores(&pod["containers"][0]["usage"], &pod["window"], 0.5);
    let at: Timestamp = pod["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(at.duration_since(Timestamp::now()).as_secs().abs() < 10, "{at}");
    assert_eq!(cluster.asked(), [2]);
}

#[tokio::test]
async fn who_asks_at_once_shares_the_looks() {
    let cluster = Cluster::start(&[("good", Manner::Honest)]).await;
    let admin = cluster.admin();
    let questions = (0..20).map(|_| admin.get(NODES));
    for list in futures::future::join_all(questions).await {
        assert_eq!(names(&expect(list, 200)), ["good"]);
    }
    assert_eq!(cluster.asked(), [2]);
}

#[tokio::test]
async fn kubelets_that_hang_lie_refuse_or_never_end_are_left_out() {
    let bad = [("hangs", Manner::Hanging), ("huge", Manner::Huge), ("lies", Manner::Lying), ("no", Manner::Refusing)];
    let cluster = Cluster::start(&[&[("good", Manner::Honest)][..], &bad[..]].concat()).await;
    let admin = cluster.admin();
    let began = Instant::now();
    assert_eq!(names(&expect(admin.get(NODES).await, 200)), ["good"]);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let asked = cluster.asked();
    let again = Instant::now();
    let pods = expect(admin.get(PODS).await, 200);
    assert_eq!(names(&pods), ["p-good"]);
    assert_cores(&pods["items"][0]["containers"][0]["usage"], &pods["items"][0]["window"], 0.5);
    assert!(again.elapsed() < Duration::from_secs(2), "nobody waits for them again: {:?}", again.elapsed());
    assert_eq!(cluster.asked(), asked);
    let (status, body) = admin.get(&format!("{NODES}/hangs")).await;
    assert_eq!((status.as_u16(), &body["message"]), (404, &"nodemetrics.metrics.k8s.io \"hangs\" not found".into()));
    let (status, body) = admin.get(&format!("{PODS}/p-lies")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["message"], "podmetrics.metrics.k8s.io \"default/p-lies\" not found");
    assert_eq!(admin.get(&format!("{PODS}/none")).await.1["message"], "pods \"none\" not found");
    assert_eq!(admin.get(&format!("{NODES}/none")).await.1["message"], "nodes \"none\" not found");
}

#[tokio::test]
async fn metrics_are_selected_and_shown_as_the_metrics_server_does() {
    let cluster = Cluster::start(&[("a", Manner::Honest), ("b", Manner::Honest)]).await;
    let admin = cluster.admin();
    let selected = async |path: &str| {
        let list = expect(admin.get(path).await, 200);
        names(&list).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(selected(&format!("{PODS}?labelSelector=app%3Db")).await, ["p-b"]);
    assert_eq!(cluster.asked(), [0, 2], "only who has such pods is asked");
    assert_eq!(selected("/apis/metrics.k8s.io/v1beta1/pods").await, ["p-a", "p-b"]);
    assert_eq!(selected(&format!("{PODS}?fieldSelector=metadata.name%3Dp-a")).await, ["p-a"]);
    assert_eq!(selected(&format!("{NODES}?labelSelector=name!%3Da")).await, ["b"]);
    assert_eq!(selected(&format!("{NODES}?fieldSelector=metadata.name%3Db")).await, ["b"]);
    assert_eq!(admin.get(&format!("{PODS}?fieldSelector=spec.x%3Da")).await.0, 400);
    let table = expect(admin.get_as(PODS, "application/json;as=Table;v=v1;g=meta.k8s.io").await, 200);
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "cpu", "memory", "Window"]);
    let cells = &table["rows"][0]["cells"];
    assert_eq!((&cells[0], &cells[2]), (&"p-a".into(), &"64Ki".into()));
    for (method, path) in [
        (Method::GET, format!("{PODS}?watch=true")),
        (Method::POST, PODS.to_owned()),
        (Method::DELETE, format!("{PODS}/p-a")),
        (Method::DELETE, PODS.to_owned()),
    ] {
        let (status, body) = admin.send(method.clone(), &path, &[], b"{}".to_vec()).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path} {body}");
    }
    let discovery = expect(admin.get("/apis/metrics.k8s.io/v1beta1").await, 200);
    let pods = json!({"name": "pods", "singularName": "pod", "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"]});
    assert_eq!(discovery["resources"][1], pods);
    let document = expect(admin.get("/openapi/v3/apis/metrics.k8s.io/v1beta1").await, 200);
    assert!(document["components"]["schemas"]["io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics"].is_object());
}

#[tokio::test]
async fn pods_that_do_not_run_and_pods_of_unknown_nodes_have_no_metrics() {
    let cluster = Cluster::start(&[("a", Manner::Honest)]).await;
    let admin = cluster.admin();
    let status = "/api/v1/namespaces/default/pods/p-a/status";
    expect(admin.patch(status, MERGE, &json!({"status": {"phase": "Succeeded"}})).await, 200);
    assert!(names(&expect(admin.get(PODS).await, 200)).is_empty());
    assert_eq!(admin.get(&format!("{PODS}/p-a")).await.0, 404);
    assert_eq!(cluster.asked(), [0]);
}

#[tokio::test]
async fn viewers_see_metrics_where_they_see_pods() {
    let cluster = Cluster::start(&[("a", Manner::Honest)]).await;
    let admin = cluster.admin();
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:aggregated-metrics-reader";
    let role = expect(admin.get(role).await, 200);
    for into in ["view", "edit", "admin"] {
        assert_eq!(role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{into}")], "true");
    }
    let binding = json!({"metadata": {"name": "b"}, "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "v"}],
        "roleRef": {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": role["metadata"]["name"]}});
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    expect(admin.post(path, &binding).await, 201);
    let viewer = Client::of(cluster.server.service_as("v", &[]));
    assert_eq!(names(&expect(viewer.get(PODS).await, 200)), ["p-a"]);
    assert_eq!(viewer.get(NODES).await.0, 403);
    assert_eq!(viewer.get("/apis/metrics.k8s.io/v1beta1/pods").await.0, 403);
}

#[tokio::test]
async fn another_server_for_the_group_takes_the_place_of_this_one() {
    let cluster = Cluster::start(&[("a", Manner::Honest)]).await;
    let admin = cluster.admin();
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    assert_eq!(
        admin.get(&format!("{services}/v1beta1.metrics.k8s.io")).await.0,
        404,
        "an installer finds the name free"
    );
    let service = json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {"group": "metrics.k8s.io", "version": "v1beta1",
        "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true,
        "service": {"namespace": "kube-system", "name": "metrics-server"}}});
    expect(admin.post(services, &service).await, 201);
    let until = async |expected: u16| {
        for _ in 0..300 {
            if admin.get(NODES).await.0 == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never {expected}");
    };
    until(503).await;
    expect(admin.delete(&format!("{services}/v1beta1.metrics.k8s.io")).await, 200);
    until(200).await;
}

#[tokio::test]
async fn a_server_that_cannot_ask_kubelets_does_not_know_the_group() {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    assert_eq!(admin.get(NODES).await.0, 404);
    let groups = expect(admin.get("/apis").await, 200);
    assert!(!groups.to_string().contains("metrics.k8s.io"));
}
