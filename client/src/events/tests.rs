use k8s_openapi::api::core::v1::Pod;

use super::*;
use crate::fake::FakeApi;

fn pod() -> ObjectReference {
    let metadata = ObjectMeta { name: Some("web".into()), namespace: Some("shop".into()), ..ObjectMeta::default() };
    about(&Pod { metadata, ..Pod::default() })
}

async fn record(fake: &FakeApi, events: impl FnOnce(&Recorder)) {
    let recorder = Recorder::new(fake.client(), "kubelet").on_host("node-1");
    events(&recorder);
    let shutdown = CancellationToken::new();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        shutdown.cancel();
    };
    tokio::join!(recorder.run(shutdown.clone()), stop);
}

fn event_paths(fake: &FakeApi, verb: &str) -> Vec<String> {
    fake.log().into_iter().filter_map(|line| line.strip_prefix(verb).map(|path| path.trim().to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_repeated_event_is_one_object_with_a_count() {
    let fake = FakeApi::new();
    record(&fake, |recorder| {
        recorder.warning(pod(), "BackOff", "Back-off restarting");
        recorder.warning(pod(), "BackOff", "Back-off restarting");
    })
    .await;
    assert_eq!(event_paths(&fake, "POST"), ["/api/v1/namespaces/shop/events"]);
    let event = fake.get(&event_paths(&fake, "PATCH")[0]).unwrap();
    assert_eq!(event["count"], 2);
    assert_eq!(event["involvedObject"]["kind"], "Pod");
    assert_eq!(event["source"], json!({ "component": "kubelet", "host": "node-1" }));
    assert_eq!(event["type"], "Warning");
}

#[tokio::test(start_paused = true)]
async fn events_of_cluster_scoped_objects_go_to_default() {
    let fake = FakeApi::new();
    let node = ObjectReference { kind: Some("Node".into()), name: Some("n".into()), ..ObjectReference::default() };
    record(&fake, |recorder| recorder.normal(node, "Starting", "Starting kubelet.")).await;
    assert_eq!(event_paths(&fake, "POST"), ["/api/v1/namespaces/default/events"]);
}

#[tokio::test(start_paused = true)]
async fn recording_does_not_wait_for_a_failing_server() {
    let fake = FakeApi::new();
    fake.set_failing(true);
    record(&fake, |recorder| {
        for number in 0..2000 {
            recorder.normal(pod(), "Flood", number.to_string());
        }
    })
    .await;
    assert!(event_paths(&fake, "POST").len() <= 25, "the object's budget bounds the requests");
}
