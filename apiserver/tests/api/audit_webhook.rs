//! Audit events that are sent to a webhook, whether or not it takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apiserver::testing::TestServer;
use apiserver::{AuditConfig, AuditMode, AuditTruncate, AuditWebhookConfig, Config};
use faults::Attack;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;
use tempfile::TempDir;

use crate::client::{Client, expect};
use crate::hook_server::HookServer;
use crate::reviewers::kubeconfig;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that sends events about ConfigMaps to a webhook.
struct Stage {
    server: TestServer,
    client: Client,
    hook: HookServer,
    _directory: TempDir,
}

impl Stage {
    /// Events wait for others for a moment only, and are sent again soon, unless `set` says otherwise.
    async fn new(level: &str, hook: HookServer, path: &str, set: impl FnOnce(&mut AuditWebhookConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rules = json!([{"level": level, "resources": [{"group": "", "resources": ["configmaps"]}]}]);
        let policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules});
        std::fs::write(directory.path().join("policy.yaml"), policy.to_string()).unwrap();
        let mut webhook = AuditWebhookConfig {
            file: Some(kubeconfig(&directory, &hook, path)),
            initial_backoff: Duration::from_millis(1),
            ..AuditWebhookConfig::default()
        };
        webhook.delivery.batch.max_wait = Duration::from_millis(50);
        set(&mut webhook);
        let policy = Some(directory.path().join("policy.yaml"));
        let audit = AuditConfig { policy, webhook, ..AuditConfig::default() };
        let server =
            TestServer::with(Config { audit, ..Config::default() }, Arc::new(EmbeddedStore::in_memory())).await;
        Self { client: Client::admin(&server), server, hook, _directory: directory }
    }

    /// The lists that arrived, when they have so many events.
    async fn lists(&self, events: usize) -> Vec<Value> {
        let mut lists = Vec::new();
        let arrive = async {
            while items(&lists).len() < events {
                tokio::time::sleep(Duration::from_millis(5)).await;
                lists.extend(self.hook.asked());
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, arrive).await;
        assert!(in_time.is_ok(), "{events} events arrive in time: {lists:?}");
        lists
    }

    /// A counter of the audit log.
    async fn count(&self, name: &str) -> usize {
        let text = self.client.get("/metrics").await.1;
        let lines = text.as_str().unwrap().lines().map(|line| line.rsplit_once(' ').unwrap_or((line, "")));
        let mut values = lines.filter(|(counter, _)| *counter == format!("apiserver_audit_{name}"));
        values.next().map_or(0, |(_, value)| value.parse().unwrap())
    }

    async fn counted(&self, name: &str, wanted: usize) {
        let reached = async {
            while self.count(name).await < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "{name} reaches {wanted}");
    }
}

fn items(lists: &[Value]) -> Vec<&Value> {
    lists.iter().flat_map(|list| list["items"].as_array().unwrap()).collect()
}

fn map(name: &str, data: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": data}})
}

#[tokio::test]
async fn events_arrive_as_lists() {
    let stage = Stage::new("Metadata", HookServer::receiving(|_| 200).await, "/events", |_| ()).await;
    expect(stage.client.post(MAPS, &map("a", "")).await, 201);
    expect(stage.client.get(&format!("{MAPS}/none")).await, 404);
    let lists = stage.lists(4).await;
    for list in &lists {
        assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("EventList"), &json!("audit.k8s.io/v1")));
    }
    let events = items(&lists);
    let shown: Vec<_> = events.iter().map(|event| (event["verb"].as_str(), event["stage"].as_str())).collect();
    for verb in ["create", "get"] {
        for stage in ["RequestReceived", "ResponseComplete"] {
            assert!(shown.contains(&(Some(verb), Some(stage))), "{verb} {stage}: {shown:?}");
        }
    }
    let received = events.iter().find(|event| event["stage"] == "RequestReceived").unwrap();
    assert_eq!(received["stageTimestamp"], received["requestReceivedTimestamp"]);
    assert_eq!(received["kind"], "Event");
    assert_eq!((stage.count("event_total").await, stage.count("level_total{level=\"Metadata\"}").await), (4, 2));
}

