//! A place in an object, and the errors that rules gather about it (upstream: `field.Path`, `field.ErrorList`).

use serde_json::{Map, Value};

use super::shown::Shown;
use crate::field::{FieldError, Kind, Path};

/// Puts an old value, or its absence, back.
pub(crate) fn restore(fields: &mut Value, key: &str, value: Option<&Value>) {
    let Some(fields) = fields.as_object_mut() else { return };
    match value {
        Some(value) => drop(fields.insert(key.to_owned(), value.clone())),
        None => drop(fields.remove(key)),
    }
}

/// Rules for one object.
pub(crate) type Validate = fn(&Node<'_, '_>, &mut Errors);
/// Rules for a change: new, old.
pub(crate) type ValidateChange = fn(&Node<'_, '_>, &Node<'_, '_>, &mut Errors);
/// Texts for the client.
pub(crate) type Warn = fn(&Node<'_, '_>, Option<&Node<'_, '_>>, &mut Vec<String>);

/// The fields of one JSON object.
pub(crate) type Fields = Map<String, Value>;

/// A place in an object: its value, when there is one, and how it was reached. The path is only spelled out when an
/// error needs it.
#[derive(Clone, Copy)]
pub(crate) struct Node<'p, 'v> {
    parent: Option<&'p Node<'p, 'v>>,
    step: Step<'p, 'v>,
    value: Option<&'v Value>,
    fields: Option<&'v Fields>,
}

#[derive(Clone, Copy)]
enum Step<'p, 'v> {
    Root,
    Base(&'p Path),
    Field(&'p str),
    Index(usize),
    Key(&'v str),
}

impl<'p, 'v> Node<'p, 'v> {
    /// The object itself.
    pub(crate) fn root(fields: &'v Fields) -> Self {
        Self { parent: None, step: Step::Root, value: None, fields: Some(fields) }
    }

    /// A value that lies at `path`.
    pub(crate) fn at(path: &'p Path, value: Option<&'v Value>) -> Self {
        Self { parent: None, step: Step::Base(path), value, fields: None }
    }

    /// The field `name`, present or not.
    pub(crate) fn field<'q>(&'q self, name: &'q str) -> Node<'q, 'v> {
        let value = self.map().and_then(|map| map.get(name)).filter(|value| !value.is_null());
        Node { parent: Some(self), step: Step::Field(name), value, fields: None }
    }

    /// The entry `key` of a map, as errors name it: `labels[app]`.
    pub(crate) fn key<'q>(&'q self, key: &'v str) -> Node<'q, 'v> {
        let value = self.map().and_then(|map| map.get(key));
        Node { parent: Some(self), step: Step::Key(key), value, fields: None }
    }

    /// The element at `index`, present or not.
    pub(crate) fn index<'q>(&'q self, index: usize) -> Node<'q, 'v> {
        Node { parent: Some(self), step: Step::Index(index), value: self.list().get(index), fields: None }
    }

