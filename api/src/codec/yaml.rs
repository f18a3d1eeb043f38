//! YAML bodies: the first document of a text, with the rules of YAML 1.1 that Kubernetes clients rely on.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::json::MAX_DEPTH;
use super::node::Node;

/// Documents that nest deeper, of which there are few, are read on a stack of their own.
const SHALLOW: usize = 40;
const STACK: usize = 32 << 20;
/// Nodes of a document: one of the greatest size could hold hardly more.
const MAX_NODES: usize = 1_000_000;
/// Nodes that aliases may repeat, all together.
const MAX_REPLAYED: usize = 100_000;

/// Why a text is no YAML: `line 1: ...`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("yaml: line {line}: {message}")]
pub struct Error {
    pub line: u64,
    pub message: String,
}

/// A key that stands twice in a mapping; later ones after it are not reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    pub line: u64,
    pub key: String,
}

impl fmt::Display for Duplicate {
    /// As the reference words it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "yaml: unmarshal errors:\n  line {}: key {:?} already set in map", self.line, self.key)
    }
}

/// Parses the first document; of duplicate keys the last one counts, and the first that was found is told.
pub fn parse(text: &[u8]) -> Result<(Node<'static>, Option<Duplicate>), Error> {
    let text = std::str::from_utf8(text)
        .map_err(|error| Error { line: line_of(text, error.valid_up_to()), message: "invalid UTF-8".to_owned() })?;
    let text = first_document(text);
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---") {
        return Ok((Node::Null, None));
    }
    let read = match document(text, SHALLOW) {
        Err(error) if is_too_deep(&error) => on_a_large_stack(|| document(text, MAX_DEPTH + 2)),
        read => read,
    };
    read.map_err(|error| refused(&error))
}

/// A document, and what is told of a duplicate key.
type Document = Result<(Node<'static>, Option<Duplicate>), serde_saphyr::Error>;

fn document(text: &str, depth: usize) -> Document {
    match read(text, DuplicateKeyPolicy::Error, depth) {
        Ok(node) => Ok((node, None)),
        Err(error) => {
            let Some(duplicate) = duplicate(error.without_snippet()) else { return Err(error) };
            Ok((read(text, DuplicateKeyPolicy::LastWins, depth)?, Some(duplicate)))
        }
    }
}

fn read(text: &str, duplicate_keys: DuplicateKeyPolicy, depth: usize) -> Result<Node<'static>, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
        emit_comments: false,
        budget: serde_saphyr::budget! { max_depth: depth, max_nodes: MAX_NODES, max_events: 3 * MAX_NODES },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
    };
    serde_saphyr::from_str_with_options(text, options)
}

fn is_too_deep(error: &serde_saphyr::Error) -> bool {
    matches!(error.without_snippet(), serde_saphyr::Error::Budget { breach: BudgetBreach::Depth { .. }, .. })
}

/// Reads with room for the parser, which goes down several frames for a level.
fn on_a_large_stack(read: impl FnOnce() -> Document + Send) -> Document {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, read);
        let joined = thread.map_err(|_| "no thread for a deep document").map(std::thread::ScopedJoinHandle::join);
        match joined {
            Ok(Ok(read)) => read,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(why) => Err(de::Error::custom(why)),
        }
    })
}

fn refused(error: &serde_saphyr::Error) -> Error {
    let error = error.without_snippet();
    let line = error.location().map_or(1, |location| location.line());
    let text = error.to_string();
    let message = text.lines().next().unwrap_or("").to_owned();
    let message = if is_open_collection(&message) { "did not find expected node content".to_owned() } else { message };
    Error { line, message }
}

/// A flow list or map that nobody closed, which libyaml words in its own way.
fn is_open_collection(message: &str) -> bool {
    message.contains("unclosed") || message.contains("unexpected end") || message.contains("while parsing a node")
}

fn duplicate(error: &serde_saphyr::Error) -> Option<Duplicate> {
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key, location } => {
            Some(Duplicate { line: location.line(), key: key.clone().unwrap_or_default() })
        }
        _ => None,
    }
}

/// The text up to the marker that ends the first document. Such a marker begins a line, which no text inside a
/// document can.
fn first_document(text: &str) -> &str {
    let mut begun = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let marker = line.strip_prefix("---").or_else(|| line.strip_prefix("..."));
        let is_marker = marker.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if is_marker && begun {
            return &text[..at];
        }
        begun |= !line.trim().is_empty()
            && !line.starts_with(['#', '%'])
            && (!is_marker || marker.is_some_and(|rest| !rest.trim().is_empty()));
        at += line.len();
    }
    text
}