#[tokio::test]
async fn a_list_that_was_not_taken_is_sent_again() {
    let tries = AtomicUsize::new(0);
    let respond = move |_: &Value| [503, 404, 200][tries.fetch_add(1, Ordering::Relaxed).min(2)];
    let stage = Stage::new("Metadata", HookServer::receiving(respond).await, "/", |webhook| {
        webhook.delivery.batch.max_size = 2;
        webhook.delivery.batch.max_wait = PATIENCE;
    })
    .await;
    expect(stage.client.get(&format!("{MAPS}/none")).await, 404);
    let lists = stage.lists(6).await;
    assert_eq!((lists.len(), &lists[0], &lists[1]), (3, &lists[1], &lists[2]));
    assert_eq!(stage.count("error_total{plugin=\"webhook\"}").await, 0);
}

#[tokio::test]
async fn what_nobody_takes_is_given_up_and_counted() {
    let stage = Stage::new("Metadata", HookServer::receiving(|_| 500).await, "/", |webhook| {
        webhook.delivery.batch.max_size = 2;
        webhook.delivery.batch.max_wait = PATIENCE;
    })
    .await;
    expect(stage.client.get(&format!("{MAPS}/none")).await, 404);
    stage.counted("error_total{plugin=\"webhook\"}", 2).await;
    assert_eq!(stage.hook.asked().len(), 5);
}

#[tokio::test]
async fn a_webhook_that_hangs_holds_up_nobody_and_what_does_not_fit_is_dropped() {
    let stage = Stage::new("Metadata", HookServer::receiving(|_| 200).await, "/hang", |webhook| {
        let batch = &mut webhook.delivery.batch;
        (batch.buffer_size, batch.max_size, batch.throttle) = (2, 1, None);
    })
    .await;
    for _ in 0..20 {
        expect(stage.client.get(&format!("{MAPS}/none")).await, 404);
    }
    // 16 are on their way, one is about to be, two wait.
    let dropped = stage.count("error_total{plugin=\"buffered\"}").await;
    assert!(dropped >= 40 - 19, "{dropped}");
    assert_eq!(stage.count("event_total").await, 40);
}

#[tokio::test]
async fn large_events_are_cut_down_and_large_lists_split() {
    let stage = Stage::new("RequestResponse", HookServer::receiving(|_| 200).await, "/", |webhook| {
        webhook.delivery.truncate = Some(AuditTruncate { max_batch_size: 4000, max_event_size: 4000 });
        webhook.delivery.batch.max_wait = Duration::from_millis(300);
    })
    .await;
    expect(stage.client.post(MAPS, &map("small", "x")).await, 201);
    expect(stage.client.post(MAPS, &map("large", &"x".repeat(10_000))).await, 201);
    // Not even its outline is small enough.
    expect(stage.client.get(&format!("{MAPS}/none?{}", "x".repeat(5000))).await, 404);
    let lists = stage.lists(4).await;
    let event = |name: &str| {
        let events = items(&lists).into_iter();
        let mut complete = events.filter(|event| event["stage"] == "ResponseComplete");
        complete.find(|event| event["objectRef"]["name"] == name).unwrap().clone()
    };
    assert_eq!(event("small")["requestObject"]["data"]["k"], "x");
    assert!(event("small")["annotations"].get("audit.k8s.io/truncated").is_none());
    let large = event("large");
    assert_eq!(large["annotations"]["audit.k8s.io/truncated"], "true");
    assert!(large.get("requestObject").is_none() && large.get("responseObject").is_none());
    assert_eq!(large["responseStatus"]["code"], 201);
    for list in &lists {
        assert!(list.to_string().len() < 4000 + 200, "{list}");
    }
    assert_eq!(stage.count("error_total{plugin=\"truncate\"}").await, 2);
}

