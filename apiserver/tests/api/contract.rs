//! One contract for every resource of the catalog (D1): what holds for one holds for all.

use api::Resource;
use api::catalog::Catalog;
use api::resource::Verb;
use apiserver::testing::TestServer;
use serde_json::{Value, json};

use crate::client::{Client, expect};
use crate::samples::sample;

const NAMESPACE: &str = "contract";
const MERGE: &str = "application/merge-patch+json";

fn collection(row: &Resource) -> String {
    let prefix = if row.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", row.group) };
    let namespace = if row.namespaced { format!("/namespaces/{NAMESPACE}") } else { String::new() };
    format!("{prefix}/{}{namespace}/{}", row.version, row.plural)
}

#[tokio::test]
async fn every_resource_keeps_the_contract() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    expect(client.post("/api/v1/namespaces", &namespace).await, 201);
    let account = json!({"metadata": {"name": "default"}});
    expect(client.post(&format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts"), &account).await, 201);
    for row in Catalog::builtin().iter().filter(|row| row.verbs.contains(&Verb::Watch)) {
        println!("{row:?}");
        Contract { client: &client, row, path: collection(row), body: sample(row, "one") }.check().await;
    }
}

struct Contract<'a> {
    client: &'a Client,
    row: &'a Resource,
    path: String,
    body: Value,
}

