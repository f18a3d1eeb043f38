//! An object as the server holds it: a JSON tree with typed access to its metadata.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A Kubernetes object as a JSON tree whose root is known to be a JSON object.
///
/// Accessors read the tree in place and answer "absent" for values of a wrong type: schema validation, which runs
/// before anything that matters, is what refuses those.
#[derive(Clone, Debug, PartialEq)]
pub struct Object(
    /// Always a JSON object: nothing here hands it out to be replaced.
    Value,
);

impl Default for Object {
    fn default() -> Self {
        Self(Value::Object(Map::new()))
    }
}

impl Object {
    /// Wraps a tree; `None` when the root is not a JSON object.
    pub fn from_value(value: Value) -> Option<Self> {
        value.is_object().then_some(Self(value))
    }

    /// The root.
    pub fn root(&self) -> &Map<String, Value> {
        match &self.0 {
            Value::Object(map) => map,
            _ => unreachable!("only JSON objects are wrapped"),
        }
    }

    /// The root, to change.
    pub fn root_mut(&mut self) -> &mut Map<String, Value> {
        match &mut self.0 {
            Value::Object(map) => map,
            _ => unreachable!("only JSON objects are wrapped"),
        }
    }

    /// The tree, in place.
    pub fn as_value(&self) -> &Value {
        &self.0
    }

    /// The tree as a value.
    pub fn into_value(self) -> Value {
        self.0
    }

    /// A copy of the tree as a value.
    pub fn to_value(&self) -> Value {
        self.0.clone()
    }

    /// The value at `path`.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |at, step| at.get(*step))
    }

    /// The text at `path`, `""` when absent.
    pub fn text(&self, path: &[&str]) -> &str {
        self.get(path).and_then(Value::as_str).unwrap_or("")
    }

    /// The integer at `path`.
    pub fn integer(&self, path: &[&str]) -> Option<i64> {
        self.get(path).and_then(Value::as_i64)
    }

    /// The condition of this type in the status.
    pub fn condition(&self, kind: &str) -> Option<&Value> {
        facts::conditions::find(self.get(&["status"]), kind)
    }

    /// Whether there is a condition of this type, and it holds.
    pub fn has_condition(&self, kind: &str) -> bool {
        facts::conditions::is_true(self.get(&["status"]), kind)
    }

    /// The value at `path`, to change.
    pub fn get_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get_mut(*first)?, |at, step| at.get_mut(*step))
    }

    /// Sets the value at `path`, making the maps on the way (replacing what is not a map).
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut at = self.root_mut();
        for step in parents {
            let next = at.entry(*step).or_insert_with(|| Value::Object(Map::new()));
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            let Value::Object(map) = next else { return };
            at = map;
        }
        at.insert((*last).to_owned(), value.into());
    }

    /// Removes the value at `path` and returns it.
    pub fn remove(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        if parents.is_empty() {
            return self.root_mut().remove(*last);
        }
        self.get_mut(parents)?.as_object_mut()?.remove(*last)
    }

    /// `apiVersion`.
    pub fn api_version(&self) -> &str {
        self.text(&["apiVersion"])
    }

    /// `kind`.
    pub fn kind(&self) -> &str {
        self.text(&["kind"])
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.text(&["metadata", "name"])
    }

    /// `metadata.namespace`, `""` for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.text(&["metadata", "namespace"])
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.text(&["metadata", "uid"])
    }

    /// `metadata.resourceVersion`.
    pub fn resource_version(&self) -> &str {
        self.text(&["metadata", "resourceVersion"])
    }

    /// `metadata.generation`, 0 when absent.
    pub fn generation(&self) -> i64 {
        self.integer(&["metadata", "generation"]).unwrap_or(0)
    }

    /// Whether `metadata.deletionTimestamp` is set.
    pub fn is_being_deleted(&self) -> bool {
        self.get(&["metadata", "deletionTimestamp"]).is_some_and(|at| !at.is_null())
    }

    /// The label `key`.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.get(&["metadata", "labels"])?.get(key)?.as_str()
    }

    /// `metadata.labels`.
    pub fn labels(&self) -> Option<&Map<String, Value>> {
        self.get(&["metadata", "labels"])?.as_object()
    }

    /// The annotation `key`.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.get(&["metadata", "annotations"])?.get(key)?.as_str()
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> Vec<&str> {
        let list = self.get(&["metadata", "finalizers"]).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// `metadata`, made when absent.
    pub fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        let slot = self.root_mut().entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if !slot.is_object() {
            *slot = Value::Object(Map::new());
        }
        match slot {
            Value::Object(map) => map,
            _ => unreachable!("replaced by a map just above"),
        }
    }

    /// Sets `metadata.<name>`.
    pub fn set_metadata(&mut self, name: &str, value: impl Into<Value>) {
        self.metadata_mut().insert(name.to_owned(), value.into());
    }

    /// The object as a `k8s-openapi` struct (unknown fields are lost: for reading only).
    pub fn to_typed<K: DeserializeOwned>(&self) -> Result<K, serde_json::Error> {
        serde_json::from_value(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_makes_the_way_and_remove_takes_back() {
        let mut object = Object::default();
        object.set(&["metadata", "labels", "a"], "b");
        assert_eq!(object.label("a"), Some("b"));
        assert_eq!(object.remove(&["metadata", "labels", "a"]), Some("b".into()));
        assert_eq!(object.label("a"), None);
        assert_eq!(object.remove(&["spec", "x"]), None);
    }
}