#[tokio::test]
async fn requests_wait_until_their_events_have_arrived_if_they_shall() {
    let blocking = |webhook: &mut AuditWebhookConfig| webhook.delivery.mode = AuditMode::Blocking;
    let stage = Stage::new("Metadata", HookServer::receiving(|_| 200).await, "/", blocking).await;
    expect(stage.client.get(&format!("{MAPS}/none")).await, 404);
    assert_eq!(items(&stage.hook.asked()).len(), 2);
    // They go on if the events are lost.
    let stage = Stage::new("Metadata", HookServer::receiving(|_| 500).await, "/", blocking).await;
    expect(stage.client.post(MAPS, &map("a", "")).await, 201);
    assert_eq!(stage.count("error_total{plugin=\"webhook\"}").await, 2);
    assert_eq!(stage.count("requests_rejected_total").await, 0);
}

#[tokio::test]
async fn a_strict_server_does_nothing_that_it_cannot_report() {
    let strict = |webhook: &mut AuditWebhookConfig| webhook.delivery.mode = AuditMode::BlockingStrict;
    let works = Arc::new(AtomicUsize::new(0));
    let switch = works.clone();
    let respond = move |list: &Value| match (switch.load(Ordering::Relaxed), list["items"][0]["stage"].as_str()) {
        (0, _) | (1, Some("ResponseComplete")) => 500,
        _ => 200,
    };
    let stage = Stage::new("Metadata", HookServer::receiving(respond).await, "/", strict).await;
    let mut got_through = 0;
    for name in ["a", "b", "c"] {
        got_through += u64::from(stage.client.post(MAPS, &map(name, "")).await.0 != 500);
    }
    assert_eq!(stage.count("requests_rejected_total").await, 3);
    works.store(2, Ordering::Relaxed);
    for name in ["a", "b", "c"] {
        got_through += u64::from(stage.client.get(&format!("{MAPS}/{name}")).await.0 != 404);
    }
    Attack::new("audit: writes that a strict server cannot report").tried(6, got_through).record();
    // It is too late to refuse what was done.
    works.store(1, Ordering::Relaxed);
    expect(stage.client.post(MAPS, &map("d", "")).await, 201);
}

#[tokio::test]
async fn events_of_a_request_that_is_cut_while_it_waits_are_sent_later() {
    let tries = AtomicUsize::new(0);
    let respond = move |_: &Value| if tries.fetch_add(1, Ordering::Relaxed) == 0 { 500 } else { 200 };
    let stage = Stage::new("Metadata", HookServer::receiving(respond).await, "/", |webhook| {
        webhook.delivery.mode = AuditMode::Blocking;
        webhook.initial_backoff = Duration::from_secs(3600);
    })
    .await;
    expect(stage.client.get(&format!("{MAPS}/none?timeout=200ms")).await, 504);
    let lists = stage.lists(3).await;
    let stages: Vec<_> = items(&lists).iter().map(|event| event["stage"].clone()).collect();
    assert_eq!(stages, ["RequestReceived", "RequestReceived", "ResponseComplete"]);
    assert_eq!(items(&lists)[2]["responseStatus"]["code"], 504);
}

#[tokio::test]
async fn the_last_events_are_sent_before_the_end() {
    let stage = Stage::new("Metadata", HookServer::receiving(|_| 200).await, "/", |webhook| {
        webhook.delivery.batch.max_wait = Duration::from_secs(3600);
    })
    .await;
    expect(stage.client.get(&format!("{MAPS}/none")).await, 404);
    assert!(stage.hook.asked().is_empty());
    stage.server.stop().await;
    assert_eq!(items(&stage.hook.asked()).len(), 2);
}

#[tokio::test]
async fn a_webhook_that_cannot_be_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let (policy, file) = (directory.path().join("policy.yaml"), directory.path().join("hook.yaml"));
    std::fs::write(&policy, "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}").unwrap();
    std::fs::write(&file, "kind: Config\ncurrent-context: c\ncontexts: []").unwrap();
    let webhook = AuditWebhookConfig { file: Some(file), ..AuditWebhookConfig::default() };
    let audit = AuditConfig { policy: Some(policy), webhook, ..AuditConfig::default() };
    let store = Arc::new(EmbeddedStore::in_memory());
    match apiserver::ApiServer::new(Config { audit, ..Config::default() }, store, daemon::detached()) {
        Ok(_) => panic!("it starts"),
        Err(err) => assert!(err.to_string().starts_with("--audit-webhook-config-file: "), "{err}"),
    }
}
