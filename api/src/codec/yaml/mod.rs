//! YAML bodies: the first document of a text, as goyaml, with which Kubernetes reads, understands it.
//!
//! ```text
//! text -> characters (cursor) -> tokens (scan, scalars, properties) -> nodes (compose) -> values (resolve, decode)
//! ```

mod compose;
mod cursor;
mod decode;
mod properties;
mod resolve;
mod scalars;
mod scan;

use std::fmt;

use super::node::Node;

/// Nodes of a document: one of the greatest size could hold hardly more.
const MAX_NODES: usize = 1_000_000;

/// Why a text is no YAML, or none that JSON could say. Lines count from one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("yaml: line {line}: {message}")]
    At { line: usize, message: String },
    #[error("yaml: {0}")]
    Whole(String),
    #[error("{0}")]
    NotJson(String),
}

impl Error {
    /// An error in a line; the reference leaves the number out where it is zero.
    fn at(line: usize, message: &str) -> Self {
        let message = message.to_owned();
        if line == 0 { Self::Whole(message) } else { Self::At { line, message } }
    }
}

fn too_deep() -> Error {
    Error::Whole("exceeded max depth".to_owned())
}

/// A key that stands twice in a mapping, and the line of its later value, from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    pub line: u64,
    /// As Go writes it.
    pub key: String,
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: key {} already set in map", self.line, self.key)
    }
}

/// All the keys of a document that stand twice, of which there is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicates(Vec<Duplicate>);

impl Duplicates {
    /// The keys in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Duplicate> {
        self.0.iter()
    }
}

impl fmt::Display for Duplicates {
    /// As the reference words it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("yaml: unmarshal errors:")?;
        self.iter().try_for_each(|duplicate| write!(f, "\n  {duplicate}"))
    }
}

/// Parses the first document; of duplicate keys the last one counts, and all are told.
pub fn parse(text: &[u8]) -> Result<(Node<'static>, Option<Duplicates>), Error> {
    let text = readable(text)?;
    let Some(document) = compose::compose(text)? else { return Ok((Node::Null, None)) };
    let (node, duplicates) = decode::decode(&document)?;
    Ok((node, (!duplicates.is_empty()).then_some(Duplicates(duplicates))))
}

/// A text without its byte order mark, of characters that YAML allows.
fn readable(text: &[u8]) -> Result<&str, Error> {
    let whole = |message: &str| Error::Whole(message.to_owned());
    let text = std::str::from_utf8(text).map_err(|error| whole(not_utf8(&text[error.valid_up_to()..], error)))?;
    if text.chars().all(is_allowed) {
        Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
    } else {
        Err(whole("control characters are not allowed"))
    }
}

fn is_allowed(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' | '\u{85}' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => !c.is_control(),
    }
}

/// What is wrong with a text from here on.
fn not_utf8(rest: &[u8], error: std::str::Utf8Error) -> &'static str {
    let width = match rest.first() {
        Some(0xC0..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF7) => 4,
        _ => return "invalid leading UTF-8 octet",
    };
    if error.error_len().is_none() || rest.len() < width {
        "incomplete UTF-8 octet sequence"
    } else if rest[1..width].iter().any(|byte| byte & 0xC0 != 0x80) {
        "invalid trailing UTF-8 octet"
    } else {
        "invalid length of a UTF-8 sequence"
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
        check(
            "x: &a {k: v}\nz:\n  <<: *a\n  m: o\ny: p\n",
            json!({"x": {"k": "v"}, "z": {"k": "v", "m": "o"}, "true": "p"}),
        );
        check("a: |\n  x\n  ---\n  y\n", json!({"a": "x\n---\ny\n"}));
        check("# only a comment\n", Value::Null);
        check("{\"a\": \"b\"}", json!({"a": "b"}));
    }

    /// Recorded from goyaml v2.4.0 by way of sigs.k8s.io/yaml: manifests, corner cases, and what random changes make of
    /// them.
    #[test]
    fn texts_read_as_goyaml_reads_them() {
        for line in include_str!("facts.jsonl").lines() {
            let fact: Value = serde_json::from_str(line).expect("facts are JSON");
            let text = fact["yaml"].as_str().expect("a text");
            let read = parse(text.as_bytes());
            match (read, fact.get("error")) {
                (Err(error), Some(recorded)) => assert_eq!(*recorded, error.to_string(), "{text:?}"),
                (Ok((node, duplicates)), None) => {
                    let duplicates = duplicates.map_or(Value::Null, |duplicates| duplicates.to_string().into());
                    assert_eq!((node.into_value(), &duplicates), (fact["json"].clone(), &fact["strict"]), "{text:?}");
                }
                (read, recorded) => panic!("{text:?}: {read:?} instead of {recorded:?}"),
            }
        }
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
        let repeated = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(1000));
        assert_eq!(
            parse(repeated.as_bytes()).expect_err("huge").to_string(),
            "yaml: document contains excessive aliasing"
        );
    }
}
