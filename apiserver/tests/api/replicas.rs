//! Several servers on one store, and what a server keeps there for others: its identity, its endpoints, its defaults.

use std::sync::Arc;
use std::time::Duration;

use apiserver::Config;
use apiserver::testing::TestServer;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;
use store::{Expected, Store};

use crate::client::{Client, expect};

const SERVICE: &str = "/api/v1/namespaces/default/services/kubernetes";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";
const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const TRACKING: &str = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";

fn store() -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::in_memory())
}

/// One of several servers.
fn replica(address: &str) -> Config {
    Config { advertise_address: address.parse().ok(), shares_store: true, ..Config::default() }
}

/// Asks until the answer is as it shall be.
async fn until(client: &Client, path: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let (_, answer) = client.get(path).await;
            if is_right(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .unwrap_or_else(|_| panic!("{path} does not become right"))
}

fn addresses(endpoints: &Value) -> Vec<&str> {
    let all = endpoints["subsets"][0]["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|address| address["ip"].as_str()).collect()
}

fn slice_addresses(slice: &Value) -> Vec<&str> {
    let all = slice["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|endpoint| endpoint["addresses"][0].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_begin_together_on_an_empty_store_all_come_up() {
    for _ in 0..3 {
        let store = store();
        let with = |address| TestServer::with(replica(address), store.clone());
        let (a, b, c) = tokio::join!(with("192.0.2.1"), with("192.0.2.2"), with("192.0.2.3"));
        let client = Client::admin(&b);
        let service = expect(client.get(SERVICE).await, 200);
        assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
        let held = expect(client.get("/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1").await, 200);
        assert_eq!(held["spec"]["parentRef"]["name"], "kubernetes");
        for server in [a, b, c] {
            server.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_leads_to_all_servers_that_are_there() {
    let store = store();
    let first = TestServer::with(replica("192.0.2.2"), store.clone()).await;
    let client = Client::admin(&first);
    assert_eq!(addresses(&expect(client.get(ENDPOINTS).await, 200)), ["192.0.2.2"]);
    let second = TestServer::with(replica("192.0.2.1"), store.clone()).await;
    let both = ["192.0.2.1", "192.0.2.2"];
    until(&client, ENDPOINTS, |endpoints| addresses(endpoints) == both).await;
    until(&client, SLICE, |slice| slice_addresses(slice) == both).await;
    // Who ends says so, and is heard at once: the others look again only after ten seconds.
    let ended = tokio::time::timeout(Duration::from_secs(9), second.stop()).await;
    assert!(ended.is_ok(), "nothing holds up the good-bye");
    until(&client, ENDPOINTS, |endpoints| addresses(endpoints) == ["192.0.2.2"]).await;
    until(&client, SLICE, |slice| slice_addresses(slice) == ["192.0.2.2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_leaves_the_endpoints_when_its_key_ends() {
    let store = store();
    let dead = "/registry/masterleases/192.0.2.9";
    store.put(dead, Bytes::from_static(b"{}"), Expected::Absent, Some(Duration::from_secs(2))).await.unwrap();
    let server = TestServer::with(replica("192.0.2.1"), store.clone()).await;
    let client = Client::admin(&server);
    assert_eq!(addresses(&expect(client.get(ENDPOINTS).await, 200)), ["192.0.2.1", "192.0.2.9"]);
    until(&client, ENDPOINTS, |endpoints| addresses(endpoints) == ["192.0.2.1"]).await;
    assert!(
        store.get("/registry/masterleases/192.0.2.1").await.unwrap().is_some(),
        "the living one has renewed its key"
    );
}

#[tokio::test]
async fn an_address_that_a_dead_server_took_for_the_service_is_taken_over() {
    let store = store();
    let metadata = json!({"name": "10.96.0.1", "uid": "1", "creationTimestamp": "2026-11-30T00:00:00Z",
        "labels": {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}});
    let parent = json!({"group": "", "resource": "services", "namespace": "default", "name": "kubernetes"});
    let head = r#"{"kind":"IPAddress","apiVersion":"networking.k8s.io/v1","metadata":"#;
    let bytes = Bytes::from(format!(r#"{head}{metadata},"spec":{{"parentRef":{parent}}}}}"#));
    store.put("/registry/ipaddresses/10.96.0.1", bytes, Expected::Absent, None).await.unwrap();
    let server = TestServer::with(replica("192.0.2.1"), store).await;
    assert_eq!(expect(Client::admin(&server).get(SERVICE).await, 200)["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn ports_and_type_of_the_service_are_left_to_whoever_changes_them_and_its_endpoints_are_not() {
    let config = Config { advertise_address: "192.0.2.1".parse().ok(), ..Config::default() };
    let server = TestServer::with(config, store()).await;
    let client = Client::admin(&server);
    let merge = crate::client::MERGE;
    // As upstream since v1.17.
    let ports = json!({"spec": {"type": "NodePort", "ports": [{"name": "https", "port": 8443, "targetPort": 6443}]}});
    expect(client.patch(SERVICE, merge, &ports).await, 200);
    let damaged = json!({"subsets": [{"addresses": [{"ip": "192.0.2.66"}], "ports": [{"port": 1}]}]});
    expect(client.patch(ENDPOINTS, merge, &damaged).await, 200);
    until(&client, ENDPOINTS, |endpoints| addresses(endpoints) == ["192.0.2.1"]).await;
    assert_eq!(expect(client.get(SERVICE).await, 200)["spec"]["ports"][0]["port"], 8443);
}

#[tokio::test]
async fn a_default_binding_that_leads_to_another_role_is_made_anew() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let path = format!("{BINDINGS}/system:basic-user");
    let right = expect(client.get(&path).await, 200);
    let mut wrong = json!({"metadata": {"name": "system:basic-user"}, "roleRef": right["roleRef"],
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}]});
    wrong["roleRef"]["name"] = "cluster-admin".into();
    // It comes back by itself, so that somebody must be faster.
    let mut placed = false;
    for _ in 0..100 {
        client.delete(&path).await;
        placed = client.post(BINDINGS, &wrong).await.0 == 201;
        if placed {
            break;
        }
    }
    assert!(placed);
    let back = until(&client, &path, |binding| binding["roleRef"]["name"] == "system:basic-user").await;
    assert_eq!(back["subjects"], right["subjects"], "whom another role was given to is not given this one");
}

#[tokio::test]
async fn a_server_is_known_by_its_lease_and_forgotten_without_it() {
    let store = store();
    let plain = TestServer::with(Config::default(), store.clone()).await;
    let client = Client::admin(&plain);
    let lease = |name: &str, label: &str, renewed: &str| {
        json!({"metadata": {"name": name, "labels": {"apiserver.kubernetes.io/identity": label}},
            "spec": {"holderIdentity": "x", "leaseDurationSeconds": 3600, "renewTime": renewed}})
    };
    let old = "2020-01-01T00:00:00.000000Z";
    for lease in [
        lease("apiserver-gone", "kube-apiserver", old),
        lease("apiserver-there", "kube-apiserver", "2120-01-01T00:00:00.000000Z"),
        lease("another", "extension", old),
    ] {
        expect(client.post(LEASES, &lease).await, 201);
    }
    plain.stop().await;
    let config = Config { identity: Some("localhost".into()), ..Config::default() };
    let server = TestServer::with(config, store).await;
    let client = Client::admin(&server);
    let is_gone = |leases: &Value| !leases.to_string().contains("apiserver-gone");
    let leases =
        until(&client, LEASES, |leases| is_gone(leases) && leases.to_string().contains("jgla3zmib2ggq5buc4hwi5talm"))
            .await;
    let names: Vec<&str> =
        leases["items"].as_array().unwrap().iter().map(|lease| lease["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["another", "apiserver-jgla3zmib2ggq5buc4hwi5talm", "apiserver-there"]);
    let own = expect(client.get(&format!("{LEASES}/{}", names[1])).await, 200);
    let labels = json!({"apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": "localhost"});
    assert_eq!((&own["metadata"]["labels"], &own["spec"]["leaseDurationSeconds"]), (&labels, &3600.into()));
    let holder = own["spec"]["holderIdentity"].as_str().unwrap();
    assert!(holder.starts_with("apiserver-jgla3zmib2ggq5buc4hwi5talm_"), "{holder}");
}

#[tokio::test]
async fn the_beginning_of_the_tracking_of_old_tokens_is_kept() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let since = |map: &Value| map["data"]["since"].as_str().unwrap_or_default().to_owned();
    let first = since(&expect(client.get(TRACKING).await, 200));
    let today = Timestamp::now().strftime("%Y-%m").to_string();
    assert!(first.starts_with(&today), "{first}");
    let merge = crate::client::MERGE;
    expect(client.patch(TRACKING, merge, &json!({"data": {"since": "2024-02-29", "more": "x"}})).await, 200);
    expect(client.patch(TRACKING, merge, &json!({"data": {"since": "never"}})).await, 200);
    let mended = until(&client, TRACKING, |map| since(map) == first).await;
    assert_eq!(mended["data"]["more"], "x");
    expect(client.delete(TRACKING).await, 200);
    until(&client, TRACKING, |map| since(map) == first).await;
}
