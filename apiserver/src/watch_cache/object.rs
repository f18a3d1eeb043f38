//! One committed object: its JSON as it lies in the store, and what selectors ask of it.
//!
//! Values in the store have a fixed head, `{"kind":K,"apiVersion":V,"metadata":{`, and no resourceVersion, which the
//! store only decides when it commits. So the cache shares the bytes of the store, and what is served is these with one
//! splice:
//!
//! ```text
//! {"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"7","name":"a", ...}, ...}
//!                                ^ item       ^ after the splice: the stored bytes again
//! ```

use std::sync::{Arc, LazyLock, OnceLock};

use api::{Object, Resource};
use bytes::Bytes;
use serde_json::Value;

use super::labels::Labels;
use super::partial_json::Sieve;

const METADATA: &[u8] = b"\"metadata\":{";
const VERSION: &[u8] = b"\"resourceVersion\":\"";
/// The splice takes no more.
const SPLICE: usize = VERSION.len() + "18446744073709551615\",".len();

/// An object at one revision.
#[derive(Clone, Debug)]
pub struct Cached {
    /// The key in the store.
    pub key: Arc<str>,
    /// The revision that wrote it: its resourceVersion.
    pub revision: u64,
    /// `metadata.labels`.
    pub labels: Labels,
    /// The values of the resource's selectable fields, in their order.
    pub fields: Box<[Box<str>]>,
    stored: Stored,
    /// Whether it lies in the store in another form than today's schema gives it.
    revived: bool,
    namespace: std::ops::Range<usize>,
    tree: OnceLock<Box<Object>>,
    /// How long it is as an item of a protobuf list.
    encoded: OnceLock<u32>,
}

/// What selectors ask of an object.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) labels: Labels,
    pub(super) fields: Box<[Box<str>]>,
}

impl Facts {
    pub(super) fn of(row: &Resource, object: &Object) -> Self {
        let fields = row.selectable_fields.iter().map(|field| field.value_in(object).into()).collect();
        Self { labels: Labels::of(object.labels()), fields }
    }
}

/// A value in the store that is not an object.
#[derive(Debug, thiserror::Error)]
#[error("unable to transform key {key:?}: {why}")]
pub(crate) struct Unreadable {
    pub(crate) key: String,
    pub(crate) why: String,
}

impl Unreadable {
    /// A value that is no JSON; one that is encrypted is told apart, for nobody here has its key.
    fn new(key: &str, value: &[u8]) -> Self {
        let sealed = value.starts_with(crate::encryption::ENCRYPTED);
        let why =
            if sealed { crate::encryption::Error::Encrypted.to_string() } else { "it holds no JSON object".to_owned() };
        Self { key: key.to_owned(), why }
    }
}

impl Cached {
    /// Reads a stored value. `sieve` lets through what [`wanted`] says of the row.
    pub(super) fn read(
        row: &Resource,
        sieve: &Sieve,
        key: Arc<str>,
        value: &Bytes,
        revision: u64,
    ) -> Result<Self, Unreadable> {
        let unreadable = || Unreadable::new(&key, value);
        let tree = sieve.read(value).map_err(|_| unreadable())?;
        let mut object = Object::from_value(tree).ok_or_else(unreadable)?;
        let revived = row.custom.as_ref().is_some_and(|custom| custom.revive(&mut object));
        let stored = match Stored::of(value.clone()).filter(|_| !revived) {
            Some(stored) => stored,
            None if !revived => Stored::of(rewritten(value).ok_or_else(unreadable)?).ok_or_else(unreadable)?,
            None => Stored::of(stored_bytes(&object)).ok_or_else(unreadable)?,
        };
        Ok(Self { revived, ..Self::new(row, key, stored, revision, Facts::of(row, &object)) })
    }

    /// An object of which everything is known already.
    pub(super) fn new(row: &Resource, key: Arc<str>, stored: Stored, revision: u64, facts: Facts) -> Self {
        let namespace = namespace_range(&key, row.namespaced);
        let Facts { labels, fields } = facts;
        let (tree, encoded) = (OnceLock::new(), OnceLock::new());
        Self { key, revision, labels, fields, stored, revived: false, namespace, tree, encoded }
    }

    /// The same object under another revision: what a DELETED event shows.
    pub fn at_revision(&self, revision: u64) -> Self {
        Self { revision, tree: OnceLock::new(), encoded: OnceLock::new(), ..self.clone() }
    }

    /// The whole object as JSON.
    pub fn bytes(&self) -> Bytes {
        self.stored.served(self.revision)
    }

    /// About how many bytes it takes as JSON; never less.
    pub fn size(&self) -> usize {
        self.stored.value.len() + SPLICE
    }

    /// How long it is as an item of a protobuf list, if that is known.
    pub fn encoded_size(&self) -> Option<u32> {
        self.encoded.get().copied()
    }

