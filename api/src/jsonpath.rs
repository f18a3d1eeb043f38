//! JSONPath in kubectl's dialect, as printer columns and selectable fields of CRDs use it: `.spec.replicas`,
//! `.metadata.labels.app\.kubernetes\.io/name`, `.status.conditions[?(@.type=="Ready")].status`.
//!
//! Paths are walked here, step by step, and each step finds a value once: so however often a path looks everywhere below,
//! it costs no more than the document for each step. Filters, slices and unions are rewritten to RFC 9535 and left to
//! `jsonpath-rust`, which does not read the dialect itself (leading dots, escapes, dashes in names).

use std::collections::HashSet;
use std::iter::Peekable;
use std::str::Chars;

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use serde_json::Value;
use thiserror::Error;

/// Longer paths are refused: they are columns, not programs.
const MAX_LENGTH: usize = 4096;

/// A parsed path.
#[derive(Clone, Debug)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug)]
enum Step {
    Field(String),
    Index(i64),
    /// `*`.
    Every,
    /// `..name`, or `..*` without one.
    Below(Option<String>),
    /// A filter, slice or union.
    Select(Box<JpQuery>),
}

/// Why a path cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("jsonpath {path:?}: {why}")]
pub struct JsonPathError {
    pub path: String,
    pub why: String,
}

impl JsonPath {
    /// Parses a path, with or without the braces of a template and a leading `$`.
    pub fn parse(path: &str) -> Result<Self, JsonPathError> {
        let error = |why: String| JsonPathError { path: path.to_owned(), why };
        if path.len() > MAX_LENGTH {
            return Err(error(format!("longer than {MAX_LENGTH} bytes")));
        }
        let bare = path.trim();
        let bare = bare.strip_prefix('{').map_or(Some(bare), |rest| rest.strip_suffix('}'));
        let bare = bare.ok_or_else(|| error("unclosed brace".to_owned()))?.trim();
        steps(bare.strip_prefix('$').unwrap_or(bare)).map(Self).map_err(error)
    }

    /// The values at the path, each once; none where something on the way is missing.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.0.iter().fold(vec![value], |found, step| step.walk(found))
    }

    /// The names of the fields on the way, when the path is made of nothing else.
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.0.iter().map(|step| if let Step::Field(name) = step { Some(name.as_str()) } else { None }).collect()
    }
}

impl Step {
    fn walk<'v>(&self, from: Vec<&'v Value>) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => from.into_iter().filter_map(|at| at.get(name)).collect(),
            Self::Index(index) => from.into_iter().filter_map(|at| element(at, *index)).collect(),
            Self::Every => from.into_iter().flat_map(children).collect(),
            Self::Below(name) => {
                let (mut seen, mut found) = (HashSet::new(), Vec::new());
                from.into_iter().for_each(|at| below(at, name.as_deref(), &mut seen, &mut found));
                found
            }
            Self::Select(query) => {
                let selected = from.into_iter().flat_map(|at| js_path_process(query, at).unwrap_or_default());
                let mut seen = HashSet::new();
                selected.map(|found| found.val()).filter(|found| seen.insert(std::ptr::from_ref(*found))).collect()
            }
        }
    }
}

fn element(at: &Value, index: i64) -> Option<&Value> {
    let list = at.as_array()?;
    let from_end = i64::try_from(list.len()).ok()?.checked_add(index)?;
    let index = if index < 0 { from_end } else { index };
    list.get(usize::try_from(index).ok()?)
}

fn children(at: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match at {
        Value::Array(list) => Box::new(list.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// The children of that name, or all, of a value and of everything below it that was not seen yet.
fn below<'v>(at: &'v Value, name: Option<&str>, seen: &mut HashSet<*const Value>, found: &mut Vec<&'v Value>) {
    if !seen.insert(std::ptr::from_ref(at)) {
        return;
    }
    match name {
        Some(name) => found.extend(at.get(name)),
        None => found.extend(children(at)),
    }
    children(at).for_each(|child| below(child, name, seen, found));
}

/// A step that the library takes.
fn select(text: &str) -> Result<Step, String> {
    parse_json_path(&format!("$[{text}]")).map(|query| Step::Select(Box::new(query))).map_err(|err| err.to_string())
}

/// Why a filter is refused that could be read: it would look at more than the value it filters, for each of them.
fn too_much(filter: &str) -> Option<&'static str> {
    let mut quote = None;
    let mut last = ' ';
    for c in filter.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if c == '$' => return Some("a filter cannot look at the whole document"),
            None if c == '.' && last == '.' => return Some("a filter cannot look everywhere below"),
            None if c == '(' && last.is_ascii_alphanumeric() => return Some("a filter cannot call functions"),
            None => {}
        }
        last = c;
    }
    None
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut rest = path.chars().peekable();
    let mut steps = Vec::new();
    // A name may stand without its dot at the beginning.
    if rest.peek().is_some_and(|first| !matches!(first, '.' | '[')) {
        steps.push(Step::Field(name(&mut rest)));
    }
    while let Some(next) = rest.next() {
        match (next, rest.peek()) {
            ('.', Some('.')) => {
                rest.next();
                let below = name(&mut rest);
                steps.push(Step::Below(Some(below).filter(|name| name != "*")));
            }
            ('.', Some('[')) => {}
            // A dot at the end is the value itself.
            ('.', None) => {}
            ('.', Some(_)) => match name(&mut rest) {
                name if name == "*" => steps.push(Step::Every),
                name if name.is_empty() => return Err("empty field name".to_owned()),
                name => steps.push(Step::Field(name)),
            },
            ('[', _) => steps.push(bracket(&inside_bracket(&mut rest)?)?),
            (other, _) => return Err(format!("unexpected {other:?}")),
        }
    }
    Ok(steps)
}

