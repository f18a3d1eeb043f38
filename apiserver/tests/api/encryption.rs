//! Encryption at rest: what lies in the store, who can read it, and what becomes of what nobody can.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apiserver::testing::TestServer;
use apiserver::{Config, EncryptionConfig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use faults::Attack;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;
use store::etcd::EtcdStore;
use store::{Expected, Store};
use tempfile::TempDir;

use crate::client::{Client, expect};
use crate::kms_plugin::Plugin;
use crate::process;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration file, a store, and servers on it one after the other.
struct Bench {
    directory: TempDir,
    store: Arc<dyn Store>,
}

impl Bench {
    fn new() -> Self {
        Self::on(Arc::new(EmbeddedStore::in_memory()))
    }

    fn on(store: Arc<dyn Store>) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), store }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("encryption.yaml")
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("kms.sock")
    }

    /// Writes the file as one step, as whoever changes it should.
    fn configure(&self, resources: &str, providers: &str) {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n\
             resources: [{{resources: [{resources}], providers: [{providers}]}}]"
        );
        let new = self.directory.path().join("new.yaml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    fn configure_kms(&self) {
        let socket = self.socket();
        let kms =
            format!("{{kms: {{apiVersion: v2, name: test, endpoint: 'unix://{}', timeout: 2s}}}}", socket.display());
        self.configure("secrets", &kms);
    }

    async fn start(&self) -> TestServer {
        let poll = Duration::from_millis(50);
        let encryption = EncryptionConfig { file: Some(self.file()), reload: true, poll };
        TestServer::with(Config { encryption, ..Config::default() }, self.store.clone()).await
    }

    /// A server that knows nothing of encryption.
    async fn start_plain(&self) -> TestServer {
        TestServer::with(Config::default(), self.store.clone()).await
    }

    async fn raw(&self, name: &str) -> Bytes {
        self.store.get(&key_of(name)).await.unwrap().unwrap().value
    }

    async fn set_raw(&self, name: &str, value: Bytes) {
        let now = self.store.get(&key_of(name)).await.unwrap().unwrap().mod_revision;
        self.store.put(&key_of(name), value, Expected::Revision(now), None).await.unwrap();
    }
}

fn key_of(name: &str) -> String {
    format!("/registry/secrets/default/{name}")
}

fn keys(kind: &str, named: &[(&str, u8)]) -> String {
    let one = |(name, byte): &(&str, u8)| format!("{{name: {name}, secret: {}}}", STANDARD.encode([*byte; 32]));
    format!("{{{kind}: {{keys: [{}]}}}}", named.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
        "data": {"password": STANDARD.encode("hunter2")}})
}

async fn create(client: &Client, name: &str) {
    expect(client.post(SECRETS, &secret(name)).await, 201);
}

/// Waits until a question is answered with yes.
async fn until(what: &str, question: impl AsyncFn() -> bool) {
    let asked = async {
        while !question().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("it never comes true that {what}"));
}

async fn metrics(client: &Client) -> String {
    client.get("/metrics").await.1.as_str().unwrap().to_owned()
}

