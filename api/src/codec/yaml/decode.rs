//! From the nodes of a document to values: aliases are followed, `<<` is merged, and of keys that are given twice the last
//! one counts.

use std::borrow::Cow;
use std::collections::HashMap;

use super::compose::{Content, Document, Id};
use super::resolve::{Value, resolve};
use super::{Duplicate, Error, too_deep};
use crate::codec::json::MAX_DEPTH;
use crate::codec::node::Node;

/// Bytes of text that aliases may repeat, all together.
const MAX_REPEATED: usize = 16 << 20;
/// Up to how many steps nearly all may be due to aliases, and from how many on hardly any.
const FEW: f64 = 400_000.0;
const MANY: f64 = 4_000_000.0;

/// The value of a document, and the keys that it gives twice.
pub(super) fn decode(document: &Document) -> Result<(Node<'static>, Vec<Duplicate>), Error> {
    let mut decoder =
        Decoder { document, following: Vec::new(), steps: 1, repeated_steps: 0, repeated: 0, duplicates: Vec::new() };
    let node = decoder.node(document.root, 0)?;
    Ok((node, decoder.duplicates))
}

struct Decoder<'a> {
    document: &'a Document,
    /// The aliases that are being followed.
    following: Vec<Id>,
    steps: usize,
    /// Those of `steps` that aliases caused.
    repeated_steps: usize,
    /// Bytes of text.
    repeated: usize,
    duplicates: Vec<Duplicate>,
}

/// A mapping that is being read: its fields, and where each is.
#[derive(Default)]
struct Fields {
    list: Vec<(Cow<'static, str>, Node<'static>)>,
    places: HashMap<String, usize>,
}

impl Fields {
    /// Answers whether the key was there.
    fn set(&mut self, key: String, value: Node<'static>) -> bool {
        if let Some(place) = self.places.get(&key) {
            self.list[*place].1 = value;
            return true;
        }
        self.places.insert(key.clone(), self.list.len());
        self.list.push((Cow::Owned(key), value));
        false
    }
}

fn failed<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Whole(message.into()))
}

