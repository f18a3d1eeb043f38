//! One contract for every resource of the catalog (D1): what holds for one holds for all.

mod deletes;
mod encodings;
mod reads;
mod writes;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use api::Resource;
use api::catalog::Catalog;
use api::resource::Verb;
use apiserver::testing::TestServer;
use apiserver::{Config, Limits};
use futures::FutureExt as _;
use http::Method;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;

use crate::client::{Answer, Client, Events, JSON_PATCH, MERGE, STRATEGIC, expect};
use crate::custom::{define, definition, fields, version};
use crate::samples::sample;

const NAMESPACE: &str = "contract";
/// Their status is written by the server itself, at a time of its own, the first time soon after they are made.
const KEPT_BY_THE_SERVER: [&str; 1] = ["apiservices"];

fn collection(row: &Resource) -> String {
    let prefix = if row.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", row.group) };
    let namespace = if row.namespaced { format!("/namespaces/{NAMESPACE}") } else { String::new() };
    format!("{prefix}/{}{namespace}/{}", row.version, row.plural)
}

/// Without priority and fairness, which writes the status of FlowSchemas at a time of its own.
async fn server() -> (TestServer, Client) {
    let config = Config { limits: Limits { fair: false, ..Limits::default() }, ..Config::default() };
    let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
    let client = Client::admin(&server);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    expect(client.post("/api/v1/namespaces", &namespace).await, 201);
    let account = json!({"metadata": {"name": "default"}});
    expect(client.post(&format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts"), &account).await, 201);
    (server, client)
}

#[tokio::test]
async fn every_resource_in_namespaces_keeps_the_contract() {
    check(|row| row.namespaced).await;
}

#[tokio::test]
async fn every_resource_of_the_cluster_keeps_the_contract() {
    check(|row| !row.namespaced).await;
}

/// Two versions of a custom resource in namespaces, and one of the cluster.
#[tokio::test]
async fn custom_resources_keep_the_contract() {
    let (server, client) = server().await;
    let schema = fields(&json!({"size": {"type": "integer"}, "name": {"type": "string"}}));
    let versions = ["v1", "v1beta1"].map(|name| {
        let mut version = version(name, &schema);
        version["subresources"] = json!({"status": {}});
        version
    });
    define(&client, &definition(&json!(versions))).await;
    let mut gadgets = definition(&json!([version("v1", &schema)]));
    gadgets["metadata"]["name"] = "gadgets.example.com".into();
    gadgets["spec"]["scope"] = "Cluster".into();
    gadgets["spec"]["names"] =
        json!({"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"});
    define(&client, &gadgets).await;
    let catalog = server.server().registry().catalog();
    let rows: Vec<&Resource> = catalog.iter().map(AsRef::as_ref).filter(|row| row.is_custom()).collect();
    assert_eq!(rows.len(), 3);
    check_rows(&client, rows.into_iter()).await;
}

async fn check(which: impl Fn(&Resource) -> bool) {
    let (_server, client) = server().await;
    // Definitions are written by the server itself between any two steps.
    let is_left_alone = |row: &Resource| row.plural != "customresourcedefinitions";
    let catalog = Catalog::builtin();
    let rows = catalog.iter().map(AsRef::as_ref).filter(|row| row.is_stored() && which(row) && is_left_alone(row));
    check_rows(&client, rows).await;
}

async fn check_rows(client: &Client, rows: impl Iterator<Item = &Resource>) {
    let mut broken = Vec::new();
    for row in rows {
        eprintln!("{row:?}");
        let contract = Contract::of(client, row).await;
        // One row that fails does not hide another.
        if AssertUnwindSafe(contract.check()).catch_unwind().await.is_err() {
            broken.push(row.clone());
        }
    }
    assert!(broken.is_empty(), "the contract is broken by {broken:?}");
}

#[tokio::test]
async fn what_is_only_created_is_answered_and_not_kept() {
    let (_server, client) = server().await;
    let pod = json!({"metadata": {"name": "one"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    expect(client.post(&format!("/api/v1/namespaces/{NAMESPACE}/pods"), &pod).await, 201);
    for row in Catalog::builtin().iter().filter(|row| row.verbs == [Verb::Create]) {
        println!("{row:?}");
        let path = collection(row);
        let mut body = sample(row, "one");
        if row.group == "authorization.k8s.io" {
            // Nothing can be said of such a review.
            body["metadata"] = json!({});
        }
        expect(client.post(&path, &body).await, 201);
        let refused = expect(client.get(&path).await, 405);
        assert_eq!(refused["reason"], "MethodNotAllowed");
    }
}

#[tokio::test]
async fn verbs_that_a_resource_lacks_are_not_allowed() {
    let (_server, client) = server().await;
    for row in Catalog::builtin().iter().filter(|row| row.is_stored()) {
        let (all, one) = (collection(row), format!("{}/one", collection(row)));
        let requests = [
            (Verb::Create, Method::POST, &all),
            (Verb::DeleteCollection, Method::DELETE, &all),
            (Verb::Delete, Method::DELETE, &one),
            (Verb::Patch, Method::PATCH, &one),
            (Verb::Update, Method::PUT, &one),
        ];
        for (_, method, path) in requests.into_iter().filter(|(verb, ..)| !row.allows(*verb)) {
            let json = [("content-type", "application/json")];
            let refused = expect(client.send(method, path, &json, b"{}".to_vec()).await, 405);
            assert_eq!(refused["reason"], "MethodNotAllowed", "{row:?}");
        }
    }
}

/// The contract with one resource: an object `one`, and what was done to it.
struct Contract<'a> {
    client: &'a Client,
    row: &'a Resource,
    /// The path of the collection.
    path: String,
    /// The object as it is created.
    body: Value,
    /// What a controller writes into it later.
    status: Option<Value>,
    /// A watch from before there was any object.
    events: Events,
    /// The versions that the writes to `one` were told.
    written: Vec<Value>,
}

impl<'a> Contract<'a> {
    async fn of(client: &'a Client, row: &'a Resource) -> Self {
        let (path, mut body) = (collection(row), sample(row, "one"));
        let status = body.as_object_mut().and_then(|object| object.remove("status"));
        let list = expect(client.get(&path).await, 200);
        let version = list["metadata"]["resourceVersion"].as_str().unwrap();
        let name = body["metadata"]["name"].as_str().unwrap();
        let watch = format!("{path}?watch=1&resourceVersion={version}&fieldSelector=metadata.name%3D{name}");
        let events = client.watch(&watch).await;
        Self { client, row, path, body, status, events, written: Vec::new() }
    }

    async fn check(mut self) {
        self.create().await;
        self.read().await;
        self.replace().await;
        self.patch().await;
        self.apply().await;
        self.write_status().await;
        self.pages().await;
        self.shapes().await;
        self.protobuf().await;
        self.delete().await;
        self.delete_collection().await;
        self.watch().await;
    }

    fn name(&self) -> &str {
        self.body["metadata"]["name"].as_str().unwrap()
    }

    fn item(&self) -> String {
        self.item_of(self.name())
    }

    fn item_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// A further valid object, as it is created.
    fn another(&self, name: &str) -> Value {
        let mut object = sample(self.row, name);
        object.as_object_mut().unwrap().remove("status");
        object
    }

    /// The patches that clients prefer: merges of custom resources know no strategy.
    fn preferred_patch(&self) -> &'static str {
        if self.row.is_custom() { MERGE } else { STRATEGIC }
    }

    async fn current(&self) -> Value {
        expect(self.client.get(&self.item()).await, 200)
    }

    /// Notes a write that shall have changed the object.
    #[track_caller]
    fn wrote(&mut self, answer: Answer, status: u16) -> Value {
        let object = expect(answer, status);
        let version = object["metadata"]["resourceVersion"].clone();
        assert_ne!(self.written.last(), Some(&version), "nothing was written");
        self.written.push(version);
        object
    }

    async fn merge(&self, body: &Value) -> Answer {
        self.client.patch(&self.item(), MERGE, body).await
    }

    async fn json_patch(&self, body: &Value) -> Answer {
        self.client.patch(&self.item(), JSON_PATCH, body).await
    }

    /// Asserts that the object is at the version of the last write.
    async fn assert_unwritten(&self) {
        let current = self.current().await;
        assert_eq!(Some(&current["metadata"]["resourceVersion"]), self.written.last(), "{current}");
    }

    /// Waits for what the server itself writes after a creation.
    async fn settle(&mut self) {
        if !KEPT_BY_THE_SERVER.contains(&self.row.plural.as_ref()) {
            return;
        }
        let settled = loop {
            let current = self.current().await;
            if current["status"]["conditions"].is_array() {
                break current;
            }
            tokio::task::yield_now().await;
        };
        self.written.push(settled["metadata"]["resourceVersion"].clone());
    }

    /// The watch saw every change, in order, and nothing else.
    async fn watch(mut self) {
        let (mut kinds, mut seen) = (Vec::new(), Vec::new());
        while kinds.last().is_none_or(|kind| kind != "DELETED") {
            let event = self.events.soon().await.expect("the watch goes on");
            kinds.push(event["type"].as_str().unwrap().to_owned());
            seen.push(event["object"]["metadata"]["resourceVersion"].clone());
        }
        assert_eq!(kinds[0], "ADDED");
        assert!(kinds[1..kinds.len() - 1].iter().all(|kind| kind == "MODIFIED"), "{kinds:?}");
        let gone = seen.pop();
        assert!(gone.is_some() && !seen.contains(&gone.unwrap()), "a deletion has a version of its own");
        if KEPT_BY_THE_SERVER.contains(&self.row.plural.as_ref()) {
            seen.retain(|version| self.written.contains(version));
        }
        assert_eq!(seen, self.written);
    }
}

/// Whether `tree` has everything that `part` has.
fn includes(tree: &Value, part: &Value) -> bool {
    match (tree, part) {
        (Value::Object(tree), Value::Object(part)) => {
            part.iter().all(|(name, value)| tree.get(name).is_some_and(|found| includes(found, value)))
        }
        (Value::Array(tree), Value::Array(part)) => {
            tree.len() == part.len() && tree.iter().zip(part).all(|(tree, part)| includes(tree, part))
        }
        _ => tree == part,
    }
}