/// The whole way on one store: written, read, watched, read by the next server.
async fn at_rest(store: Arc<dyn Store>) {
    let bench = Bench::on(store);
    bench.configure("secrets, pandas.example.com", &keys("aesgcm", &[("k", 1)]));
    let server = bench.start().await;
    let client = Client::admin(&server);
    let mut events = client.watch(&format!("{SECRETS}?watch=1")).await;
    create(&client, "a").await;
    let map = json!({"metadata": {"name": "a"}, "data": {"open": "to all"}});
    expect(client.post("/api/v1/namespaces/default/configmaps", &map).await, 201);

    let sealed = bench.raw("a").await;
    assert!(sealed.starts_with(b"k8s:enc:aesgcm:v1:k:"));
    let shown = String::from_utf8_lossy(&sealed).into_owned();
    assert!(!shown.contains("password") && !shown.contains(&STANDARD.encode("hunter2")), "{shown}");
    let map = bench.store.get("/registry/configmaps/default/a").await.unwrap().unwrap().value;
    assert!(map.starts_with(b"{\"kind\":\"ConfigMap\""));

    let password = |object: &Value| object["data"]["password"] == STANDARD.encode("hunter2");
    assert!(password(&expect(client.get(&format!("{SECRETS}/a")).await, 200)));
    assert!(password(&expect(client.get(SECRETS).await, 200)["items"][0]));
    let event = events.soon().await.unwrap();
    assert!(event["type"] == "ADDED" && password(&event["object"]));
    let change = json!({"data": {"more": STANDARD.encode("x")}});
    let changed = client.patch(&format!("{SECRETS}/a"), crate::client::MERGE, &change).await;
    let old = expect(changed, 200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let event = events.soon().await.unwrap();
    assert!(event["type"] == "MODIFIED" && password(&event["object"]));
    expect(client.delete(&format!("{SECRETS}/a")).await, 200);
    let event = events.soon().await.unwrap();
    assert!(event["type"] == "DELETED" && password(&event["object"]));
    server.stop().await;

    let server = bench.start().await;
    let client = Client::admin(&server);
    // From the store, for the cache of a new server does not reach back so far.
    let then = client.get(&format!("{SECRETS}?resourceVersion={old}&resourceVersionMatch=Exact")).await;
    assert!(password(&expect(then, 200)["items"][0]));
    create(&client, "a").await;
    server.stop().await;
    let server = bench.start().await;
    assert!(password(&expect(Client::admin(&server).get(&format!("{SECRETS}/a")).await, 200)));
}

#[tokio::test]
async fn secrets_lie_sealed_in_the_embedded_store() {
    at_rest(Arc::new(EmbeddedStore::in_memory())).await;
}

#[tokio::test]
async fn secrets_lie_sealed_in_etcd() {
    if !process::is_installed("etcd") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{}", process::free_port());
    let _etcd = process::etcd(directory.path(), &url, &[]);
    at_rest(Arc::new(EtcdStore::connect(store::etcd::Options::new([url])).await.unwrap())).await;
}

#[tokio::test]
async fn custom_resources_and_whole_groups_are_sealed() {
    let bench = Bench::new();
    bench.configure("'*.*'", &keys("secretbox", &[("k", 1)]));
    let server = bench.start().await;
    let client = Client::admin(&server);
    create(&client, "a").await;
    let everything =
        bench.store.list(store::Range { prefix: "/registry/".into(), ..Default::default() }).await.unwrap();
    let plain = everything.entries.iter().filter(|entry| !entry.value.starts_with(b"k8s:enc:secretbox:v1:k:"));
    let plain: Vec<_> =
        plain.map(|entry| entry.key.to_string()).filter(|key| !key.starts_with("/registry/ranges/")).collect();
    assert!(plain.is_empty() && everything.entries.len() > 100, "{plain:?}");
    server.stop().await;
    let server = bench.start().await;
    assert_eq!(expect(Client::admin(&server).get(SECRETS).await, 200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_write_that_changes_nothing_seals_anew_with_a_new_key_and_only_then() {
    let bench = Bench::new();
    bench.configure("secrets", &keys("aesgcm", &[("old", 1)]));
    let server = bench.start().await;
    create(&Client::admin(&server), "a").await;
    server.stop().await;
    bench.configure("secrets", &keys("aesgcm", &[("new", 2), ("old", 1)]));
    let server = bench.start().await;
    let client = Client::admin(&server);
    let path = format!("{SECRETS}/a");
    let before = expect(client.get(&path).await, 200);
    assert!(bench.raw("a").await.starts_with(b"k8s:enc:aesgcm:v1:old:"));
    let once = expect(client.put(&path, &before).await, 200);
    assert!(bench.raw("a").await.starts_with(b"k8s:enc:aesgcm:v1:new:"));
    assert_ne!(once["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    let twice = expect(client.put(&path, &once).await, 200);
    assert_eq!(once["metadata"]["resourceVersion"], twice["metadata"]["resourceVersion"]);
    server.stop().await;
    // The old key may go.
    bench.configure("secrets", &keys("aesgcm", &[("new", 2)]));
    let server = bench.start().await;
    expect(Client::admin(&server).get(&path).await, 200);
}

#[tokio::test]
async fn damaged_and_swapped_values_are_errors_that_name_their_key() {
    let bench = Bench::new();
    bench.configure("secrets", &keys("aesgcm", &[("k", 1)]));
    let server = bench.start().await;
    let client = Client::admin(&server);
    for name in ["a", "b"] {
        create(&client, name).await;
    }
    let (a, good) = (bench.raw("a").await, bench.raw("b").await);
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let mut plain = good.to_vec();
    plain[0] ^= 1;
    let unsealed = Bytes::from(serde_json::to_vec(&secret("b")).unwrap());
    let attacks = [("swapped", a), ("flipped", flipped.into()), ("unprefixed", plain.into()), ("unsealed", unsealed)];
    let (mut tried, mut got_through) = (0, 0);
    for (what, value) in attacks {
        let mut events = client.watch(&format!("{SECRETS}?watch=1&resourceVersion=0")).await;
        bench.set_raw("b", value).await;
        server.server().registry().freshen().await.unwrap();
        // Who watches must list again, and is told why that fails; nobody hears of a deletion.
        let mut heard = Vec::new();
        while let Some(event) = events.soon().await {
            heard.push(event);
        }
        assert!(heard.iter().all(|event| event["type"] != "DELETED"), "{what}: {heard:?}");
        for path in
            [SECRETS.to_owned(), format!("{SECRETS}/b"), "/api/v1/secrets".to_owned(), format!("{SECRETS}?watch=1")]
        {
            let (status, answer) = client.get(&path).await;
            tried += 1;
            let named = answer["message"]
                .as_str()
                .unwrap_or_default()
                .contains("unable to transform key \"/registry/secrets/default/b\"");
            got_through += u64::from(status != 500 || !named);
            assert!(status == 500 && named, "{what}: {path}: {status} {answer}");
        }
        expect(client.put(&format!("{SECRETS}/b"), &secret("b")).await, 500);
        expect(client.delete(&format!("{SECRETS}/b")).await, 500);
        // The rest is as it was.
        expect(client.get(&format!("{SECRETS}/a")).await, 200);
        expect(client.get("/api/v1/namespaces/kube-system/secrets").await, 200);
        assert_eq!(client.get("/readyz").await.0, 200, "{what}");
        bench.set_raw("b", good.clone()).await;
        server.server().registry().freshen().await.unwrap();
        assert_eq!(expect(client.get(SECRETS).await, 200)["items"].as_array().unwrap().len(), 2, "{what}");
    }
    Attack::new("encryption: damaged, swapped and plain values in the store").tried(tried, got_through).record();
}

#[tokio::test]
async fn without_the_key_nothing_is_shown_and_nothing_is_missing() {
    let bench = Bench::new();
    bench.configure("secrets", &keys("aesgcm", &[("k", 1)]));
    let server = bench.start().await;
    let client = Client::admin(&server);
    create(&client, "a").await;
    server.stop().await;
    let server = bench.start_plain().await;
    let client = Client::admin(&server);
    for path in [SECRETS.to_owned(), format!("{SECRETS}/a")] {
        let answer = expect(client.get(&path).await, 500);
        assert!(
            answer["message"].as_str().unwrap().contains("identity transformer tried to read encrypted data"),
            "{answer}"
        );
    }
    expect(client.post(SECRETS, &secret("a")).await, 409);
    create(&client, "b").await;
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_is_not_one_that_is_not_there() {
    let bench = Bench::new();
    bench.configure("resourcequotas", &keys("aesgcm", &[("k", 1)]));
    let server = bench.start().await;
    let client = Client::admin(&server);
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"count/configmaps": "0"}}});
    expect(client.post("/api/v1/namespaces/default/resourcequotas", &quota).await, 201);
    let key = "/registry/resourcequotas/default/none";
    let entry = bench.store.get(key).await.unwrap().unwrap();
    let cut = entry.value.slice(..entry.value.len() - 1);
    bench.store.put(key, cut, Expected::Revision(entry.mod_revision), None).await.unwrap();
    server.server().registry().freshen().await.unwrap();
    let map = json!({"metadata": {"name": "a"}});
    let answer = expect(client.post("/api/v1/namespaces/default/configmaps", &map).await, 500);
    let told = answer["message"].as_str().unwrap();
    assert!(told.contains("not yet ready to handle request") && told.contains(key), "{told}");
}

#[tokio::test]
async fn the_file_is_followed_and_a_bad_one_changes_nothing() {
    let bench = Bench::new();
    bench.configure("secrets", &keys("aesgcm", &[("one", 1)]));
    let server = bench.start().await;
    let client = Client::admin(&server);
    create(&client, "a").await;
    let before = metrics(&client).await;
    assert_eq!(before.matches("last_config_info{hash=\"sha256:").count(), 1, "{before}");

    std::fs::write(
        bench.file(),
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresourcez: []",
    )
    .unwrap();
    until("the bad file is counted", async || {
        metrics(&client).await.contains("automatic_reloads_total{status=\"failure\"}")
    })
    .await;
    create(&client, "b").await;
    assert!(bench.raw("b").await.starts_with(b"k8s:enc:aesgcm:v1:one:"));

    // With another key only, what is there cannot be read; with both it can.
    bench.configure("secrets", &keys("aesgcm", &[("two", 2)]));
    until("the new file counts", async || {
        metrics(&client).await.contains("automatic_reloads_total{status=\"success\"} 1")
    })
    .await;
    create(&client, "c").await;
    assert!(bench.raw("c").await.starts_with(b"k8s:enc:aesgcm:v1:two:"));
    expect(client.put(&format!("{SECRETS}/a"), &secret("a")).await, 500);
    bench.configure("secrets", &keys("aesgcm", &[("two", 2), ("one", 1)]));
    until("the old key opens again", async || client.put(&format!("{SECRETS}/a"), &secret("a")).await.0 == 200).await;
    assert!(bench.raw("a").await.starts_with(b"k8s:enc:aesgcm:v1:two:"));
    let after = metrics(&client).await;
    assert_eq!(after.matches("last_config_info{hash=\"sha256:").count(), 1, "{after}");
}

#[tokio::test]
async fn values_that_new_keys_open_come_back_by_themselves() {
    let bench = Bench::new();
    bench.configure("secrets", &keys("aescbc", &[("one", 1)]));
    let server = bench.start().await;
    create(&Client::admin(&server), "a").await;
    server.stop().await;
    bench.configure("secrets", &keys("aesgcm", &[("two", 2)]));
    let server = bench.start().await;
    let client = Client::admin(&server);
    expect(client.get(SECRETS).await, 500);
    assert_eq!(client.get("/readyz").await.0, 500);
    let both = [keys("aesgcm", &[("two", 2)]), keys("aescbc", &[("one", 1)])].join(", ");
    bench.configure("secrets", &both);
    until("the list is whole again", async || client.get(SECRETS).await.0 == 200).await;
    expect(client.get(&format!("{SECRETS}/a")).await, 200);
    assert_eq!(client.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_service_keeps_the_key_and_is_asked_once() {
    let bench = Bench::new();
    let plugin = Plugin::start(&bench.socket(), "key-1");
    bench.configure_kms();
    let server = bench.start().await;
    let client = Client::admin(&server);
    for at in 0..20 {
        create(&client, &format!("s{at}")).await;
    }
    assert!(bench.raw("s0").await.starts_with(b"k8s:enc:kms:v2:test:"));
    assert_eq!(plugin.calls(), (1, 0));
    assert_eq!(client.get("/healthz/kms-providers").await.0, 200);
    // A value is no good at another key.
    let swapped = bench.raw("s1").await;
    bench.set_raw("s0", swapped).await;
    server.server().registry().freshen().await.unwrap();
    expect(client.get(&format!("{SECRETS}/s0")).await, 500);
    bench.set_raw("s1", Bytes::from_static(b"k8s:enc:kms:v2:test:\x0a\x01")).await;
    server.server().registry().freshen().await.unwrap();
    expect(client.get(&format!("{SECRETS}/s1")).await, 500);
    server.stop().await;

    // The next server has one seed of its own, and asks once for that of the first.
    let server = bench.start().await;
    let client = Client::admin(&server);
    expect(client.get(&format!("{SECRETS}/s5")).await, 200);
    create(&client, "late").await;
    assert_eq!(plugin.calls(), (2, 1));
}

#[tokio::test]
async fn a_new_key_of_the_service_makes_what_is_there_stale() {
    let bench = Bench::new();
    let plugin = Plugin::start(&bench.socket(), "key-1");
    bench.configure_kms();
    let server = bench.start().await;
    create(&Client::admin(&server), "a").await;
    server.stop().await;
    plugin.mind().key_id = "key-2".into();
    let server = bench.start().await;
    let client = Client::admin(&server);
    create(&client, "b").await;
    let before = expect(client.get(&format!("{SECRETS}/a")).await, 200);
    let sealed_by = |value: Bytes, key: &str| String::from_utf8_lossy(&value).contains(key);
    assert!(sealed_by(bench.raw("a").await, "key-1") && sealed_by(bench.raw("b").await, "key-2"));
    let after = expect(client.put(&format!("{SECRETS}/a"), &before).await, 200);
    assert_ne!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    assert!(sealed_by(bench.raw("a").await, "key-2"));
}

#[tokio::test]
async fn a_service_that_is_away_stops_what_needs_it_and_nothing_else() {
    let bench = Bench::new();
    let plugin = Plugin::start(&bench.socket(), "key-1");
    bench.configure_kms();
    let server = bench.start().await;
    create(&Client::admin(&server), "a").await;
    server.stop().await;
    drop(plugin);
    let server = bench.start().await;
    let client = Client::admin(&server);
    let answer = expect(client.get(&format!("{SECRETS}/a")).await, 500);
    assert!(answer["message"].as_str().unwrap().contains("failed to decrypt DEK"), "{answer}");
    expect(client.post(SECRETS, &secret("b")).await, 500);
    let map = json!({"metadata": {"name": "a"}});
    expect(client.post("/api/v1/namespaces/default/configmaps", &map).await, 201);
    assert_eq!(client.get("/healthz/kms-providers").await.0, 500);
    let _plugin = Plugin::start(&bench.socket(), "key-1");
    until("the list is whole again", async || client.get(SECRETS).await.0 == 200).await;
    until("writes are sealed again", async || client.post(SECRETS, &secret("b")).await.0 == 201).await;
    until("it is well again", async || client.get("/healthz/kms-providers").await.0 == 200).await;
}

#[tokio::test]
async fn a_service_that_is_ill_is_not_taken_over() {
    let bench = Bench::new();
    let plugin = Plugin::start(&bench.socket(), "key-1");
    plugin.mind().healthz = "on fire".into();
    bench.configure("secrets", &keys("aesgcm", &[("k", 1)]));
    let server = bench.start().await;
    let client = Client::admin(&server);
    bench.configure_kms();
    until("the ill service is refused", async || {
        metrics(&client).await.contains("automatic_reloads_total{status=\"failure\"}")
    })
    .await;
    create(&client, "a").await;
    assert!(bench.raw("a").await.starts_with(b"k8s:enc:aesgcm:v1:k:"));
}