impl Decoder<'_> {
    fn step(&mut self) -> Result<(), Error> {
        self.steps += 1;
        self.repeated_steps += usize::from(!self.following.is_empty());
        let share = self.repeated_steps as f64 / self.steps as f64;
        let excessive = self.repeated_steps > 100 && self.steps > 1000 && share > allowed_share(self.steps as f64);
        if excessive || self.repeated > MAX_REPEATED { failed("document contains excessive aliasing") } else { Ok(()) }
    }

    fn node(&mut self, id: Id, depth: usize) -> Result<Node<'static>, Error> {
        if let Content::Alias { name, of } = &self.document.nodes[id].content {
            return self.alias(id, name, |decoder| decoder.node(*of, depth));
        }
        self.step()?;
        match &self.document.nodes[id].content {
            Content::Sequence(_) | Content::Mapping(_) if depth >= MAX_DEPTH => Err(too_deep()),
            Content::Sequence(items) => {
                let items: Result<Vec<_>, Error> = items.iter().map(|item| self.node(*item, depth + 1)).collect();
                Ok(Node::Array(items?))
            }
            Content::Mapping(pairs) => {
                let mut fields = Fields::default();
                self.pairs(pairs, &mut fields, depth)?;
                // The reference reads YAML by way of JSON with sorted fields, and reports them in that order.
                fields.list.sort_by(|(one, _), (other, _)| one.cmp(other));
                Ok(Node::Object(fields.list))
            }
            _ => self.scalar(id)?.into_node(),
        }
    }

    /// Follows an alias.
    fn alias<T>(&mut self, id: Id, name: &str, follow: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.step()?;
        if self.following.contains(&id) {
            return failed(format!("anchor '{name}' value contains itself"));
        }
        self.following.push(id);
        let followed = follow(self);
        self.following.pop();
        followed
    }

    fn scalar(&mut self, id: Id) -> Result<Value, Error> {
        let Content::Scalar { text, tag, plain } = &self.document.nodes[id].content else {
            return failed("invalid map key");
        };
        if !self.following.is_empty() {
            self.repeated += text.len();
        }
        resolve(text, tag, *plain)
    }

    fn pairs(&mut self, pairs: &[(Id, Id)], fields: &mut Fields, depth: usize) -> Result<(), Error> {
        for (key, value) in pairs {
            if self.is_merge(*key) {
                self.merge(*value, fields, depth)?;
                continue;
            }
            let key = self.key(*key, depth + 1)?;
            let shown = key.go_syntax();
            let node = self.node(*value, depth + 1)?;
            let type_ = if key == Value::Null { "%!s(<nil>)" } else { "uint64" };
            let Some(key) = key.into_key() else {
                let value = Some(go_syntax(&node)).filter(|_| node != Node::Null).unwrap_or_else(|| "<nil>".to_owned());
                let message = format!("Unsupported map key of type: {type_}, key: {shown}, value: {value}");
                return Err(Error::NotJson(message));
            };
            if fields.set(key, node) {
                let line = self.document.nodes[*value].line as u64 + 1;
                self.duplicates.push(Duplicate { line, key: shown });
            }
        }
        Ok(())
    }

    fn key(&mut self, id: Id, depth: usize) -> Result<Value, Error> {
        match &self.document.nodes[id].content {
            Content::Alias { name, of } => self.alias(id, name, |decoder| decoder.key(*of, depth)),
            Content::Scalar { .. } => {
                self.step()?;
                self.scalar(id)
            }
            _ => failed(format!("invalid map key: {}", go_syntax(&self.node(id, depth)?))),
        }
    }

    /// Whether a key is `<<`.
    fn is_merge(&self, id: Id) -> bool {
        match &self.document.nodes[id].content {
            Content::Scalar { text, tag, plain } => text == "<<" && (*plain || tag == "tag:yaml.org,2002:merge"),
            _ => false,
        }
    }

    /// Puts the fields of a mapping, or of several of which the first counts, among these.
    fn merge(&mut self, id: Id, fields: &mut Fields, depth: usize) -> Result<(), Error> {
        match &self.document.nodes[id].content {
            Content::Sequence(items) => items.iter().rev().try_for_each(|item| self.merge_one(*item, fields, depth)),
            _ => self.merge_one(id, fields, depth),
        }
    }

    fn merge_one(&mut self, id: Id, fields: &mut Fields, depth: usize) -> Result<(), Error> {
        match &self.document.nodes[id].content {
            Content::Mapping(pairs) if depth <= MAX_DEPTH => {
                self.step()?;
                self.pairs(pairs, fields, depth + 1)
            }
            Content::Alias { name, of } if matches!(self.document.nodes[*of].content, Content::Mapping(_)) => {
                self.alias(id, name, |decoder| decoder.merge_one(*of, fields, depth))
            }
            _ => failed("map merge requires map or sequence of maps as the value"),
        }
    }
}

/// Which share of the steps may be due to aliases.
fn allowed_share(steps: f64) -> f64 {
    let (few, many) = (0.99, 0.10);
    few - (few - many) * ((steps - FEW) / (MANY - FEW)).clamp(0.0, 1.0)
}

/// As Go's `%#v` shows what was read.
fn go_syntax(node: &Node<'_>) -> String {
    match node {
        Node::Null => "interface {}(nil)".to_owned(),
        Node::Bool(flag) => flag.to_string(),
        Node::Number(text) => text.to_string(),
        Node::String(text) => format!("{text:?}"),
        Node::Array(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Node::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key:?}:{}", go_syntax(value))).collect();
            format!("map[interface {{}}]interface {{}}{{{}}}", fields.join(", "))
        }
    }
}
