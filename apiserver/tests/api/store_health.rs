//! A store that cannot write says so on the health paths, and the server serves on when it can again.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use apiserver::Config;
use apiserver::testing::TestServer;
use faults::Attack;
use serde_json::json;
use store::embedded::{EmbeddedStore, Faults, Operation, Options, Outcome};

use crate::client::{Client, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WELL: u8 = 0;
const FULL: u8 = 1;
const SLOW: u8 = 2;

fn faults(state: &Arc<AtomicU8>) -> Faults {
    let state = state.clone();
    Faults::new(move |operation, path: &Path| {
        let log = path.to_str().unwrap().contains("log-");
        match (state.load(Ordering::SeqCst), operation) {
            (FULL, Operation::Write | Operation::Allocate) if log => Outcome::Fail(ErrorKind::StorageFull),
            (SLOW, Operation::Sync) if log => Outcome::Delay(Duration::from_secs(5)),
            _ => Outcome::Proceed,
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_store_cannot_write_is_neither_live_nor_ready_until_it_can() {
    let (directory, state) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU8::new(WELL)));
    let options = Options { faults: faults(&state), ..Options::at(directory.path()) };
    let store = Arc::new(EmbeddedStore::open(options).unwrap());
    let server = TestServer::with(Config::default(), store).await;
    let client = Client::admin(&server);
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let health = async |code| {
        for path in ["/readyz", "/livez", "/healthz", "/livez/etcd"] {
            let (status, body) = client.get(path).await;
            assert_eq!(status.as_u16(), code, "{path}: {body}");
        }
    };
    health(200).await;

    state.store(FULL, Ordering::SeqCst);
    let (status, body) = client.post(MAPS, &map("a")).await;
    assert!(status.is_server_error(), "{status}: {body}");
    health(500).await;
    expect(client.get("/api/v1/namespaces/default").await, 200);
    let (_, why) = client.get("/livez/etcd").await;
    assert!(why.to_string().contains("no storage space"), "{why}");

    state.store(WELL, Ordering::SeqCst);
    health(200).await;
    expect(client.post(MAPS, &map("a")).await, 201);

    // A disk that does not answer is not waited for.
    state.store(SLOW, Ordering::SeqCst);
    let waiting = tokio::spawn({
        let client = Client::admin(&server);
        let map = map("b");
        async move { client.post(MAPS, &map).await }
    });
    let mut slow = client.get("/readyz").await;
    while slow.0.is_success() {
        slow = client.get("/readyz").await;
    }
    state.store(WELL, Ordering::SeqCst);
    expect(waiting.await.unwrap(), 201);
    health(200).await;
    Attack::new("apiserver: a full disk below a server that says it is ready").tried(4, 0).record();
}
