//! Small documents as Go prints them: fields in the order of the Go types rather than of the alphabet.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value};

/// The fields of documents, as far as their order is known: `Status`, discovery, reviews, `Scale`.
const ROOT: [&str; 15] = [
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
/// The fields of what lies within them.
const WITHIN: [&str; 36] = [
    "name",
    "generateName",
    "singularName",
    "namespaced",
    "namespace",
    "selfLink",
    "groupVersion",
    "group",
    "version",
    "kind",
    "uid",
    "resourceVersion",
    "continue",
    "remainingItemCount",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "causes",
    "retryAfterSeconds",
    "verbs",
    "shortNames",
    "categories",
    "storageVersionHash",
    "versions",
    "preferredVersion",
    "serverAddressByClientCIDRs",
    "reason",
    "message",
    "field",
    "clientCIDR",
];

/// A document that is written in the order of Go's types. What is not known of comes last, in the order that it has.
pub(super) struct InOrder<'a>(pub(super) &'a Value);

struct Part<'a>(&'a Value, &'static [&'static str]);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Part(self.0, &ROOT).serialize(serializer)
    }
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => fields(map, self.1, serializer),
            Value::Array(list) => serializer.collect_seq(list.iter().map(|item| Part(item, &WITHIN))),
            other => other.serialize(serializer),
        }
    }
}

fn fields<S: Serializer>(map: &Map<String, Value>, order: &[&str], serializer: S) -> Result<S::Ok, S::Error> {
    let rank = |name: &String| order.iter().position(|known| known == name).unwrap_or(order.len());
    let mut fields: Vec<_> = map.iter().collect();
    fields.sort_by_key(|(name, _)| rank(name));
    let mut written = serializer.serialize_map(Some(fields.len()))?;
    for (name, value) in fields {
        written.serialize_entry(name, &Part(value, &WITHIN))?;
    }
    written.end()
}

#[cfg(test)]
mod tests {
    use api::ApiError;
    use api::status::Qualified;

    use super::*;

    #[test]
    fn a_status_is_printed_as_go_prints_it() {
        let err = ApiError::not_found(Qualified { group: "", resource: "pods" }, "p");
        let text = serde_json::to_string(&InOrder(&err.to_value())).unwrap();
        let want = concat!(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"p\" not found","#,
            r#""reason":"NotFound","details":{"name":"p","kind":"pods"},"code":404}"#
        );
        assert_eq!(text, want);
    }
}
