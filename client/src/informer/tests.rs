use std::sync::mpsc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::fake::FakeApi;

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/default/pods/{name}")
}

fn pod(name: &str, uid: &str, node: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "uid": uid, "managedFields": [{ "manager": "test" }] },
        "spec": { "nodeName": node, "containers": [] },
    })
}

fn node_of(pod: &Pod) -> Vec<String> {
    pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect()
}

fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect()
}

/// Runs informers over the fake; events arrive as lines such as `+web` (new), `~web` (changed), `-web` (deleted).
struct Running {
    fake: FakeApi,
    informers: Informers,
    pods: Informer<Pod>,
    lines: mpsc::Receiver<String>,
    seen: Arc<Notify>,
    shutdown: CancellationToken,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

async fn running(fake: FakeApi) -> Running {
    let informers = Informers::new(fake.client());
    let pods = informers.of::<Pod>();
    pods.add_index("node", node_of);
    let (sent, lines) = mpsc::channel();
    let seen = Arc::new(Notify::new());
    let wake = Arc::clone(&seen);
    pods.on_event(move |event| {
        sent.send(line(event)).unwrap();
        wake.notify_one();
    });
    let shutdown = CancellationToken::new();
    let task = tokio::spawn({
        let (informers, shutdown) = (informers.clone(), shutdown.clone());
        async move { informers.run(shutdown).await.unwrap() }
    });
    let running =
        Running { fake, informers, pods, lines, seen, shutdown, _task: tokio_util::task::AbortOnDropHandle::new(task) };
    timeout(Duration::from_secs(60), running.informers.synced()).await.expect("synced");
    running
}

fn line(event: &Event<Pod>) -> String {
    let sign = match event {
        Event::Applied { old: None, .. } => "+",
        Event::Applied { .. } => "~",
        Event::Deleted(_) => "-",
    };
    format!("{sign}{}", event.key().name)
}

impl Running {
    async fn expect(&mut self, expected: &[&str]) {
        let mut got = Vec::new();
        while got.len() < expected.len() {
            match self.lines.try_recv() {
                Ok(line) => got.push(line),
                Err(_) => timeout(Duration::from_secs(600), self.seen.notified()).await.expect("an event"),
            }
        }
        assert_eq!(got, expected);
        assert!(self.lines.try_recv().is_err(), "no further event");
    }
}

#[tokio::test(start_paused = true)]
async fn the_cache_follows_the_watch_and_its_indexes_too() {
    let fake = FakeApi::new();
    fake.put(&path("a"), pod("a", "1", "n1"));
    let mut it = running(fake).await;
    it.expect(&["+a"]).await;
    it.fake.put(&path("b"), pod("b", "2", "n1"));
    it.expect(&["+b"]).await;
    assert_eq!(names(&it.pods.by_index("node", "n1")), ["a", "b"]);
    it.fake.put(&path("a"), pod("a", "1", "n2"));
    it.expect(&["~a"]).await;
    assert_eq!(names(&it.pods.by_index("node", "n2")), ["a"]);
    it.fake.delete(&path("b"));
    it.expect(&["-b"]).await;
    assert!(it.pods.by_index("node", "n1").is_empty());
    assert_eq!(names(&it.pods.list_in("default")), ["a"]);
    assert!(it.pods.list_in("defaul").is_empty());
    assert!(it.pods.has_any_in("default") && !it.pods.has_any_in("defaul"));
    let cached = it.pods.get(&ObjectKey::new("default", "a")).unwrap();
    assert!(cached.metadata.managed_fields.is_none(), "managedFields only cost memory");
}

#[tokio::test(start_paused = true)]
async fn what_happened_behind_a_lost_watch_becomes_events() {
    let fake = FakeApi::new();
    for (name, uid) in [("gone", "1"), ("replaced", "2"), ("same", "3")] {
        fake.put(&path(name), pod(name, uid, "n1"));
    }
    let mut it = running(fake).await;
    it.expect(&["+gone", "+replaced", "+same"]).await;
    it.fake.behind_the_watch(|objects| {
        objects.remove(&path("gone"));
        let mut new = pod("replaced", "20", "n1");
        new["metadata"]["resourceVersion"] = json!("90");
        objects.insert(path("replaced"), new);
    });
    it.expect(&["-gone", "-replaced", "+replaced"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_server_delays_but_does_not_end_the_informer() {
    let fake = FakeApi::new();
    fake.set_failing(true);
    let informers = Informers::new(fake.client());
    let pods = informers.of::<Pod>();
    let shutdown = CancellationToken::new();
    let heal = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(informers.unsynced(), ["Pod"]);
        fake.set_failing(false);
        fake.put(&path("a"), pod("a", "1", "n1"));
        pods.synced().await;
        assert_eq!(pods.count(), 1);
        shutdown.cancel();
    };
    let (ended, ()) = tokio::join!(informers.run(shutdown.clone()), heal);
    ended.unwrap();
    assert!(fake.log().len() < 15, "retries back off: {}", fake.log().len());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_delays_the_others_but_loses_none() {
    let fake = FakeApi::new();
    fake.put(&path("a"), pod("a", "1", "n1"));
    let mut it = running(fake).await;
    it.expect(&["+a"]).await;
    let mut odd = pod("odd", "2", "n1");
    odd["spec"]["nodeName"] = json!(7);
    it.fake.put(&path("odd"), odd);
    it.fake.put(&path("b"), pod("b", "3", "n1"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(names(&it.pods.list()), ["a"], "a list is taken in whole or not at all");
    assert!(it.fake.log().len() < 20, "retries back off: {}", it.fake.log().len());
    it.fake.put(&path("odd"), pod("odd", "2", "n2"));
    it.expect(&["+b", "+odd"]).await;
}

#[tokio::test(start_paused = true)]
async fn one_kind_is_watched_once_however_many_ask() {
    let it = running(FakeApi::new()).await;
    let again = it.informers.of::<Pod>();
    again.synced().await;
    let of_node = it.informers.with_fields::<Pod>("spec.nodeName=n1");
    of_node.synced().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let watches = it.fake.log().iter().filter(|line| line.starts_with("WATCH")).count();
    assert_eq!(watches, 2, "one for all pods, one for those of the node: {:?}", it.fake.log());
    it.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_late_handler_hears_of_what_is_there() {
    let fake = FakeApi::new();
    fake.put(&path("a"), pod("a", "1", "n1"));
    let it = running(fake).await;
    let (sent, lines) = mpsc::channel();
    it.pods.on_event(move |event| sent.send(line(event)).unwrap());
    assert_eq!(lines.try_recv().unwrap(), "+a");
}

#[tokio::test(start_paused = true)]
async fn a_panicking_handler_ends_the_run_loudly() {
    let fake = FakeApi::new();
    fake.put(&path("a"), pod("a", "1", "n1"));
    let informers = Informers::new(fake.client());
    informers.of::<Pod>().on_event(|_| panic!("a bug"));
    assert!(informers.run(CancellationToken::new()).await.is_err());
}
