//! What stands before and behind the items of a list.

use serde_json::{Map, Value};

/// The bytes around the items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
}

/// How deep the items of a list that is laid out for people stand.
pub(super) const INDENT: &str = "    ";

/// Around the items in the field `name` of a JSON object with these other fields.
pub(super) fn json(fields: &Map<String, Value>, name: &str) -> Envelope {
    let mut envelope = Envelope { head: b"{".to_vec(), tail: b"]".to_vec() };
    around(fields, name, |is_behind, key, value| {
        let out = if is_behind { &mut envelope.tail } else { &mut envelope.head };
        if is_behind {
            out.push(b',');
        }
        out.extend_from_slice(format!("{}:{value}", Value::from(key)).as_bytes());
        if !is_behind {
            out.push(b',');
        }
    });
    envelope.head.extend_from_slice(format!("\"{name}\":[").as_bytes());
    envelope.tail.push(b'}');
    envelope
}

/// As [`json`], laid out for people.
pub(super) fn pretty(fields: &Map<String, Value>, name: &str) -> Envelope {
    let mut envelope = Envelope { head: b"{\n".to_vec(), tail: b"\n  ]".to_vec() };
    around(fields, name, |is_behind, key, value| {
        let text = indented(value, "  ");
        let field = format!("  {}: {text}", Value::from(key));
        let out = if is_behind { &mut envelope.tail } else { &mut envelope.head };
        let field = if is_behind { format!(",\n{field}") } else { format!("{field},\n") };
        out.extend_from_slice(field.as_bytes());
    });
    envelope.head.extend_from_slice(format!("  \"{name}\": [").as_bytes());
    envelope.tail.extend_from_slice(b"\n}");
    envelope
}

/// As [`json`], in YAML.
pub(super) fn yaml(fields: &Map<String, Value>, name: &str) -> Envelope {
    let (mut before, mut behind) = (Map::new(), Map::new());
    for (key, value) in fields {
        // Keys are sorted.
        let part = if key.as_str() < name { &mut before } else { &mut behind };
        part.insert(key.clone(), value.clone());
    }
    let text = |map: Map<String, Value>| {
        if map.is_empty() { Vec::new() } else { in_yaml(&Value::Object(map)).into_bytes() }
    };
    let mut head = text(before);
    head.extend_from_slice(format!("{name}:").as_bytes());
    Envelope { head, tail: text(behind) }
}

pub(super) fn in_yaml(tree: &Value) -> String {
    match api::codec::to_yaml(tree) {
        Ok(text) => text,
    }
}

/// A tree laid out for people, some levels deep.
pub(super) fn indented(tree: &Value, by: &str) -> String {
    let text = serde_json::to_string_pretty(tree).expect("JSON trees with string keys always serialise");
    // Line breaks within texts are escaped.
    text.replace('\n', &format!("\n{by}"))
}

/// Tells each field, and whether it stands behind the field `name`: where that would stand in a map of these fields.
fn around(fields: &Map<String, Value>, name: &str, mut tell: impl FnMut(bool, &str, &Value)) {
    let mut whole = fields.clone();
    whole.insert(name.to_owned(), Value::Null);
    let mut is_behind = false;
    for (key, value) in &whole {
        if key == name {
            is_behind = true;
        } else {
            tell(is_behind, key, value);
        }
    }
}
