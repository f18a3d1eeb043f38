//! Conversion webhooks: custom objects of one version as objects of another, made by somebody else. Upstream:
//! `apiextensions-apiserver/pkg/apiserver/conversion`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::catalog::Catalog;
use api::custom::{Conversion, Webhook};
use api::resource::join_group_version;
use api::{ApiError, Object, Resource};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::outbound::webhooks::{self, Webhooks};

/// How long a webhook may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The versions of `ConversionReview` that this server speaks.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// The conversion webhooks that have been called, with their connections.
pub(crate) struct Converters {
    webhooks: Webhooks,
    known: Mutex<HashMap<String, Known>>,
}

/// A webhook with the configuration that it was made of.
type Known = (Arc<Webhook>, Arc<webhooks::Webhook>);

impl Converters {
    pub(crate) fn new(webhooks: Webhooks) -> Self {
        Self { webhooks, known: Mutex::default() }
    }

    /// Objects in the version of `to`. Those of custom resources may be of any version, whatever `from` says: what was
    /// stored before the storage version changed still has the old one.
    pub(crate) async fn convert(
        &self,
        catalog: &Catalog,
        from: &Resource,
        to: &Resource,
        objects: Vec<Object>,
    ) -> Result<Vec<Object>, ApiError> {
        if let Some(custom) = &to.custom
            && let Conversion::Webhook(webhook) = &custom.conversion
        {
            return self.by_webhook(webhook, to, objects).await;
        }
        objects.into_iter().map(|object| catalog.convert(from, to, object)).collect()
    }

    /// As [`Self::convert`], for one object.
    pub(crate) async fn convert_one(
        &self,
        catalog: &Catalog,
        from: &Resource,
        to: &Resource,
        object: Object,
    ) -> Result<Object, ApiError> {
        let converted = self.convert(catalog, from, to, vec![object]).await?.pop();
        converted.ok_or_else(|| ApiError::internal("a conversion lost its object"))
    }

    /// Converts objects in one call for all that are not of the version of `to`.
    async fn by_webhook(
        &self,
        webhook: &Arc<Webhook>,
        to: &Resource,
        mut objects: Vec<Object>,
    ) -> Result<Vec<Object>, ApiError> {
        let wanted = to.api_version();
        let places: Vec<usize> = (0..objects.len()).filter(|at| objects[*at].api_version() != wanted).collect();
        let Some(first) = places.first() else { return Ok(objects) };
        let kind = format!("{}, Kind={}", objects[*first].api_version(), objects[*first].kind());
        let failed = |why: String| ApiError::unclassified(format!("conversion webhook for {kind} {why}"));
        let old: Vec<&Object> = places.iter().map(|at| &objects[*at]).collect();
        let new = self.ask(webhook, &wanted, &old).await.map_err(|why| failed(format!("failed: {why}")))?;
        if new.len() != old.len() {
            return Err(failed(format!("returned {} objects, expected {}", new.len(), old.len())));
        }
        for (index, (at, converted)) in places.into_iter().zip(new).enumerate() {
            let checked = check(&objects[at], converted, to, &wanted);
            let mut converted =
                checked.map_err(|why| failed(format!("returned invalid converted object at index {index}: {why}")))?;
            keep_metadata(&objects[at], &mut converted);
            if let Some(custom) = &to.custom {
                custom.prune(&mut converted);
            }
            objects[at] = converted;
        }
        Ok(objects)
    }

    /// Sends a review and reads its answer; errors are those of the call as a whole.
    async fn ask(&self, webhook: &Arc<Webhook>, wanted: &str, objects: &[&Object]) -> Result<Vec<Value>, String> {
        let spoken = webhook.review_versions.iter().find(|version| REVIEWS.contains(&version.as_str()));
        let spoken = spoken.ok_or("no supported conversion review version is offered")?;
        let review_version = join_group_version("apiextensions.k8s.io", spoken);
        let uid = uuid::Uuid::new_v4().to_string();
        let objects: Vec<Value> = objects.iter().map(|object| object.to_value()).collect();
        let review = json!({
            "kind": "ConversionReview", "apiVersion": review_version,
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
        });
        let body = Bytes::from(review.to_string());
        let answer = self.client(webhook)?.call(body, TIMEOUT).await.map_err(|err| err.to_string())?;
        // The parser stops at a depth that stored objects cannot have either.
        let answer: Value = serde_json::from_slice(&answer).map_err(|err| err.to_string())?;
        read_answer(answer, &review_version, &uid)
    }

