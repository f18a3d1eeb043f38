//! A parsed document in the order of its text: what the checked walk reads. Unlike a JSON value it keeps duplicate
//! fields and the text of numbers.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

/// One value of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    Null,
    Bool(bool),
    /// A number as written; the parsers let only valid JSON numbers through.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl Node<'_> {
    /// What Go's errors call this type of value.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// The last field of that name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().rev().find(|(field, _)| field == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The value as it stands; of duplicate fields the last one counts.
    pub fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(flag),
            Self::Number(text) => number(&text).map_or(Value::Null, Value::Number),
            Self::String(text) => Value::String(text.into_owned()),
            Self::Array(list) => Value::Array(list.into_iter().map(Node::into_value).collect()),
            Self::Object(fields) => {
                Value::Object(fields.into_iter().map(|(name, value)| (name.into_owned(), value.into_value())).collect())
            }
        }
    }
}

impl From<Value> for Node<'static> {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(flag),
            Value::Number(number) => Self::Number(Cow::Owned(number.to_string())),
            Value::String(text) => Self::String(Cow::Owned(text)),
            Value::Array(list) => Self::Array(list.into_iter().map(Self::from).collect()),
            Value::Object(map) => Self::Object(object(map)),
        }
    }
}

fn object(map: Map<String, Value>) -> Vec<(Cow<'static, str>, Node<'static>)> {
    map.into_iter().map(|(name, value)| (Cow::Owned(name), Node::from(value))).collect()
}

/// A JSON number: exact where it is an integer of 64 bits; `None` when it is beyond what a double holds.
pub(super) fn number(text: &str) -> Option<Number> {
    if let Ok(integer) = text.parse::<i64>() {
        return Some(integer.into());
    }
    if let Ok(integer) = text.parse::<u64>() {
        return Some(integer.into());
    }
    Number::from_f64(text.parse().ok()?)
}