    /// Remembers how long it is as an item of a protobuf list.
    pub fn note_encoded_size(&self, size: usize) {
        if let Ok(size) = u32::try_from(size) {
            self.encoded.get_or_init(|| size);
        }
    }

    /// Writes the whole object as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.stored.write_from(0, self.revision, out);
    }

    /// Writes the beginning of what [`Self::write`] writes, or [`Self::write_item`], and returns the rest: of a large
    /// object it is nearly everything, and is not copied.
    pub fn begin(&self, is_item: bool, out: &mut Vec<u8>) -> Bytes {
        self.stored.begin(if is_item { self.stored.item } else { 0 }, self.revision, out)
    }

    /// Writes what comes after `{"kind":..,"apiVersion":..,`: an item of a typed list is `{` and this.
    pub fn write_item(&self, out: &mut Vec<u8>) {
        self.stored.write_from(self.stored.item, self.revision, out);
    }

    /// Whether it lies in the store in another form: without defaults, or with fields, that it had when it was written.
    pub fn is_revived(&self) -> bool {
        self.revived
    }

    /// `apiVersion`.
    pub fn api_version(&self) -> &str {
        // The head ends with `"apiVersion":"V",`.
        let head = self.stored.value.get(..self.stored.item).and_then(|head| head.strip_suffix(b"\","));
        let head = head.unwrap_or_default();
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

    /// The object as a tree, parsed once and kept: for kinds that are few, change rarely and are looked into all the time.
    pub fn tree(&self) -> &Object {
        self.tree.get_or_init(|| Box::new(self.object()))
    }

    /// The object as a tree.
    pub fn object(&self) -> Object {
        self.through(&Sieve::Everything)
    }

    /// Kind, version and metadata of the object as a tree: most of a large one need not be made for that.
    pub fn without_content(&self) -> Object {
        static HEAD: LazyLock<Sieve> = LazyLock::new(|| {
            let mut sieve = Sieve::default();
            ["kind", "apiVersion", "metadata"].into_iter().for_each(|field| sieve.add(std::iter::once(field)));
            sieve
        });
        self.through(&HEAD)
    }

    fn through(&self, sieve: &Sieve) -> Object {
        let tree = match sieve {
            Sieve::Everything => serde_json::from_slice(&self.stored.value).ok(),
            some => some.read(&self.stored.value).ok(),
        };
        let object = tree.and_then(Object::from_value);
        let mut object = object.expect("what the cache holds has been read as an object before");
        object.set_metadata("resourceVersion", self.revision.to_string());
        object
    }
}

/// What the cache wants to know of the objects of a row: of custom ones all, for they may have to be revived.
pub(super) fn wanted(row: &Resource) -> Sieve {
    if row.custom.is_some() {
        return Sieve::Everything;
    }
    let mut sieve = Sieve::default();
    sieve.add(["metadata", "labels"].into_iter());
    row.selectable_fields.iter().for_each(|field| sieve.add(field.path.iter().map(AsRef::as_ref)));
    sieve
}

/// A value in our layout.
#[derive(Clone, Debug)]
pub struct Stored {
    value: Bytes,
    /// Where `"metadata"` begins.
    item: usize,
}

impl Stored {
    /// `None` for a foreign layout.
    pub fn of(value: Bytes) -> Option<Self> {
        item_start(&value).map(|item| Self { value, item })
    }

    /// The object as JSON, with its resourceVersion.
    pub fn served(&self, revision: u64) -> Bytes {
        let mut out = Vec::with_capacity(self.value.len() + SPLICE);
        self.write_from(0, revision, &mut out);
        out.into()
    }

    fn begin(&self, start: usize, revision: u64, out: &mut Vec<u8>) -> Bytes {
        let at = self.item + METADATA.len();
        self.write_head(start, revision, out);
        self.value.slice(at..)
    }

    fn write_from(&self, start: usize, revision: u64, out: &mut Vec<u8>) {
        let at = self.item + METADATA.len();
        self.write_head(start, revision, out);
        out.extend_from_slice(&self.value[at..]);
    }

    /// Writes what goes before the stored fields of the metadata.
    fn write_head(&self, start: usize, revision: u64, out: &mut Vec<u8>) {
        let at = self.item + METADATA.len();
        out.extend_from_slice(&self.value[start..at]);
        out.extend_from_slice(VERSION);
        out.extend_from_slice(revision.to_string().as_bytes());
        out.push(b'"');
        if self.value.get(at) != Some(&b'}') {
            out.push(b',');
        }
    }
}

/// A value of a foreign layout in ours.
fn rewritten(value: &[u8]) -> Option<Bytes> {
    Some(stored_bytes(&Object::from_value(serde_json::from_slice(value).ok()?)?))
}