    fn client(&self, webhook: &Arc<Webhook>) -> Result<Arc<webhooks::Webhook>, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, client)) = known.get(&webhook.definition)
            && (Arc::ptr_eq(config, webhook) || config == webhook)
        {
            return Ok(client.clone());
        }
        let client = Arc::new(self.webhooks.webhook(&webhook.client_config).map_err(|err| err.to_string())?);
        known.insert(webhook.definition.clone(), (webhook.clone(), client.clone()));
        Ok(client)
    }

    /// Forgets the webhooks of all definitions but these.
    pub(crate) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| is_there(name));
    }
}

/// The objects of an answered review.
fn read_answer(mut answer: Value, review_version: &str, uid: &str) -> Result<Vec<Value>, String> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (api_version, kind) = (text(&answer["apiVersion"]), text(&answer["kind"]));
    if (api_version.as_str(), kind.as_str()) != (review_version, "ConversionReview") {
        return Err(format!(
            "expected webhook response of {review_version}, Kind=ConversionReview, got {api_version}, Kind={kind}"
        ));
    }
    let response = &mut answer["response"];
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    if response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", text(&response["uid"])));
    }
    let result = &response["result"];
    if result["status"] != "Success" {
        let message = text(&result["message"]);
        let status = text(&result["status"]);
        return Err(if message.is_empty() {
            format!("response.result.status was '{status}', not 'Success'")
        } else {
            message
        });
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// A converted object must be of the wanted version, and otherwise the same object.
fn check(old: &Object, new: Value, to: &Resource, wanted: &str) -> Result<Object, String> {
    if api::codec::is_deeper_than(&new, api::codec::json::MAX_DEPTH) {
        return Err("exceeded max depth".to_owned());
    }
    let new = Object::from_value(new).ok_or("expected an object")?;
    if new.api_version() != wanted {
        return Err(format!("invalid groupVersion (expected {wanted}, received {})", new.api_version()));
    }
    if new.kind() != to.kind {
        return Err(format!("invalid kind (expected {}, received {})", to.kind, new.kind()));
    }
    if !new.root().get("metadata").is_some_and(Value::is_object) {
        return Err("missing metadata".to_owned());
    }
    for (what, old, new) in [
        ("name", old.name(), new.name()),
        ("namespace", old.namespace(), new.namespace()),
        ("UID", old.uid(), new.uid()),
    ] {
        if old != new {
            return Err(format!("must have the same {what}: {old} != {new}"));
        }
    }
    Ok(new)
}

/// Webhooks may change labels and annotations, and nothing else of the metadata.
fn keep_metadata(old: &Object, new: &mut Object) {
    let theirs = std::mem::take(new.metadata_mut());
    let mut metadata = old.root().get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match theirs.get(field).filter(|value| value.as_object().is_some_and(|map| !map.is_empty())) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    new.root_mut().insert("metadata".to_owned(), Value::Object(metadata));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_must_be_to_the_question() {
        let read = |response: Value| {
            let answer =
                json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response});
            read_answer(answer, "apiextensions.k8s.io/v1", "u")
        };
        let objects = read(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{"a": 1}]}));
        assert_eq!(objects, Ok(vec![json!({"a": 1})]));
        assert_eq!(read(Value::Null), Err("no response provided".to_owned()));
        assert_eq!(read(json!({"uid": "v"})), Err("expected response.uid=\"u\", got \"v\"".to_owned()));
        assert_eq!(
            read(json!({"uid": "u", "result": {"status": "Failed", "message": "no way"}})),
            Err("no way".to_owned())
        );
        let silent = read(json!({"uid": "u", "result": {"status": "Failed"}}));
        assert_eq!(silent, Err("response.result.status was 'Failed', not 'Success'".to_owned()));
    }

    #[test]
    fn only_labels_and_annotations_are_taken_over() {
        let old = json!({"metadata": {"name": "a", "labels": {"l": "1"}, "finalizers": ["x/y"]}});
        let new = json!({"metadata": {"name": "a", "annotations": {"n": "2"}, "finalizers": []}, "spec": {}});
        let (old, mut new) = (Object::from_value(old).unwrap(), Object::from_value(new).unwrap());
        keep_metadata(&old, &mut new);
        let want = json!({"metadata": {"name": "a", "annotations": {"n": "2"}, "finalizers": ["x/y"]}, "spec": {}});
        assert_eq!(new.into_value(), want);
    }
}