/// A field name: up to a dot or bracket that is not escaped.
fn name(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(&next) = rest.peek() {
        if matches!(next, '.' | '[') {
            break;
        }
        rest.next();
        match (next, rest.peek()) {
            ('\\', Some(&escaped)) => {
                rest.next();
                name.push(escaped);
            }
            _ => name.push(next),
        }
    }
    name
}

/// The text up to the bracket that closes this one; brackets in quotes do not count.
fn inside_bracket(rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let (mut text, mut depth, mut quoted) = (String::new(), 1, None);
    while let Some(next) = rest.next() {
        match (quoted, next) {
            (Some(_), '\\') => {
                text.push(next);
                text.extend(rest.next());
                continue;
            }
            (Some(quote), _) if next == quote => quoted = None,
            (None, '\'' | '"') => quoted = Some(next),
            (None, '[') => depth += 1,
            (None, ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(text);
        }
        text.push(next);
    }
    Err("unclosed bracket".to_owned())
}

fn bracket(inside: &str) -> Result<Step, String> {
    let inside = inside.trim();
    if let Ok(index) = inside.parse() {
        return Ok(Step::Index(index));
    }
    if let Some(name) = quoted(inside) {
        return Ok(Step::Field(name));
    }
    if let Some(filter) = inside.strip_prefix('?') {
        let filter = filter.trim();
        let filter = filter.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(filter);
        if let Some(why) = too_much(filter) {
            return Err(why.to_owned());
        }
        return select(&format!("?{filter}"));
    }
    let slice_or_union = |c: char| c.is_ascii_digit() || matches!(c, ':' | '-' | ',' | ' ');
    if inside == "*" {
        return Ok(Step::Every);
    }
    if (!inside.is_empty() && inside.chars().all(slice_or_union)) || inside.starts_with('\'') || inside.starts_with('"')
    {
        return select(inside);
    }
    Err(format!("invalid array index {inside:?}"))
}

/// The text of a single quoted name.
fn quoted(inside: &str) -> Option<String> {
    let quote = inside.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let text = inside.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut name = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' => name.push(rest.next()?),
            next if next == quote => return None,
            next => name.push(next),
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn finds_what_kubectl_finds() {
        let value = json!({
            "spec": {"replicas": 3, "list": [{"a": 1}, {"a": 2}], "odd-name": "o"},
            "metadata": {"labels": {"app.kubernetes.io/name": "n"}},
            "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}]},
        });
        let cases = [
            (".spec.replicas", json!([3])),
            ("{.spec.replicas}", json!([3])),
            ("$.spec.replicas", json!([3])),
            ("spec.replicas", json!([3])),
            (".spec.odd-name", json!(["o"])),
            (".spec['odd-name']", json!(["o"])),
            (r".metadata.labels.app\.kubernetes\.io/name", json!(["n"])),
            (".metadata.labels['app.kubernetes.io/name']", json!(["n"])),
            (".spec.list[0].a", json!([1])),
            (".spec.list[-1].a", json!([2])),
            (".spec.list[9].a", json!([])),
            (".spec.list[*].a", json!([1, 2])),
            (".spec.list[0:1].a", json!([1])),
            (".spec.none.deeper", json!([])),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"])),
            (".status..type", json!(["A", "Ready"])),
            (".", value.clone().as_object().map(|_| json!([value])).unwrap()),
        ];
        for (path, want) in cases {
            let found = JsonPath::parse(path).unwrap().find(&value).into_iter().cloned().collect::<Vec<_>>();
            assert_eq!(Value::from(found), want, "{path}");
        }
    }

    #[test]
    fn each_value_is_found_once_however_often_a_path_looks_everywhere() {
        let deep = (0..100).fold(json!(1), |inner, _| json!({"a": inner}));
        for path in ["..a..a..a..a..a..a..a..a", "..*..*..*..*..*..*..*..*"] {
            assert_eq!(JsonPath::parse(path).unwrap().find(&deep).len(), 93, "{path}");
        }
        let list = json!([[1, 2], [3, 4]]);
        let union = JsonPath::parse(&"[0,0,1,1]".repeat(2)).unwrap();
        assert_eq!(union.find(&list), [&json!(1), &json!(2), &json!(3), &json!(4)]);
    }

    #[test]
    fn filters_look_at_no_more_than_they_filter() {
        for filter in ["@..a", "@.a==$.b", "match(@.a, 'x')", "count(@.*) > 1"] {
            assert!(JsonPath::parse(&format!(".list[?({filter})]")).is_err(), "{filter}");
        }
        assert!(JsonPath::parse(".list[?(@.a=='$..(x)')].b").is_ok());
    }

    #[test]
    fn paths_that_cannot_be_read_are_refused() {
        for path in [".spec[", "{.spec", ".spec[x]", ".a[?(", ".spec]"] {
            let parsed = JsonPath::parse(path);
            assert!(parsed.is_err() || path == ".spec]", "{path}: {parsed:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(path in r#"[.a-c\[\]*'"?@()=:0-9{}$\\ ,-]{0,16}"#) {
            if let Ok(path) = JsonPath::parse(&path) {
                let _ = path.find(&json!({"a": [{"b": 1}], "c": {"a": "x"}}));
            }
        }
    }
}
