//! What cells of many kinds have in common.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::duration::since;
use crate::object::Object;

/// Where a value lies in an object.
pub(crate) type Path = &'static [&'static str];

/// A cell of a row, or several that are made together.
#[derive(Clone, Copy, Debug)]
pub enum Cell {
    Name,
    Age,
    /// The text there; nothing when absent.
    Text(Path),
    /// The text there, or another one.
    TextOr(Path, &'static str),
    /// The text or number there as text, or another text.
    Plain(Path, &'static str),
    /// The number there, 0 when absent.
    Number(Path),
    /// The flag there, or what counts when it is absent.
    Flag(Path, bool),
    /// How many elements the list or map there has.
    Count(Path),
    /// The texts of the list there, or another text.
    Joined(Path, &'static str),
    /// Labels as a selector.
    Labels(Path),
    /// A `LabelSelector` as text.
    Selector(Path),
    /// As [`Cell::Selector`], `<none>` when it selects everything.
    SelectorOrNone(Path),
    /// Names and images of the containers of the pod spec there: two cells.
    Containers(Path),
    /// One that is worked out.
    By(fn(&Object) -> Value),
    /// Several that hang together, given the time.
    Row(fn(&Object, Timestamp) -> Vec<Value>),
}

impl Cell {
    /// Adds it to the row of an object.
    pub(crate) fn print(self, object: &Object, now: Timestamp, row: &mut Vec<Value>) {
        row.push(match self {
            Self::Name => object.name().into(),
            Self::Age => age(object, now).into(),
            Self::Text(path) => object.text(path).into(),
            Self::TextOr(path, otherwise) => or(object.text(path), otherwise).into(),
            Self::Plain(path, otherwise) => or(&plain(object.get(path)), otherwise).into(),
            Self::Number(path) => number(object, path).into(),
            Self::Flag(path, otherwise) => object.get(path).and_then(Value::as_bool).unwrap_or(otherwise).into(),
            Self::Count(path) => count(object, path).into(),
            Self::Joined(path, otherwise) => or(&join(list(object, path), ","), otherwise).into(),
            Self::Labels(path) => labels(object.get(path)).into(),
            Self::Selector(path) => selector(object.get(path)).into(),
            Self::SelectorOrNone(path) => selector_or_none(object.get(path)).into(),
            Self::Containers(path) => return row.extend(containers(object, path)),
            Self::By(make) => make(object),
            Self::Row(make) => return row.extend(make(object, now)),
        });
    }
}

/// Shown for what is not there.
pub(crate) const NONE: &str = "<none>";
pub(crate) const UNSET: &str = "<unset>";
pub(crate) const UNKNOWN: &str = "<unknown>";

/// The text of a value's field, `""` when absent.
pub(crate) fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}

/// The text, or a stand-in for nothing.
pub(crate) fn or<'t>(text: &'t str, otherwise: &'t str) -> &'t str {
    if text.is_empty() { otherwise } else { text }
}

/// The list at `path`, empty when absent.
pub(crate) fn list<'o>(object: &'o Object, path: &[&str]) -> &'o [Value] {
    object.get(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The list in a value's field.
pub(crate) fn list_in<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The number at `path`, 0 when absent.
pub(crate) fn number(object: &Object, path: &[&str]) -> i64 {
    object.integer(path).unwrap_or(0)
}

/// How many elements the list or map at `path` has.
pub(crate) fn count(object: &Object, path: &[&str]) -> usize {
    match object.get(path) {
        Some(Value::Array(list)) => list.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    }
}

/// Texts of a list, joined.
pub(crate) fn join(list: &[Value], separator: &str) -> String {
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(separator)
}

/// The value as text: strings bare, everything else as JSON, `""` for nothing.
pub(crate) fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// How long ago the time is that a value tells.
pub(crate) fn ago(time: Option<&Value>, now: Timestamp) -> Option<String> {
    let then: Timestamp = time?.as_str()?.parse().ok()?;
    Some(since(then, now))
}

/// The age of an object.
pub(crate) fn age(object: &Object, now: Timestamp) -> String {
    ago(object.get(&["metadata", "creationTimestamp"]), now).unwrap_or_else(|| UNKNOWN.to_owned())
}

/// Labels as a selector: `a=b,c=d`.
pub(crate) fn labels(map: Option<&Value>) -> String {
    let map = map.and_then(Value::as_object);
    let pairs: Vec<String> =
        sorted(map).into_iter().map(|(key, value)| format!("{key}={}", plain(Some(value)))).collect();
    or(&pairs.join(","), NONE).to_owned()
}

fn sorted(map: Option<&Map<String, Value>>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.into_iter().flatten().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

/// A `LabelSelector` as text: `a=b,c in (d,e),!f`; `""` when it selects everything.
pub(crate) fn selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector else { return String::new() };
    let equal = sorted(selector.get("matchLabels").and_then(Value::as_object));
    let mut terms: Vec<(String, String)> =
        equal.into_iter().map(|(key, value)| (key.clone(), format!("{key}={}", plain(Some(value))))).collect();
    for expression in list_in(selector, "matchExpressions") {
        let key = text(expression, "key");
        let mut values: Vec<&str> = list_in(expression, "values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".to_owned(),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort_by(|(a, _), (b, _)| a.cmp(b));
    terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",")
}

/// A selector, `<none>` when it selects everything.
pub(crate) fn selector_or_none(value: Option<&Value>) -> String {
    or(&selector(value), NONE).to_owned()
}

/// Names and images of the containers of a pod spec, as two cells.
pub(crate) fn containers(object: &Object, pod_spec: &[&str]) -> [Value; 2] {
    let path: Vec<&str> = pod_spec.iter().copied().chain(["containers"]).collect();
    let containers = list(object, &path);
    let all = |field: &str| containers.iter().map(|container| text(container, field)).collect::<Vec<_>>().join(",");
    [all("name").into(), all("image").into()]
}

/// At most `max` items, and how many more there are.
pub(crate) fn with_more(items: &[String], max: usize, separator: &str) -> String {
    match items.get(..max) {
        Some(first) if items.len() > max => format!("{} + {} more...", first.join(separator), items.len() - max),
        _ => items.join(separator),
    }
}

/// `True`, `False`.
pub(crate) fn title(flag: bool) -> &'static str {
    if flag { "True" } else { "False" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_print_sorted_by_key() {
        let value = json!({"matchLabels": {"m": "x"}, "matchExpressions": [
            {"key": "z", "operator": "DoesNotExist"}, {"key": "a", "operator": "In", "values": ["2", "1"]}, {"key": "k", "operator": "Exists"}
        ]});
        assert_eq!(selector(Some(&value)), "a in (1,2),k,m=x,!z");
        assert_eq!(selector_or_none(Some(&json!({}))), NONE);
    }
}
