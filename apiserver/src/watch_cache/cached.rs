//! One committed object: its JSON with the resourceVersion, made once, and what selectors ask of it.
//!
//! Values in the store have a fixed head, `{"kind":K,"apiVersion":V,"metadata":{`, and no resourceVersion, which the
//! store only decides when it commits. So the served bytes are the stored ones with one splice:
//!
//! ```text
//! {"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"7","name":"a", ...}, ...}
//!                                ^ item                           ^ after the splice: the stored bytes again
//! ```

use std::sync::Arc;

use api::{Object, Resource};
use bytes::Bytes;
use serde_json::{Map, Value};

const METADATA: &[u8] = b"\"metadata\":{";
const VERSION: &[u8] = b"\"resourceVersion\":\"";

/// An object at one revision.
#[derive(Debug)]
pub struct Cached {
    /// The key in the store.
    pub key: Arc<str>,
    /// The revision that wrote it: its resourceVersion.
    pub revision: u64,
    /// The whole object as JSON.
    pub bytes: Bytes,
    /// `metadata.labels`.
    pub labels: Option<Map<String, Value>>,
    /// The values of the resource's selectable fields, in their order.
    pub fields: Box<[Box<str>]>,
    item: usize,
    namespace: std::ops::Range<usize>,
}

/// A value in the store that is not an object.
#[derive(Debug, thiserror::Error)]
#[error("{key} holds no JSON object")]
pub struct Unreadable {
    key: String,
}

impl Cached {
    /// Reads a stored value.
    pub fn read(row: &Resource, key: Arc<str>, value: &[u8], revision: u64) -> Result<Self, Unreadable> {
        let unreadable = || Unreadable { key: key.to_string() };
        let tree: Value = serde_json::from_slice(value).map_err(|_| unreadable())?;
        let mut object = Object::from_value(tree).ok_or_else(unreadable)?;
        let as_stored = !row.custom.as_ref().is_some_and(|custom| custom.revive(&mut object));
        let (bytes, item) = match splice(value, revision).filter(|_| as_stored) {
            Some(spliced) => spliced,
            None => splice(&stored_bytes(&object), revision).ok_or_else(unreadable)?,
        };
        let fields = row.selectable_fields.iter().map(|field| field.value_in(&object).into()).collect();
        let namespace = namespace_range(&key, row.namespaced);
        Ok(Self { revision, bytes, labels: object.labels().cloned(), fields, item, namespace, key })
    }

    /// The same object under another revision: what a DELETED event shows.
    pub fn at_revision(&self, revision: u64) -> Self {
        let start = self.item + METADATA.len() + VERSION.len();
        let rest = &self.bytes[start..];
        let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(0);
        let mut bytes = Vec::with_capacity(self.bytes.len() + 20);
        bytes.extend_from_slice(&self.bytes[..start]);
        bytes.extend_from_slice(revision.to_string().as_bytes());
        bytes.extend_from_slice(&rest[end..]);
        Self {
            key: self.key.clone(),
            revision,
            bytes: bytes.into(),
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            item: self.item,
            namespace: self.namespace.clone(),
        }
    }

    /// The bytes after `{"kind":..,"apiVersion":..,`: an item of a typed list is `{` and these.
    pub fn item(&self) -> &[u8] {
        &self.bytes[self.item..]
    }

    /// `apiVersion`.
    pub fn api_version(&self) -> &str {
        // The head ends with `"apiVersion":"V",`.
        let head = self.bytes.get(..self.item).and_then(|head| head.strip_suffix(b"\",")).unwrap_or_default();
        let start = head.iter().rposition(|byte| *byte == b'"').map_or(0, |at| at + 1);
        std::str::from_utf8(&head[start..]).unwrap_or("")
    }

    /// `metadata.namespace`, `""` for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        &self.key[self.namespace.clone()]
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or("")
    }

    /// The object as a tree.
    pub fn object(&self) -> Object {
        let tree = serde_json::from_slice(&self.bytes).expect("bytes were made from a tree");
        Object::from_value(tree).expect("bytes were made from an object")
    }
}

/// An object as it lies in the store: head first, without its resourceVersion.
pub fn stored_bytes(object: &Object) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"kind\":");
    write_json(&mut out, &object.kind());
    out.extend_from_slice(b",\"apiVersion\":");
    write_json(&mut out, &object.api_version());
    out.extend_from_slice(b",\"metadata\":{");
    let metadata = object.root().get("metadata").and_then(Value::as_object);
    let fields = metadata.into_iter().flatten().filter(|(name, _)| name.as_str() != "resourceVersion");
    write_fields(&mut out, fields, false);
    out.push(b'}');
    let rest = object.root().iter().filter(|(name, _)| !matches!(name.as_str(), "kind" | "apiVersion" | "metadata"));
    write_fields(&mut out, rest, true);
    out.push(b'}');
    out
}

fn write_fields<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'a String, &'a Value)>, mut comma: bool) {
    for (name, value) in fields {
        if comma {
            out.push(b',');
        }
        comma = true;
        write_json(out, name);
        out.push(b':');
        write_json(out, value);
    }
}

fn write_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("JSON trees with string keys always serialise");
}

/// Puts the resourceVersion into stored bytes; also tells where `"metadata"` begins. `None` for a foreign layout.
pub fn splice(stored: &[u8], revision: u64) -> Option<(Bytes, usize)> {
    let item = item_start(stored)?;
    let at = item + METADATA.len();
    let mut out = Vec::with_capacity(stored.len() + 44);
    out.extend_from_slice(&stored[..at]);
    out.extend_from_slice(VERSION);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.push(b'"');
    if stored.get(at) != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(&stored[at..]);
    Some((out.into(), item))
}

fn item_start(stored: &[u8]) -> Option<usize> {
    let at = skip_text(stored, 0, b"{\"kind\":\"")?;
    let at = skip_text(stored, at, b",\"apiVersion\":\"")?;
    let item = at + 1;
    (stored.get(at) == Some(&b',') && stored.get(item..)?.starts_with(METADATA)).then_some(item)
}

/// Skips `head` and the text after it up to its closing quote.
fn skip_text(bytes: &[u8], from: usize, head: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?.strip_prefix(head)?;
    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    (rest[end] == b'"').then_some(from + head.len() + end + 1)
}

fn namespace_range(key: &str, namespaced: bool) -> std::ops::Range<usize> {
    if !namespaced {
        return 0..0;
    }
    let Some(end) = key.rfind('/') else { return 0..0 };
    let start = key[..end].rfind('/').map_or(0, |at| at + 1);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stored_bytes_have_the_head_first_and_no_version() {
        let object = Object::from_value(json!({
            "apiVersion": "v1", "data": {"a": "b"}, "kind": "ConfigMap",
            "metadata": {"name": "x", "resourceVersion": "9"},
        }))
        .unwrap();
        let stored = stored_bytes(&object);
        let text = std::str::from_utf8(&stored).unwrap();
        assert_eq!(text, r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"a":"b"}}"#);
        let (bytes, item) = splice(&stored, 12).unwrap();
        assert!(bytes[item..].starts_with(br#""metadata":{"resourceVersion":"12","name":"x"}"#));
    }

    #[test]
    fn a_foreign_layout_is_not_spliced() {
        assert!(splice(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}"#, 1).is_none());
        assert!(splice(b"", 1).is_none());
    }
}
