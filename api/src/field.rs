//! Field paths and field errors, as apimachinery's `field` package words them: clients show these texts.

use std::fmt;

use serde_json::{Map, Value};

/// How an error about no field in particular shows its path.
pub(crate) const NO_PATH: &str = "<nil>";

/// A path to a field, printed as Kubernetes prints it: `spec.containers[0].ports[1].name`, `metadata.labels[app]`.
///
/// Cheap to extend: `path.child("spec").index(0).key("app")` each make a new path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    /// A path of one field; an empty name is the object itself.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The field `name` below this one.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self(name.to_owned());
        }
        Self(format!("{}.{name}", self.0))
    }

    /// The element at `index` of this list.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The entry `key` of this map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a field was refused. The names in [`Kind::reason`] are the API's cause reasons (`FieldValueInvalid`, ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    InternalError,
    TypeInvalid,
}

impl Kind {
    /// The cause reason of a `Status`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::InternalError => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// One refused field. `message` is the whole text without the path (`Invalid value: "x": must be ...`), so that
/// `"{path}: {message}"` is what a `Status` message shows and `message` alone is the cause's message.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub path: Path,
    pub kind: Kind,
    pub message: String,
}

impl FieldError {
    fn new(path: &Path, kind: Kind, message: String) -> Self {
        Self { path: path.clone(), kind, message }
    }

    /// A field that must be given; `detail` may be empty.
    pub fn required(path: &Path, detail: &str) -> Self {
        Self::new(path, Kind::Required, with_detail("Required value", detail))
    }

    /// A value that breaks a rule.
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(path, Kind::Invalid, with_detail(&format!("Invalid value: {}", show(&value.into())), detail))
    }

    /// A value of the wrong type.
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(path, Kind::TypeInvalid, with_detail(&format!("Invalid value: {}", show(&value.into())), detail))
    }

    /// A value that is not one of `supported`, which is listed in the order given.
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let head = format!("Unsupported value: {}", show(&value.into()));
        if supported.is_empty() {
            return Self::new(path, Kind::NotSupported, head);
        }
        let quoted: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        Self::new(path, Kind::NotSupported, format!("{head}: supported values: {}", quoted.join(", ")))
    }

    /// A second occurrence of a value that must be unique.
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(path, Kind::Duplicate, format!("Duplicate value: {}", show(&value.into())))
    }

    /// A field that may not be set here.
    pub fn forbidden(path: &Path, detail: &str) -> Self {
        Self::new(path, Kind::Forbidden, with_detail("Forbidden", detail))
    }

    /// A reference to something that is not there.
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(path, Kind::NotFound, format!("Not found: {}", show(&value.into())))
    }

    /// A text or list of more than `max` bytes.
    pub fn too_long(path: &Path, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::new(path, Kind::TooLong, format!("Too long: may not be more than {max} {unit}"))
    }

    /// A list of `actual` elements where at most `max` are allowed.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(path, Kind::TooMany, format!("Too many: {actual}: must have at most {max} {unit}"))
    }

    /// Something that is the server's fault.
    pub fn internal(path: &Path, detail: &str) -> Self {
        Self::new(path, Kind::InternalError, with_detail("Internal error", detail))
    }
}

impl FieldError {
    /// The error of a part that lies at `base`. Errors without a path of their own stay as they are.
    #[must_use]
    pub fn below(mut self, base: &Path) -> Self {
        let path = self.path.as_str();
        if path == NO_PATH {
            return self;
        }
        let joint = if path.is_empty() || path.starts_with('[') || base.as_str().is_empty() { "" } else { "." };
        self.path = Path(format!("{base}{joint}{path}"));
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

fn with_detail(head: &str, detail: &str) -> String {
    if detail.is_empty() { head.to_owned() } else { format!("{head}: {detail}") }
}

/// Shows a value as Go's field errors do: strings quoted, `null` bare, everything else as compact JSON.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let show = |(name, value): (&String, &Value)| format!("{}:{}", Value::from(name.as_str()), show(value));
            format!("{{{}}}", in_go_order(fields).into_iter().map(show).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

const SELECTOR: &[&str] = &["matchLabels", "matchExpressions"];
const MANAGED: &[&str] = &["manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1", "subresource"];
const OWNER: &[&str] = &["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
const METADATA: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// The fields of an object in the order in which Go's encoder writes them, where that is known. The types of
/// `meta/v1` are told by their fields; those of maps are sorted.
pub fn in_go_order(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let has = |name: &str| fields.contains_key(name);
    let order = match () {
        () if has("matchLabels") && has("matchExpressions") => SELECTOR,
        () if has("fieldsType") && has("operation") => MANAGED,
        () if has("uid") && has("kind") && has("apiVersion") => OWNER,
        () if fields.get("managedFields").is_some_and(Value::is_array) => METADATA,
        () => return fields.iter().collect(),
    };
    sorted(fields, order)
}

/// The fields of `metadata`, as [`in_go_order`].
pub fn metadata_in_go_order(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    sorted(fields, METADATA)
}

/// The fields of an object, those of `order` first and in that order.
pub fn sorted<'f>(fields: &'f Map<String, Value>, order: &[&str]) -> Vec<(&'f String, &'f Value)> {
    let mut all: Vec<_> = fields.iter().collect();
    all.sort_by_key(|(name, _)| order.iter().position(|known| known == name).unwrap_or(order.len()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_print_as_kubernetes_prints_them() {
        let path = Path::new("spec").child("containers").index(0).child("resources").child("limits").key("cpu");
        assert_eq!(path.to_string(), "spec.containers[0].resources.limits[cpu]");
    }

    #[test]
    fn what_go_knows_is_shown_in_its_order() {
        let selector = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}], "matchLabels": {"a": "b"}});
        let want = r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"a","operator":"Exists"}]}"#;
        assert_eq!(show(&selector), want);
        let metadata = json!({"managedFields": [{"apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "m",
            "operation": "Update"}], "labels": {"z": "", "a": ""}, "name": "x"});
        let want = r#"{"name":"x","labels":{"a":"","z":""},"managedFields":[{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1"}]}"#;
        assert_eq!(show(&metadata), want);
    }

    #[test]
    fn errors_carry_value_and_detail() {
        let path = Path::new("spec").child("x");
        let cases = [
            (FieldError::required(&path, ""), "spec.x: Required value"),
            (FieldError::invalid(&path, -1, "must be positive"), "spec.x: Invalid value: -1: must be positive"),
            (
                FieldError::not_supported(&path, "a", &["B", "C"]),
                r#"spec.x: Unsupported value: "a": supported values: "B", "C""#,
            ),
            (FieldError::duplicate(&path, "a"), r#"spec.x: Duplicate value: "a""#),
        ];
        for (error, want) in cases {
            assert_eq!(error.to_string(), want);
        }
    }
}