/// An object as it lies in the store: head first, without its resourceVersion. Many are kept, so each takes no more room
/// than it needs.
pub fn stored_bytes(object: &Object) -> Bytes {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"kind\":");
    write_text(&mut out, object.kind());
    out.extend_from_slice(b",\"apiVersion\":");
    write_text(&mut out, object.api_version());
    out.extend_from_slice(b",\"metadata\":{");
    let metadata = object.root().get("metadata").and_then(Value::as_object);
    let fields = metadata.into_iter().flatten().filter(|(name, _)| name.as_str() != "resourceVersion");
    write_fields(&mut out, fields, false);
    out.push(b'}');
    let rest = object.root().iter().filter(|(name, _)| !matches!(name.as_str(), "kind" | "apiVersion" | "metadata"));
    write_fields(&mut out, rest, true);
    out.push(b'}');
    Bytes::copy_from_slice(&out)
}

fn write_fields<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'a String, &'a Value)>, mut comma: bool) {
    for (name, value) in fields {
        if comma {
            out.push(b',');
        }
        comma = true;
        write_text(out, name);
        out.push(b':');
        write_value(out, value);
    }
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => write_text(out, text),
        Value::Array(list) => {
            out.push(b'[');
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_value(out, value);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            write_fields(out, map.iter(), false);
            out.push(b'}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => write_json(out, value),
    }
}

/// Texts without anything to escape, which are nearly all, are copied.
fn write_text(out: &mut Vec<u8>, text: &str) {
    let is_escaped = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    if text.bytes().fold(false, |found, byte| found | is_escaped(byte)) {
        return write_json(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn write_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("JSON trees with string keys always serialise");
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
    fn an_object_without_content_has_its_metadata() {
        let row = api::catalog::Catalog::builtin();
        let row = row.resource("", "v1", "configmaps").unwrap();
        let value = Bytes::from(r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"a":"b"}}"#);
        let cached = Cached::read(row, &wanted(row), "/registry/configmaps/n/x".into(), &value, 7).unwrap();
        let tree = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x", "resourceVersion": "7"}});
        assert_eq!(cached.without_content().to_value(), tree);
        assert_eq!(cached.object().get(&["data", "a"]), Some(&json!("b")));
    }

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
        let served = Stored::of(stored.clone()).unwrap().served(12);
        assert_eq!(served, text.replace(r#""metadata":{"#, r#""metadata":{"resourceVersion":"12","#));
    }

    #[test]
    fn what_is_stored_reads_as_what_was_written() {
        let tree = json!({
            "apiVersion": "v1", "kind": "A\"B", "metadata": {"name": "x\u{1}\\", "é": "\u{7f}\n"}, "empty": [{}, [], ""],
            "numbers": [0, -1, 1.5, 1e300, u64::MAX], "words": {"a": null, "b": true, "c": false},
        });
        let stored = stored_bytes(&Object::from_value(tree.clone()).unwrap());
        assert_eq!(serde_json::from_slice::<Value>(&stored).unwrap(), tree);
    }

    #[test]
    fn a_foreign_layout_is_rewritten() {
        let foreign = br#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "3"}}"#;
        assert!(Stored::of(Bytes::from_static(foreign)).is_none());
        let stored = Stored::of(rewritten(foreign).unwrap()).unwrap();
        assert_eq!(stored.served(7), r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"7"}}"#);
        assert!(Stored::of(Bytes::new()).is_none() && rewritten(b"").is_none());
    }

    #[test]
    fn an_object_tells_its_labels_and_fields_and_is_served_under_its_revision() {
        let catalog = api::catalog::Catalog::builtin();
        let row = catalog.resource("", "v1", "pods").unwrap();
        let value = Bytes::from_static(
            br#"{"kind":"Pod","apiVersion":"v1","metadata":{"labels":{"a":"b"},"name":"x"},"spec":{"nodeName":"n"}}"#,
        );
        let cached = Cached::read(row, &wanted(row), "/registry/pods/default/x".into(), &value, 5).unwrap();
        assert_eq!((cached.namespace(), cached.name(), cached.labels.get("a")), ("default", "x", Some("b")));
        let node = row.selectable_fields.iter().position(|field| field.name == "spec.nodeName").unwrap();
        assert_eq!(&*cached.fields[node], "n");
        let gone = cached.at_revision(6);
        assert_eq!(gone.object().resource_version(), "6");
        assert!(
            gone.bytes().starts_with(br#"{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"6","labels""#)
        );
        assert!(gone.size() >= gone.bytes().len());
        for bad in ["[]", "{", r#"{"kind":"Pod","apiVersion":"v1","metadata":{},"x":"\ud800"}"#] {
            let read = Cached::read(row, &wanted(row), "/registry/pods/default/x".into(), &bad.into(), 5);
            assert!(read.is_err(), "{bad}");
        }
    }
}
