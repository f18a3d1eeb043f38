//! Create, replace, patch, apply, and the status beside the rest.

use serde_json::{Value, json};

use super::{Contract, NAMESPACE, includes};
use crate::client::{APPLY, STRATEGIC, expect};

impl Contract<'_> {
    /// A dry run writes nothing; what others decide is not taken from the client; a second create conflicts.
    pub(super) async fn create(&mut self) {
        let dry = expect(self.client.post(&format!("{}?dryRun=All", self.path), &self.body).await, 201);
        assert_eq!(dry["metadata"].get("resourceVersion"), None);
        expect(self.client.get(&self.item()).await, 404);
        let answer = self.client.post(&self.path, &self.body).await;
        let created = self.wrote(answer, 201);
        for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            assert!(created["metadata"].get(field).is_some(), "{field}: {created}");
        }
        let namespace = self.row.namespaced.then(|| NAMESPACE.into());
        assert_eq!(created["metadata"].get("namespace"), namespace.as_ref());
        assert_eq!(created["kind"], self.row.kind.as_ref());
        assert_eq!(created["apiVersion"], self.row.api_version());
        self.settle().await;
        let again = expect(self.client.post(&self.path, &self.body).await, 409);
        assert_eq!(again["reason"], "AlreadyExists");
        self.create_wrongly().await;
        self.create_with_status().await;
        self.generate_name().await;
    }

    /// What contradicts the path is refused.
    async fn create_wrongly(&self) {
        if self.row.namespaced {
            let mut elsewhere = self.another("two");
            elsewhere["metadata"]["namespace"] = "default".into();
            expect(self.client.post(&self.path, &elsewhere).await, 400);
        }
        let mut other = self.another("two");
        other["kind"] = "Other".into();
        // Upstream reads custom resources of whatever kind, and validates it.
        expect(self.client.post(&self.path, &other).await, if self.row.is_custom() { 422 } else { 400 });
        let mut nameless = self.another("two");
        nameless["metadata"].as_object_mut().unwrap().remove("name");
        expect(self.client.post(&self.path, &nameless).await, 422);
    }

    /// Only objects that register themselves come with a status.
    async fn create_with_status(&self) {
        let Some(status) = &self.status else { return };
        let mut body = self.another("two");
        body["status"] = status.clone();
        let created = expect(self.client.post(&format!("{}?dryRun=All", self.path), &body).await, 201);
        let kept = created.get("status").is_some_and(|created| includes(created, status));
        assert_eq!(kept, self.row.strategy.keeps_status_on_create(), "{created}");
    }

    async fn generate_name(&self) {
        if self.name() != "one" {
            return; // Names that say something are not made up.
        }
        let mut body = self.another("two");
        body["metadata"].as_object_mut().unwrap().remove("name");
        body["metadata"]["generateName"] = "made-".into();
        let made = expect(self.client.post(&self.path, &body).await, 201);
        let name = made["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("made-") && name.len() == "made-".len() + 5, "{name}");
        self.remove(name).await;
    }

    /// A stale update conflicts; one that changes nothing writes nothing; so does a dry run.
    pub(super) async fn replace(&mut self) {
        let first = self.current().await;
        let mut second = first.clone();
        second["metadata"]["labels"]["changed"] = "yes".into();
        expect(self.client.put(&format!("{}?dryRun=All", self.item()), &second).await, 200);
        self.assert_unwritten().await;
        let answer = self.client.put(&self.item(), &second).await;
        let written = self.wrote(answer, 200);
        assert_eq!(written["metadata"]["labels"]["changed"], "yes");
        let stale = expect(self.client.put(&self.item(), &second).await, 409);
        assert_eq!(stale["reason"], "Conflict");
        expect(self.client.put(&self.item(), &written).await, 200);
        self.assert_unwritten().await;
        let mut reborn = written.clone();
        reborn["metadata"]["uid"] = "another".into();
        expect(self.client.put(&self.item(), &reborn).await, 409);
        expect(self.client.put(&self.item_of("misnamed"), &written).await, 400);
        let creates = self.row.strategy.allow_create_on_update();
        let missing = self.another("two");
        let path = self.item_of(missing["metadata"]["name"].as_str().unwrap());
        let status = if creates { 201 } else { 404 };
        expect(self.client.put(&format!("{path}?dryRun=All"), &missing).await, status);
    }

    pub(super) async fn patch(&mut self) {
        let answer = self.merge(&json!({"metadata": {"labels": {"merged": "1"}}})).await;
        assert_eq!(self.wrote(answer, 200)["metadata"]["labels"]["merged"], "1");
        let body = json!({"metadata": {"labels": {"merged": null}}});
        let answer = self.client.patch(&self.item(), self.preferred_patch(), &body).await;
        assert_eq!(self.wrote(answer, 200)["metadata"]["labels"].get("merged"), None);
        let label = "/metadata/labels/json";
        let answer = self.json_patch(&json!([{"op": "add", "path": label, "value": "1"}])).await;
        assert_eq!(self.wrote(answer, 200)["metadata"]["labels"]["json"], "1");
        if self.row.is_custom() {
            let refused = expect(self.client.patch(&self.item(), STRATEGIC, &json!({})).await, 415);
            assert_eq!(refused["reason"], "UnsupportedMediaType");
        }
        self.patch_in_vain().await;
    }

    /// Patches that change nothing, must not be stored, or do not fit.
    async fn patch_in_vain(&self) {
        let change = json!({"metadata": {"labels": {"dry": "1"}}});
        let dry = expect(
            self.client.patch(&format!("{}?dryRun=All", self.item()), self.preferred_patch(), &change).await,
            200,
        );
        assert_eq!(dry["metadata"]["labels"]["dry"], "1");
        expect(self.merge(&json!({})).await, 200);
        let label = "/metadata/labels/json";
        let test = json!([{"op": "test", "path": label, "value": "2"}, {"op": "remove", "path": label}]);
        expect(self.json_patch(&test).await, 422);
        let stale = json!({"metadata": {"resourceVersion": self.written[0], "labels": {"stale": "1"}}});
        assert_eq!(expect(self.merge(&stale).await, 409)["reason"], "Conflict");
        expect(self.merge(&json!({"metadata": {"name": "other"}})).await, 400);
        expect(self.client.patch(&self.item_of("missing"), self.preferred_patch(), &change).await, 404);
        self.assert_unwritten().await;
    }

    /// Applying twice writes once; owners conflict unless forced; what is no longer applied goes away.
    pub(super) async fn apply(&mut self) {
        let mine = format!("{}?fieldManager=mine", self.item());
        let mut whole = self.body.clone();
        whole["metadata"]["labels"]["applied"] = "1".into();
        let answer = self.client.patch(&format!("{mine}&force=true"), APPLY, &whole).await;
        let applied = self.wrote(answer, 200);
        let managers = applied["metadata"]["managedFields"].as_array().unwrap();
        let owner = |entry: &Value| entry["operation"] == "Apply" && entry["manager"] == "mine";
        assert!(managers.iter().any(owner), "{applied}");
        expect(self.client.patch(&format!("{mine}&force=true"), APPLY, &whole).await, 200);
        self.assert_unwritten().await;

        let theirs = format!("{}?fieldManager=theirs", self.item());
        let other = self.labelled(&json!({"applied": "2"}));
        let conflict = expect(self.client.patch(&theirs, APPLY, &other).await, 409);
        assert_eq!(conflict["details"]["causes"][0]["reason"], "FieldManagerConflict", "{conflict}");
        expect(self.client.patch(&format!("{theirs}&force=true&dryRun=All"), APPLY, &other).await, 200);
        self.assert_unwritten().await;
        let answer = self.client.patch(&format!("{theirs}&force=true"), APPLY, &other).await;
        assert_eq!(self.wrote(answer, 200)["metadata"]["labels"]["applied"], "2");
        let answer = self.client.patch(&theirs, APPLY, &self.labelled(&json!({}))).await;
        let left = self.wrote(answer, 200);
        assert_eq!(left["metadata"]["labels"].get("applied"), None, "{left}");
        self.create_by_apply().await;
    }

    fn labelled(&self, labels: &Value) -> Value {
        json!({"apiVersion": self.row.api_version(), "kind": self.row.kind,
            "metadata": {"name": self.name(), "labels": labels}})
    }

    async fn create_by_apply(&self) {
        let object = self.another("two");
        let name = object["metadata"]["name"].as_str().unwrap();
        let path = format!("{}?fieldManager=mine", self.item_of(name));
        let created = expect(self.client.patch(&path, APPLY, &object).await, 201);
        let again = expect(self.client.patch(&path, APPLY, &object).await, 200);
        if !super::KEPT_BY_THE_SERVER.contains(&self.row.plural.as_ref()) {
            assert_eq!(again["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
        }
        self.remove(name).await;
    }

    /// The status is written by itself, and nothing else is written with it.
    pub(super) async fn write_status(&mut self) {
        assert_eq!(
            self.row.has_subresource("status"),
            self.status.is_some(),
            "a sample has a status where one is written"
        );
        let Some(status) = self.status.clone() else { return };
        let path = format!("{}/status", self.item());
        let before = self.current().await;
        let mut body = before.clone();
        body["status"] = status.clone();
        expect(self.client.put(&self.item(), &body).await, 200);
        assert_eq!(self.current().await.get("status"), before.get("status"), "a status outside of /status");

        body.as_object_mut().unwrap().remove("spec");
        expect(self.client.put(&format!("{path}?dryRun=All"), &body).await, 200);
        self.assert_unwritten().await;
        let answer = self.client.put(&path, &body).await;
        let after = self.wrote(answer, 200);
        assert!(includes(&after["status"], &status), "{after}");
        assert_eq!(after.get("spec"), before.get("spec"));
        assert_eq!(after["metadata"].get("generation"), before["metadata"].get("generation"));
        assert_eq!(expect(self.client.get(&path).await, 200), self.current().await);
        assert_eq!(expect(self.client.put(&path, &before).await, 409)["reason"], "Conflict");
        let same = expect(self.client.patch(&path, self.preferred_patch(), &json!({"spec": null})).await, 200);
        assert_eq!(same, after, "a patch of /status changes nothing else");
    }
}