    /// The elements of a list; none when it is absent.
    pub(crate) fn items<'q>(&'q self) -> impl Iterator<Item = Node<'q, 'v>> + use<'q, 'v> {
        let parent = self;
        self.list().iter().enumerate().map(move |(index, value)| Node {
            parent: Some(parent),
            step: Step::Index(index),
            value: Some(value),
            fields: None,
        })
    }

    /// The entries of a map.
    pub(crate) fn entries<'q>(&'q self) -> impl Iterator<Item = (&'v str, Node<'q, 'v>)> + use<'q, 'v> {
        let parent = self;
        self.map().into_iter().flatten().map(move |(key, value)| {
            (key.as_str(), Node { parent: Some(parent), step: Step::Key(key), value: Some(value), fields: None })
        })
    }

    /// The value; `None` when absent or null.
    pub(crate) fn value(&self) -> Option<&'v Value> {
        self.value
    }

    /// Whether it means the same as another: absent, `null` and empty lists and maps are one, as in upstream's comparisons.
    pub(crate) fn is_same(&self, other: &Node<'_, '_>) -> bool {
        is_same(self.value, other.value)
    }

    /// The value as field errors show it, `null` when absent.
    pub(crate) fn shown(&self) -> Value {
        self.value.cloned().unwrap_or(Value::Null)
    }

    /// Whether there is a value.
    pub(crate) fn is_set(&self) -> bool {
        self.value.is_some() || self.fields.is_some()
    }

    /// Whether there is none.
    pub(crate) fn is_unset(&self) -> bool {
        !self.is_set()
    }

    /// The text, `""` when absent.
    pub(crate) fn text(&self) -> &'v str {
        self.value.and_then(Value::as_str).unwrap_or("")
    }

    /// The integer.
    pub(crate) fn integer(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    /// The integer of a Go value field: 0 when absent.
    pub(crate) fn number(&self) -> i64 {
        self.integer().unwrap_or(0)
    }

    /// Whether it is `true`.
    pub(crate) fn is_true(&self) -> bool {
        self.value.and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether it is `false` (and not absent).
    pub(crate) fn is_false(&self) -> bool {
        self.value.and_then(Value::as_bool) == Some(false)
    }

    /// The elements, none when absent.
    pub(crate) fn list(&self) -> &'v [Value] {
        self.value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The fields of an object or entries of a map.
    pub(crate) fn map(&self) -> Option<&'v Fields> {
        self.fields.or_else(|| self.value.and_then(Value::as_object))
    }

    /// Whether a list or map is absent or empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.list().is_empty() && self.map().is_none_or(Map::is_empty)
    }

    /// The texts of a list of texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &'v str> + use<'v> {
        self.list().iter().map(|value| value.as_str().unwrap_or(""))
    }

    /// The path, spelled out.
    pub(crate) fn path(&self) -> Path {
        let above = || self.parent.map(Node::path).unwrap_or_default();
        match self.step {
            Step::Root => Path::default(),
            Step::Base(path) => path.clone(),
            Step::Field(name) => above().child(name),
            Step::Index(index) => above().index(index),
            Step::Key(key) => above().key(key),
        }
    }
}

/// The errors found so far.
#[derive(Default)]
pub(crate) struct Errors(pub(crate) Vec<FieldError>);

impl Errors {
    pub(crate) fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    pub(crate) fn required(&mut self, at: &Node<'_, '_>, detail: &str) {
        self.push(FieldError::required(&at.path(), detail));
    }

    /// The value at `at` breaks a rule.
    pub(crate) fn invalid(&mut self, at: &Node<'_, '_>, detail: &str) {
        self.push(FieldError::invalid(&at.path(), at.shown(), detail));
    }

    /// As [`Self::invalid`], showing another value than the one at `at`.
    pub(crate) fn invalid_value(&mut self, at: &Node<'_, '_>, value: impl Into<Value>, detail: &str) {
        self.push(FieldError::invalid(&at.path(), value, detail));
    }

    /// As [`Self::invalid`], for values that are shown as Go shows its own types.
    pub(crate) fn invalid_shown(&mut self, at: &Node<'_, '_>, shown: &Shown, detail: &str) {
        let message = format!("Invalid value: {}: {detail}", shown.compact());
        self.push(FieldError { path: at.path(), kind: Kind::Invalid, message });
    }

    /// As [`Self::invalid`], for values that are not shown.
    pub(crate) fn invalid_hidden(&mut self, at: &Node<'_, '_>, detail: &str) {
        let message = format!("Invalid value: {detail}");
        self.push(FieldError { path: at.path(), kind: Kind::Invalid, message });
    }

    /// As [`Self::duplicate`], for values that are shown as Go shows its own types.
    pub(crate) fn duplicate_shown(&mut self, at: &Node<'_, '_>, shown: &Shown, detail: &str) {
        let mut message = format!("Duplicate value: {}", shown.compact());
        if !detail.is_empty() {
            message = format!("{message}: {detail}");
        }
        self.push(FieldError { path: at.path(), kind: Kind::Duplicate, message });
    }

