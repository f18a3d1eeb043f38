//! Field selectors.

use std::borrow::Cow;

use serde_json::Value;

use super::Error;
use crate::object::Object;
use crate::resource::{Resource, SelectableField, Text};

/// Requirements on fields that must all hold. The empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

/// One requirement: a field has a value, or has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// As written: `spec.nodeName`.
    pub field: String,
    /// Where it is in the stored version of the object.
    pub path: Vec<Text>,
    /// What an absent value selects as.
    pub absent: Text,
    pub equals: bool,
    pub value: String,
}

impl FieldSelector {
    /// Selects everything.
    pub const fn everything() -> Self {
        Self { requirements: Vec::new() }
    }

    /// Parses a selector of objects of `resource`.
    pub fn parse(text: &str, resource: &Resource) -> Result<Self, Error> {
        let requirements = read(text)?;
        let resolve = |(field, equals, value): (&str, bool, String)| {
            let known = find(field, resource)?;
            Ok(FieldRequirement { field: field.to_owned(), path: known.path, absent: known.absent, equals, value })
        };
        Ok(Self { requirements: requirements.into_iter().map(resolve).collect::<Result<_, _>>()? })
    }

    /// The value that a selector as written demands of `field`, whatever resource it is for; `None` too when it cannot be
    /// read. Who decides by a selector asks here: a comma may be a part of a value.
    pub fn demanded(text: &str, field: &str) -> Option<String> {
        let demands = |(name, equals, _): &(&str, bool, String)| *equals && *name == field;
        read(text).ok()?.into_iter().find(demands).map(|(_, _, value)| value)
    }

    /// A value as it is written in a selector.
    pub fn escaped(value: &str) -> String {
        value.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=")
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// The value that `field` must have exactly: what an index can look up.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let requirement =
            self.requirements.iter().find(|requirement| requirement.equals && requirement.field == field)?;
        Some(&requirement.value)
    }

    /// The name that a selected object has.
    pub fn name(&self) -> Option<&str> {
        self.exact("metadata.name")
    }

    /// The namespace that a selected object has.
    pub fn namespace(&self) -> Option<&str> {
        self.exact("metadata.namespace")
    }

    /// Whether the object, in its stored version, is selected.
    pub fn matches(&self, object: &Object) -> bool {
        self.requirements
            .iter()
            .all(|requirement| (requirement.value_in(object) == requirement.value) == requirement.equals)
    }
}

impl std::fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            let escaped = Self::escaped(&requirement.value);
            let operator = if requirement.equals { "=" } else { "!=" };
            write!(f, "{}{}{operator}{escaped}", if at > 0 { "," } else { "" }, requirement.field)?;
        }
        Ok(())
    }
}

impl FieldRequirement {
    /// The text of the field in an object of the stored version.
    pub fn value_in<'o>(&'o self, object: &'o Object) -> Cow<'o, str> {
        value_at(object, &self.path, &self.absent)
    }
}

impl SelectableField {
    /// The text of the field in an object of the stored version.
    pub fn value_in<'o>(&'o self, object: &'o Object) -> Cow<'o, str> {
        value_at(object, &self.path, &self.absent)
    }
}

fn value_at<'o>(object: &'o Object, path: &[Text], absent: &'o str) -> Cow<'o, str> {
    let paths = path.split(|step| step == "|");
    paths.map(|path| value_of(object, path, absent)).find(|text| !text.is_empty()).unwrap_or_default()
}

fn value_of<'o>(object: &'o Object, path: &[Text], absent: &'o str) -> Cow<'o, str> {
    let Some((first, rest)) = path.split_first() else { return absent.into() };
    let found = rest.iter().try_fold(object.root().get(first.as_ref()), |at, step| Some(at?.get(step.as_ref())));
    match found.flatten() {
        None | Some(Value::Null) => absent.into(),
        Some(Value::String(text)) => text.into(),
        Some(other) => other.to_string().into(),
    }
}

fn find(field: &str, resource: &Resource) -> Result<SelectableField, Error> {
    // Kinds that have fields of their own to select by also say which of the metadata; without one, all are.
    let own = resource.is_custom() || !resource.selectable_fields.is_empty();
    let everywhere = !resource.namespaced && own;
    if field == "metadata.name" || (field == "metadata.namespace" && !everywhere) {
        let path = field.split('.').map(|step| Text::Owned(step.to_owned())).collect();
        return Ok(SelectableField { name: field.to_owned().into(), path, absent: Text::Borrowed("") });
    }
    if let Some(known) = resource.selectable_fields.iter().find(|known| known.name == field) {
        return Ok(known.clone());
    }
    Err(Error(match (own, resource.group.as_ref(), resource.kind.as_ref()) {
        (false, ..) => {
            format!(r#""{field}" is not a known field selector: only "metadata.name", "metadata.namespace""#)
        }
        (_, "batch", "Job") => format!("field label {field:?} not supported for batchv1.Job"),
        (_, group @ "resource.k8s.io", kind) => {
            format!("field label not supported for {group}/{}, Kind={kind}: {field}", resource.version)
        }
        _ => format!("field label not supported: {field}"),
    }))
}

/// Field, whether it must be equal, and value of every term, in order.
fn read(text: &str) -> Result<Vec<(&str, bool, String)>, Error> {
    let mut terms = terms(text);
    terms.sort_unstable();
    let split = |term| {
        let (field, equals, value) =
            split(term).ok_or_else(|| Error(format!("invalid selector: '{text}'; can't understand '{term}'")))?;
        Ok((field, equals, unescape(value)?))
    };
    terms.into_iter().filter(|term| !term.is_empty()).map(split).collect()
}

/// The parts between commas that no backslash precedes.
fn terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Field, whether it must be equal, and value: at the first operator.
fn split(term: &str) -> Option<(&str, bool, &str)> {
    let at = term
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| term[*at..].starts_with(['=']) || term[*at..].starts_with("!="))?;
    let (field, rest) = term.split_at(at);
    let (equals, value) = match rest {
        _ if rest.starts_with("!=") => (false, &rest[2..]),
        _ if rest.starts_with("==") => (true, &rest[2..]),
        _ => (true, &rest[1..]),
    };
    Some((field, equals, value))
}

fn unescape(value: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(Error(format!("invalid field selector: invalid escape sequence: {sequence}")));
                }
            },
            ',' | '=' => {
                return Err(Error(format!("invalid field selector: unescaped character in value: {}", u32::from(c))));
            }
            _ => out.push(c),
        }
    }
    Ok(out)
}
