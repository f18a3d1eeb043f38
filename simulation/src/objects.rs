//! The objects of a cluster as they lie in the store, and what changes about them.

use std::collections::BTreeMap;

use facts::quantity::Quantity;
use serde_json::Value;
use tokio::time::Instant;

/// All objects, by the keys of the store without `/registry/`.
pub(crate) type Objects = BTreeMap<String, Value>;

/// One change, with the objects as they are after it.
pub(crate) struct Change<'a> {
    pub(crate) key: &'a str,
    pub(crate) old: Option<&'a Value>,
    pub(crate) new: Option<&'a Value>,
    pub(crate) objects: &'a Objects,
    pub(crate) at: Instant,
}

impl Change<'_> {
    /// Where objects of this kind lie: `pods`, `deployments`.
    pub(crate) fn kind(&self) -> &str {
        kind(self.key)
    }

    /// Whether an object of this kind was created.
    pub(crate) fn creates(&self, kind: &str) -> Option<&Value> {
        self.new.filter(|_| self.old.is_none() && self.kind() == kind)
    }
}

/// The kind in a key.
pub(crate) fn kind(key: &str) -> &str {
    key.split('/').next().unwrap_or_default()
}

/// The objects of a kind; with a slash and a namespace, those in it.
pub(crate) fn of<'a>(objects: &'a Objects, kind: &str) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
    let prefix = format!("{kind}/");
    let mine = objects.range(prefix.clone()..).take_while(move |(key, _)| key.starts_with(&prefix));
    mine.map(|(key, object)| (key.as_str(), object))
}

/// What stands at a path such as `/spec/nodeName`; empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// A number at a path.
pub(crate) fn number(object: &Value, path: &str) -> Option<i64> {
    object.pointer(path).and_then(Value::as_i64)
}

pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// Whether it was told to go.
pub(crate) fn is_going(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// The uid of its controller.
pub(crate) fn controller(object: &Value) -> Option<&str> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| owner["controller"] == true).map(|owner| text(owner, "/uid"))
}

/// Whether a pod has ended.
pub(crate) fn is_over(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether a pod's condition is true.
pub(crate) fn is_true(object: &Value, condition: &str) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == condition && one["status"] == "True")
}

/// Whether labels have all that a selector (a plain map) wants.
pub(crate) fn matches(selector: &Value, labels: Option<&Value>) -> bool {
    let Some(wanted) = selector.as_object() else { return false };
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// A quantity such as `250m`, `1` or `64Mi`, in thousandths.
pub(crate) fn amount(quantity: &Value) -> i64 {
    Quantity::of_value(quantity).map_or(0, Quantity::milli_value)
}

/// What a pod requests of a resource, in thousandths.
pub(crate) fn requests(pod: &Value, resource: &str) -> i64 {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let of = |container: &Value| container.pointer("/resources/requests").and_then(|all| all.get(resource)).map(amount);
    containers.into_iter().flatten().filter_map(of).sum()
}
