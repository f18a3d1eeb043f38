//! Documents as Go prints them: fields in the order of the Go types rather than of the alphabet, where that is known. Maps
//! of clients' own names (labels, data) are sorted, as Go sorts them.

use api::field::{in_go_order, metadata_in_go_order, sorted};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value};

type Order = &'static [&'static str];

/// The fields of documents themselves: objects, `Status`, and those of discovery.
const ROOT: Order = &[
    "kind",
    "apiVersion",
    "metadata",
    "groupVersion",
    "name",
    "versions",
    "preferredVersion",
    "serverAddressByClientCIDRs",
    "resources",
    "spec",
    "status",
    "message",
    "reason",
    "details",
    "code",
];
const DETAILS: Order = &["name", "group", "kind", "uid", "causes", "retryAfterSeconds"];
const CAUSE: Order = &["reason", "message", "field"];
const GROUP: Order = &["name", "versions", "preferredVersion", "serverAddressByClientCIDRs"];
const VERSION: Order = &["groupVersion", "version"];
const RESOURCE: Order = &[
    "name",
    "singularName",
    "namespaced",
    "group",
    "version",
    "kind",
    "verbs",
    "shortNames",
    "categories",
    "storageVersionHash",
];

/// What lies in a `Status` or a document of discovery, by the field that it lies in.
fn within(field: &str) -> Order {
    match field {
        "details" => DETAILS,
        "causes" => CAUSE,
        "groups" => GROUP,
        "versions" | "preferredVersion" => VERSION,
        "resources" => RESOURCE,
        _ => &[],
    }
}

/// A document that is written in the order of Go's types.
pub(super) struct InOrder<'a>(pub(super) &'a Value);

/// A part of a document, and the field that it lies in.
struct Part<'a> {
    value: &'a Value,
    field: &'a str,
    /// Whether fields tell the types of what lies in them.
    is_known: bool,
}

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(map) = self.0 else { return self.0.serialize(serializer) };
        let is_known = matches!(
            map.get("kind").and_then(Value::as_str),
            Some("Status" | "APIVersions" | "APIGroupList" | "APIGroup" | "APIResourceList")
        );
        write(sorted(map, ROOT), is_known, serializer)
    }
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { value, field, is_known } = *self;
        match value {
            Value::Object(map) => write(ordered(map, field, is_known), is_known, serializer),
            Value::Array(list) => serializer.collect_seq(list.iter().map(|value| Part { value, field, is_known })),
            other => other.serialize(serializer),
        }
    }
}

fn ordered<'a>(map: &'a Map<String, Value>, field: &str, is_known: bool) -> Vec<(&'a String, &'a Value)> {
    match field {
        field if is_known => sorted(map, within(field)),
        "metadata" => metadata_in_go_order(map),
        _ => in_go_order(map),
    }
}

fn write<S: Serializer>(fields: Vec<(&String, &Value)>, is_known: bool, serializer: S) -> Result<S::Ok, S::Error> {
    let mut written = serializer.serialize_map(Some(fields.len()))?;
    for (field, value) in fields {
        written.serialize_entry(field, &Part { value, field, is_known })?;
    }
    written.end()
}

#[cfg(test)]
mod tests {
    use api::ApiError;
    use api::status::Qualified;
    use serde_json::json;

    use super::*;

    fn printed(tree: &Value) -> String {
        serde_json::to_string(&InOrder(tree)).unwrap()
    }

    #[test]
    fn a_status_is_printed_as_go_prints_it() {
        let err = ApiError::not_found(Qualified { group: "", resource: "pods" }, "p");
        let want = concat!(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"p\" not found","#,
            r#""reason":"NotFound","details":{"name":"p","kind":"pods"},"code":404}"#
        );
        assert_eq!(printed(&err.to_value()), want);
    }

    #[test]
    fn names_of_clients_are_sorted() {
        let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"kind": "a", "name": "b"},
            "metadata": {"labels": {"group": "a", "name": "b"}, "name": "m"}});
        let want = concat!(
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"m","labels":{"group":"a","name":"b"}},"#,
            r#""data":{"kind":"a","name":"b"}}"#
        );
        assert_eq!(printed(&tree), want);
    }

    #[test]
    fn discovery_begins_with_names() {
        let tree = json!({"kind": "APIResourceList", "groupVersion": "v1", "apiVersion": "v1",
            "resources": [{"kind": "Pod", "name": "pods", "namespaced": true, "singularName": "pod", "verbs": ["get"]}]});
        let want = concat!(
            r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"v1","resources":[{"name":"pods","#,
            r#""singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get"]}]}"#
        );
        assert_eq!(printed(&tree), want);
    }
}
