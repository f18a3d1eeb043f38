//! Deletion: preconditions, finalizers, one and many.

use api::resource::Verb;
use serde_json::{Value, json};

use super::Contract;
use crate::client::{MERGE, expect};

const AT_ONCE: &str = "gracePeriodSeconds=0&propagationPolicy=Background";

impl Contract<'_> {
    /// Nothing is deleted by a dry run or under a wrong precondition; a finalizer holds what is deleted.
    pub(super) async fn delete(&mut self) {
        expect(self.client.delete(&format!("{}?dryRun=All&{AT_ONCE}", self.item())).await, 200);
        for condition in [json!({"uid": "another"}), json!({"resourceVersion": self.written[0]})] {
            let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": condition});
            let refused = expect(self.client.delete_with(&self.item(), &options).await, 409);
            assert_eq!(refused["reason"], "Conflict");
        }
        self.assert_unwritten().await;
        let answer = self.merge(&json!({"metadata": {"finalizers": ["example.com/held"]}})).await;
        let held = self.wrote(answer, 200);
        let condition = json!({"uid": held["metadata"]["uid"], "resourceVersion": held["metadata"]["resourceVersion"]});
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": condition,
            "gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        expect(self.client.delete_with(&self.item(), &options).await, 200);
        let going = self.current().await;
        assert!(going["metadata"]["deletionTimestamp"].is_string(), "{going}");
        self.written.push(going["metadata"]["resourceVersion"].clone());
        let added = json!({"metadata": {"finalizers": ["example.com/held", "example.com/late"]}});
        expect(self.merge(&added).await, 422);
        if let Some(version) = self.finish_namespace(self.name()).await {
            self.written.push(version);
        }
        expect(self.merge(&json!({"metadata": {"finalizers": null}})).await, 200);
        expect(self.client.get(&self.item()).await, 404);
        expect(self.client.delete(&self.item()).await, 404);
    }

    /// What a namespace's controller does once the namespace is empty; the version of that write.
    async fn finish_namespace(&self, name: &str) -> Option<Value> {
        if !self.row.has_subresource("finalize") {
            return None;
        }
        let mut namespace = expect(self.client.get(&self.item_of(name)).await, 200);
        namespace["spec"]["finalizers"] = json!([]);
        let path = format!("{}/finalize", self.item_of(name));
        let finished = expect(self.client.put(&path, &namespace).await, 200);
        Some(finished["metadata"]["resourceVersion"].clone())
    }

    /// Deletes an object and does what its controllers would do to let it go.
    pub(super) async fn remove(&self, name: &str) {
        let item = self.item_of(name);
        expect(self.client.delete(&format!("{item}?{AT_ONCE}")).await, 200);
        self.finish_namespace(name).await;
        if self.client.get(&item).await.0 == 200 {
            expect(self.client.patch(&item, MERGE, &json!({"metadata": {"finalizers": null}})).await, 200);
        }
        expect(self.client.get(&item).await, 404);
    }

    /// Those that are selected go, the others stay.
    pub(super) async fn delete_collection(&self) {
        if !self.row.allows(Verb::DeleteCollection) {
            return;
        }
        let mut kept = self.another("kept");
        kept["metadata"]["labels"] = json!({"contract": "2"});
        for object in [&self.another("two"), &self.another("three"), &kept] {
            expect(self.client.post(&self.path, object).await, 201);
        }
        let path = format!("{}?labelSelector=contract%3D1", self.path);
        expect(self.client.delete(&format!("{path}&dryRun=All&{AT_ONCE}")).await, 200);
        assert_eq!(self.names(&path).await.len(), 2);
        expect(self.client.delete(&format!("{path}&{AT_ONCE}")).await, 200);
        for name in self.names(&path).await {
            self.client.patch(&self.item_of(&name), MERGE, &json!({"metadata": {"finalizers": null}})).await;
        }
        assert!(self.names(&path).await.is_empty());
        self.remove(kept["metadata"]["name"].as_str().unwrap()).await;
    }

    async fn names(&self, path: &str) -> Vec<String> {
        let list = expect(self.client.get(path).await, 200);
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }
}