    /// As [`Self::not_supported`], for values that are shown as Go shows its own types.
    pub(crate) fn not_supported_shown(&mut self, at: &Node<'_, '_>, shown: &Shown, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|text| format!("{text:?}")).collect();
        let message = format!("Unsupported value: {}: supported values: {}", shown.compact(), quoted.join(", "));
        self.push(FieldError { path: at.path(), kind: Kind::NotSupported, message });
    }

    /// One error per broken rule for a text, which is empty when it is not given.
    pub(crate) fn invalid_all(&mut self, at: &Node<'_, '_>, details: impl IntoIterator<Item = String>) {
        for detail in details {
            let shown = at.value().cloned().unwrap_or_else(|| "".into());
            self.invalid_value(at, shown, &detail);
        }
    }

    pub(crate) fn not_supported(&mut self, at: &Node<'_, '_>, supported: &[&str]) {
        self.push(FieldError::not_supported(&at.path(), at.shown(), supported));
    }

    pub(crate) fn duplicate(&mut self, at: &Node<'_, '_>) {
        self.push(FieldError::duplicate(&at.path(), at.shown()));
    }

    pub(crate) fn duplicate_value(&mut self, at: &Node<'_, '_>, value: impl Into<Value>) {
        self.push(FieldError::duplicate(&at.path(), value));
    }

    pub(crate) fn forbidden(&mut self, at: &Node<'_, '_>, detail: &str) {
        self.push(FieldError::forbidden(&at.path(), detail));
    }

    pub(crate) fn not_found(&mut self, at: &Node<'_, '_>) {
        self.push(FieldError::not_found(&at.path(), at.shown()));
    }

    pub(crate) fn too_long(&mut self, at: &Node<'_, '_>, max: usize) {
        self.push(FieldError::too_long(&at.path(), max));
    }

    pub(crate) fn too_many(&mut self, at: &Node<'_, '_>, actual: usize, max: usize) {
        self.push(FieldError::too_many(&at.path(), actual, max));
    }

    /// A text that must be given; answers whether it is.
    pub(crate) fn require_text(&mut self, at: &Node<'_, '_>) -> bool {
        let given = !at.text().is_empty();
        if !given {
            self.required(at, "");
        }
        given
    }

    /// A text that must be one of `supported`.
    pub(crate) fn one_of(&mut self, at: &Node<'_, '_>, supported: &[&str]) {
        if !supported.contains(&at.text()) {
            self.push(FieldError::not_supported(&at.path(), at.text(), supported));
        }
    }

    /// An optional text that must be one of `supported`.
    pub(crate) fn none_or_one_of(&mut self, at: &Node<'_, '_>, supported: &[&str]) {
        if at.is_set() {
            self.one_of(at, supported);
        }
    }

    /// An optional integer that may not be negative.
    pub(crate) fn non_negative(&mut self, at: &Node<'_, '_>) {
        if at.integer().is_some_and(|n| n < 0) {
            self.invalid(at, NOT_NEGATIVE);
        }
    }

    /// The value at `new` may not differ from the one at `old`.
    pub(crate) fn immutable(&mut self, new: &Node<'_, '_>, old: &Node<'_, '_>) {
        if !new.is_same(old) {
            self.invalid(new, IMMUTABLE);
        }
    }
}

/// The rule for counts.
pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// The rule for what cannot change.
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// Whether two values mean the same: absent, `null` and empty lists and maps are one.
pub(crate) fn is_same(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            // Each pair is looked at once: twice at each level would be too often for what nests deeply.
            one.iter().all(|(key, value)| is_same(Some(value), other.get(key)))
                && other.iter().all(|(key, value)| one.contains_key(key) || is_nothing(Some(value)))
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(Some(one), Some(other)))
        }
        (one, other) => one == other || (is_nothing(one) && is_nothing(other)),
    }
}

fn is_nothing(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(_) => false,
    }
}

/// Whether two objects differ in a field that is not in `ignored`.
pub(crate) fn differs_beside(new: &Node<'_, '_>, old: &Node<'_, '_>, ignored: &[&str]) -> bool {
    let keys = new.map().into_iter().chain(old.map()).flatten().map(|(key, _)| key.as_str());
    keys.filter(|key| !ignored.contains(key)).any(|key| !new.field(key).is_same(&old.field(key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cursor_spells_its_path_only_for_errors() {
        let value = json!({"spec": {"containers": [{"name": "c"}, {}], "labels": {"a": "b"}}});
        let root = Node::root(value.as_object().expect("an object"));
        let spec = root.field("spec");
        let containers = spec.field("containers");
        let paths: Vec<String> = containers.items().map(|c| c.field("name").path().to_string()).collect();
        assert_eq!(paths, ["spec.containers[0].name", "spec.containers[1].name"]);
        let labels = spec.field("labels");
        let keys: Vec<String> = labels.entries().map(|(_, node)| node.path().to_string()).collect();
        assert_eq!(keys, ["spec.labels[a]"]);
    }

    #[test]
    fn nothing_is_the_same_in_all_its_forms() {
        let same = |one: Value, other: Value| is_same(Some(&one), Some(&other));
        assert!(same(json!({"a": [{"b": null}], "c": {}}), json!({"a": [{}]})));
        assert!(!same(json!({"a": 0}), json!({})));
        assert!(!same(json!({"a": [1]}), json!({"a": []})));
    }
}