fn line_of(text: &[u8], at: usize) -> u64 {
    text[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1
}

impl<'de> Deserialize<'de> for Node<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor { depth: 0 })
    }
}

#[derive(Clone, Copy)]
struct NodeVisitor {
    depth: usize,
}

impl NodeVisitor {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH { Err(E::custom("exceeded max depth")) } else { Ok(Self { depth: self.depth + 1 }) }
    }
}

impl<'de> de::DeserializeSeed<'de> for NodeVisitor {
    type Value = Node<'static>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A key of a mapping as JSON has it: numbers and booleans become text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar as key")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Key, E> {
        Ok(Key(text.to_owned()))
    }
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Node::Bool(flag))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Node::Number(Cow::Owned(number.to_string())))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Node::Number(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        let number =
            serde_json::Number::from_f64(number).ok_or_else(|| E::custom("a number without a value in JSON"))?;
        let text = number.to_string();
        // A whole number that was written as a float (`1.0`) is a whole number in JSON.
        Ok(Node::Number(Cow::Owned(text.strip_suffix(".0").map_or(text.clone(), str::to_owned))))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Node::String(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(Node::String(Cow::Owned(text)))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(node) = access.next_element_seed(inner)? {
            list.push(node);
        }
        Ok(Node::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let inner = self.deeper()?;
        let mut fields = Vec::new();
        while let Some(Key(key)) = access.next_key()? {
            fields.push((Cow::Owned(key), access.next_value_seed(inner)?));
        }
        // The reference reads YAML by way of JSON with sorted fields, and reports them in that order.
        fields.sort_by(|(one, _): &(Cow<'_, str>, _), (other, _)| one.cmp(other));
        fields.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Ok(Node::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(text: &str, want: Value) {
        let (node, duplicate) = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((node.into_value(), duplicate), (want, None), "{text}");
    }

    #[test]
    fn manifests_read_as_clients_read_them() {
        check("a: 1\nb: [x, 'y']\n", json!({"a": 1, "b": ["x", "y"]}));
        check("mode: 0644\n", json!({"mode": 420}));
        check("a: yes\nb: off\nc: 'no'\n", json!({"a": true, "b": false, "c": "no"}));
        check("a: ~\nb:\n", json!({"a": null, "b": null}));
        check("a: 1.0\nb: 1.5\n", json!({"a": 1, "b": 1.5}));
        check("1: x\ntrue: z\n", json!({"1": "x", "true": "z"}));
        check("x: &a {k: v}\ny:\n  <<: *a\n  m: o\n", json!({"x": {"k": "v"}, "y": {"k": "v", "m": "o"}}));
        check("a: |\n  x\n  ---\n  y\n", json!({"a": "x\n---\ny\n"}));
        check("# only a comment\n", Value::Null);
        check("{\"a\": \"b\"}", json!({"a": "b"}));
    }

    #[test]
    fn only_the_first_document_counts() {
        check("---\na: 1\n---\nb: 2\n", json!({"a": 1}));
        check("a: 1\n...\nb: 2\n", json!({"a": 1}));
    }

    #[test]
    fn duplicates_are_told_and_the_last_wins() {
        let (node, duplicate) = parse(b"a: 1\nb:\n  name: x\n  name: z\n").expect("YAML");
        assert_eq!(node.into_value(), json!({"a": 1, "b": {"name": "z"}}));
        let text = "yaml: unmarshal errors:\n  line 4: key \"name\" already set in map";
        assert_eq!(duplicate.map(|d| d.to_string()).as_deref(), Some(text));
    }

    #[test]
    fn errors_name_the_line() {
        let error = parse(b"a: [").expect_err("not closed");
        assert_eq!(error.to_string(), "yaml: line 1: did not find expected node content");
        assert!(parse(b"a: b: c\n").is_err());
        assert!(parse(b"\xff").is_err());
        assert!(parse(b"a: .nan\n").is_err());
    }

    #[test]
    fn alias_bombs_and_deep_nesting_are_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let list = vec![format!("*a{}", level - 1); 10].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        assert!(parse(bomb.as_bytes()).is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