impl Contract<'_> {
    fn item(&self) -> String {
        format!("{}/{}", self.path, self.body["metadata"]["name"].as_str().unwrap())
    }

    async fn check(&self) {
        self.create().await;
        self.read().await;
        self.change().await;
        self.patch().await;
        self.apply().await;
        self.shapes().await;
        self.delete().await;
        self.delete_collection().await;
    }

    /// A dry run writes nothing; a second create conflicts.
    async fn create(&self) {
        let dry = expect(self.client.post(&format!("{}?dryRun=All", self.path), &self.body).await, 201);
        assert_eq!(dry["metadata"].get("resourceVersion"), None);
        expect(self.client.get(&self.item()).await, 404);
        let created = expect(self.client.post(&self.path, &self.body).await, 201);
        for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            assert!(created["metadata"].get(field).is_some(), "{field}: {created}");
        }
        assert_eq!(created["kind"], self.row.kind.as_ref());
        assert_eq!(created["apiVersion"], self.row.api_version());
        let again = expect(self.client.post(&self.path, &self.body).await, 409);
        assert_eq!(again["reason"], "AlreadyExists");
    }

    async fn read(&self) {
        let got = expect(self.client.get(&self.item()).await, 200);
        let list = expect(self.client.get(&format!("{}?labelSelector=contract%3D1", self.path)).await, 200);
        assert_eq!(list["kind"], self.row.list_kind.as_ref());
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{list}");
        assert_eq!(items[0]["metadata"], got["metadata"]);
        assert_eq!(items[0].get("kind"), None);
        let missing = expect(self.client.get(&format!("{}/missing", self.path)).await, 404);
        assert_eq!(missing["reason"], "NotFound");
    }

    /// A stale update conflicts; one that changes nothing writes nothing.
    async fn change(&self) {
        let first = expect(self.client.get(&self.item()).await, 200);
        let mut second = first.clone();
        second["metadata"]["labels"]["changed"] = "yes".into();
        let written = expect(self.client.put(&self.item(), &second).await, 200);
        assert_ne!(written["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        let stale = expect(self.client.put(&self.item(), &second).await, 409);
        assert_eq!(stale["reason"], "Conflict");
        let same = expect(self.client.put(&self.item(), &written).await, 200);
        assert_eq!(same["metadata"]["resourceVersion"], written["metadata"]["resourceVersion"]);
    }

    async fn patch(&self) {
        let body = json!({"metadata": {"labels": {"merged": "1"}}});
        let merged = expect(self.client.patch(&self.item(), MERGE, &body).await, 200);
        assert_eq!(merged["metadata"]["labels"]["merged"], "1");
        let strategic = "application/strategic-merge-patch+json";
        let merged = expect(
            self.client.patch(&self.item(), strategic, &json!({"metadata": {"labels": {"merged": null}}})).await,
            200,
        );
        assert_eq!(merged["metadata"]["labels"].get("merged"), None);
        let body = json!([{"op": "add", "path": "/metadata/labels/json", "value": "1"}]);
        let patched = expect(self.client.patch(&self.item(), "application/json-patch+json", &body).await, 200);
        assert_eq!(patched["metadata"]["labels"]["json"], "1");
        let before = patched["metadata"]["resourceVersion"].clone();
        let dry = json!({"metadata": {"labels": {"dry": "1"}}});
        expect(self.client.patch(&format!("{}?dryRun=All", self.item()), MERGE, &dry).await, 200);
        let after = expect(self.client.get(&self.item()).await, 200);
        assert_eq!(after["metadata"]["resourceVersion"], before);
    }

    async fn apply(&self) {
        let name = &self.body["metadata"]["name"];
        let body = json!({"apiVersion": self.row.api_version(), "kind": self.row.kind,
            "metadata": {"name": name, "labels": {"applied": "1"}}});
        let path = format!("{}?fieldManager=contract", self.item());
        let applied = expect(self.client.patch(&path, "application/apply-patch+yaml", &body).await, 200);
        assert_eq!(applied["metadata"]["labels"]["applied"], "1");
        let managers = applied["metadata"]["managedFields"].as_array().unwrap();
        assert!(
            managers.iter().any(|entry| entry["operation"] == "Apply" && entry["manager"] == "contract"),
            "{applied}"
        );
    }

    async fn shapes(&self) {
        let table = expect(self.client.get_as(&self.path, "application/json;as=Table;v=v1;g=meta.k8s.io").await, 200);
        // Upstream prints the age of an IPAddress without a column for it.
        let extra = usize::from(self.row.plural == "ipaddresses");
        let columns = table["columnDefinitions"].as_array().unwrap().len() + extra;
        assert!(
            table["rows"].as_array().unwrap().iter().all(|row| row["cells"].as_array().unwrap().len() == columns),
            "{table}"
        );
        let partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
        let got = expect(self.client.get_as(&self.item(), partial).await, 200);
        assert_eq!(got["kind"], "PartialObjectMetadata");
        assert_eq!(got.get("spec"), None);
    }

    /// A watch from before tells of the delete, and the object is gone.
    async fn delete(&self) {
        let got = expect(self.client.get(&self.item()).await, 200);
        let version = got["metadata"]["resourceVersion"].as_str().unwrap();
        let name = got["metadata"]["name"].as_str().unwrap();
        let path = format!("{}?watch=1&resourceVersion={version}&fieldSelector=metadata.name%3D{name}", self.path);
        let mut events = self.client.watch(&path).await;
        expect(self.client.delete(&format!("{}?dryRun=All", self.item())).await, 200);
        expect(self.client.get(&self.item()).await, 200);
        expect(
            self.client.delete(&format!("{}?gracePeriodSeconds=0&propagationPolicy=Background", self.item())).await,
            200,
        );
        if self.row.plural == "namespaces" {
            return;
        }
        let event = events.next().await.unwrap();
        assert_eq!(event["type"], "DELETED", "{event}");
        expect(self.client.get(&self.item()).await, 404);
        expect(self.client.delete(&self.item()).await, 404);
    }

    async fn delete_collection(&self) {
        for name in ["two", "three"] {
            expect(self.client.post(&self.path, &sample(self.row, name)).await, 201);
        }
        if !self.row.verbs.contains(&Verb::DeleteCollection) {
            return;
        }
        let path =
            format!("{}?labelSelector=contract%3D1&gracePeriodSeconds=0&propagationPolicy=Background", self.path);
        expect(self.client.delete(&path).await, 200);
        let list = expect(self.client.get(&path).await, 200);
        assert_eq!(list["items"], json!([]), "{list}");
    }
}
