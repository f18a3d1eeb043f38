//! The watch contract (D5): every replica equals the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apiserver::Config;
use apiserver::testing::TestServer;
use proptest::prelude::*;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;

use crate::client::{Client, Events, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// One step of a random run.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Writes a value, and whether it carries the label that replicas select.
    Put {
        name: u8,
        value: u8,
        labelled: bool,
    },
    Delete {
        name: u8,
    },
    /// A replica drops its watch and comes back at the version it had.
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u8, any::<u8>(), any::<bool>()).prop_map(|(name, value, labelled)| Step::Put { name, value, labelled }),
        3 => (0..6_u8).prop_map(|name| Step::Delete { name }),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn replicas_with_a_selector_equal_the_store(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

/// A client's copy of what it selects.
struct Replica {
    objects: BTreeMap<String, Value>,
    version: String,
    events: Events,
}

impl Replica {
    async fn start(client: &Client) -> Self {
        let list = expect(client.get(&format!("{MAPS}?labelSelector=on%3Dyes")).await, 200);
        assert_eq!(list["items"], json!([]));
        let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        let events = Self::watch(client, &version).await;
        Self { objects: BTreeMap::new(), version, events }
    }

    async fn watch(client: &Client, version: &str) -> Events {
        client.watch(&format!("{MAPS}?watch=1&labelSelector=on%3Dyes&resourceVersion={version}")).await
    }

    fn take_in(&mut self, event: &Value) {
        let object = &event["object"];
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.version = object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        match event["type"].as_str().unwrap() {
            "ADDED" => assert!(self.objects.insert(name, object.clone()).is_none(), "{event}"),
            "MODIFIED" => assert!(self.objects.insert(name, object.clone()).is_some(), "{event}"),
            "DELETED" => assert!(self.objects.remove(&name).is_some(), "{event}"),
            other => panic!("{other}: {event}"),
        }
    }
}

async fn run(steps: Vec<Step>) {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut replica = Replica::start(&client).await;
    for step in steps {
        match step {
            Step::Put { name, value, labelled } => put(&client, name, value, labelled).await,
            Step::Delete { name } => {
                client.delete(&format!("{MAPS}/m{name}")).await;
            }
            Step::Reconnect => replica.events = Replica::watch(&client, &replica.version).await,
        }
    }
    // A last object that every replica selects ends the run.
    put(&client, 99, 0, true).await;
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), replica.events.next()).await.unwrap().unwrap();
        replica.take_in(&event);
        if event["object"]["metadata"]["name"] == "m99" {
            break;
        }
    }
    let list = expect(client.get(&format!("{MAPS}?labelSelector=on%3Dyes")).await, 200);
    let stored: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["metadata"]).collect();
    let copied: Vec<&Value> = replica.objects.values().map(|object| &object["metadata"]).collect();
    assert_eq!(copied, stored);
}

async fn put(client: &Client, name: u8, value: u8, labelled: bool) {
    let labels = if labelled { json!({"on": "yes"}) } else { json!({}) };
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{name}"), "labels": labels},
        "data": {"value": value.to_string()}});
    let (status, _) = client.put(&format!("{MAPS}/m{name}"), &body).await;
    if status == 404 {
        expect(client.post(MAPS, &body).await, 201);
    }
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    put(&client, 1, 1, true).await;
    let query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let mut events = client.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(events.next().await.unwrap()["type"], "ADDED");
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn a_watch_of_forgotten_history_is_told_to_list_again() {
    let store = Arc::new(EmbeddedStore::in_memory());
    let server = TestServer::with(Config::default(), store.clone()).await;
    server.stop().await;
    // A server that starts knows nothing of what was before.
    let server = TestServer::with(Config::default(), store).await;
    let mut events = Client::admin(&server).watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn watches_end_with_their_timeout_and_with_the_server() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut short = client.watch(&format!("{MAPS}?watch=1&timeoutSeconds=1")).await;
    assert!(short.next().await.is_none());
    let mut long = client.watch(&format!("{MAPS}?watch=1")).await;
    server.stop().await;
    assert!(long.next().await.is_none());
}

#[tokio::test]
async fn kubelets_only_hear_of_their_own_pods() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let pods = "/api/v1/namespaces/default/pods";
    let mut events = client.watch("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1").await;
    for name in ["a", "b"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        expect(client.post(pods, &pod).await, 201);
        let node = if name == "a" { "n2" } else { "n1" };
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
        expect(client.post(&format!("{pods}/{name}/binding"), &binding).await, 201);
    }
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("b")));
}
