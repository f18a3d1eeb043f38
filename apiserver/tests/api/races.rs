//! Writers of one object at the same moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apiserver::Config;
use apiserver::testing::TestServer;
use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;
use store::{Entry, Error, Expected, Page, Range, Revision, Store, WatchStream};

use crate::client::Client;

const PATH: &str = "/api/v1/namespaces/default/configmaps/shared";
const KEY: &str = "/registry/configmaps/default/shared";

/// A store in which somebody else is faster, once armed: the next write of [`KEY`] finds the object changed.
struct Contested {
    store: EmbeddedStore,
    armed: AtomicBool,
}

impl Contested {
    async fn be_faster(&self) {
        let entry = self.store.get(KEY).await.unwrap().unwrap();
        let mut object: Value = serde_json::from_slice(&entry.value).unwrap();
        object["data"]["rival"] = json!("was here");
        let value = object.to_string().into();
        self.store.put(KEY, value, Expected::Revision(entry.mod_revision), None).await.unwrap();
    }
}

#[async_trait]
impl Store for Contested {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.store.get(key).await
    }

    async fn list(&self, range: Range) -> Result<Page, Error> {
        self.store.list(range).await
    }

    async fn put(&self, key: &str, value: Bytes, expected: Expected, ttl: Option<Duration>) -> Result<Revision, Error> {
        if key == KEY && self.armed.swap(false, Ordering::SeqCst) {
            self.be_faster().await;
        }
        self.store.put(key, value, expected, ttl).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, Error> {
        self.store.delete(key, expected).await
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream, Error> {
        self.store.watch(prefix, after).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.store.revision().await
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.store.request_progress().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store.compact(revision).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.store.check().await
    }
}

struct Race {
    _server: TestServer,
    client: Client,
    store: Arc<Contested>,
    /// The version that writers know.
    version: String,
}

impl Race {
    async fn start() -> Self {
        let store = Arc::new(Contested { store: EmbeddedStore::in_memory(), armed: AtomicBool::new(false) });
        let server = TestServer::with(Config::default(), store.clone()).await;
        let client = Client::admin(&server);
        let body = json!({"metadata": {"name": "shared"}, "data": {"first": "was here"}});
        let (status, made) = client.post("/api/v1/namespaces/default/configmaps", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let version = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        store.armed.store(true, Ordering::SeqCst);
        Self { _server: server, client, store, version }
    }

    fn assert_lost_once(&self) {
        assert!(!self.store.armed.load(Ordering::SeqCst), "nobody wrote");
    }
}

#[tokio::test]
async fn a_patch_that_loses_a_race_is_computed_anew() {
    for (kind, body) in [
        ("application/merge-patch+json", json!({"data": {"late": "was here"}})),
        ("application/strategic-merge-patch+json", json!({"data": {"late": "was here"}})),
        ("application/json-patch+json", json!([{"op": "add", "path": "/data/late", "value": "was here"}])),
    ] {
        let race = Race::start().await;
        let (status, answer) = race.client.patch(PATH, kind, &body).await;
        assert_eq!(status, StatusCode::OK, "{kind}: {answer}");
        race.assert_lost_once();
        let all = json!({"first": "was here", "rival": "was here", "late": "was here"});
        assert_eq!(race.client.get(PATH).await.1["data"], all, "{kind}");
    }
}

#[tokio::test]
async fn a_writer_that_names_the_version_it_knows_loses_the_race() {
    for method in ["patch", "put"] {
        let race = Race::start().await;
        let metadata = json!({"name": "shared", "resourceVersion": race.version});
        let body = json!({"metadata": metadata, "data": {"late": "was here"}});
        let (status, answer) = match method {
            "patch" => race.client.patch(PATH, "application/merge-patch+json", &body).await,
            _ => race.client.put(PATH, &body).await,
        };
        assert_eq!((status, &answer["reason"]), (StatusCode::CONFLICT, &json!("Conflict")), "{method}: {answer}");
        race.assert_lost_once();
        let (_, object) = race.client.get(PATH).await;
        assert_eq!(object["data"], json!({"first": "was here", "rival": "was here"}), "{method}");
    }
}
