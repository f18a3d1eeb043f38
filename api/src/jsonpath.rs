//! JSONPath in kubectl's dialect, as printer columns and selectable fields of CRDs use it: `.spec.replicas`,
//! `.metadata.labels.app\.kubernetes\.io/name`, `.status.conditions[?(@.type=="Ready")].status`.
//!
//! Paths of fields and indices, which nearly all are, are walked here. Everything else is rewritten to RFC 9535 and left
//! to `jsonpath-rust`, which does not read the dialect itself (leading dots, escapes, dashes in names).

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
pub struct JsonPath(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Plain(Vec<Step>),
    Query(Box<JpQuery>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    /// Anything else, as RFC 9535 writes it: `[*]`, `..['name']`, `[?@.a==1]`.
    Other(String),
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
        let steps = steps(bare.strip_prefix('$').unwrap_or(bare)).map_err(error)?;
        if !steps.iter().any(|step| matches!(step, Step::Other(_))) {
            return Ok(Self(Kind::Plain(steps)));
        }
        let query = format!("${}", steps.iter().map(Step::to_rfc9535).collect::<String>());
        let query = parse_json_path(&query).map_err(|parser| error(parser.to_string()))?;
        Ok(Self(Kind::Query(Box::new(query))))
    }

    /// The values at the path; none where something on the way is missing.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match &self.0 {
            Kind::Plain(steps) => steps.iter().try_fold(value, |at, step| step.walk(at)).into_iter().collect(),
            Kind::Query(query) => {
                let found = js_path_process(query, value).unwrap_or_default();
                found.into_iter().map(|found| found.val()).collect()
            }
        }
    }

    /// The names of the fields on the way, when the path is made of nothing else.
    pub fn fields(&self) -> Option<Vec<&str>> {
        let Kind::Plain(steps) = &self.0 else { return None };
        steps.iter().map(|step| if let Step::Field(name) = step { Some(name.as_str()) } else { None }).collect()
    }
}

impl Step {
    fn walk<'v>(&self, at: &'v Value) -> Option<&'v Value> {
        match self {
            Self::Field(name) => at.get(name),
            Self::Index(index) => {
                let list = at.as_array()?;
                let from_end = i64::try_from(list.len()).ok()?.checked_add(*index)?;
                let index = if *index < 0 { from_end } else { *index };
                list.get(usize::try_from(index).ok()?)
            }
            Self::Other(_) => None,
        }
    }

    fn to_rfc9535(&self) -> String {
        match self {
            Self::Field(name) => format!("[{}]", quote(name)),
            Self::Index(index) => format!("[{index}]"),
            Self::Other(text) => text.clone(),
        }
    }
}

fn quote(name: &str) -> String {
    format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
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
                let below = if below == "*" { "[*]".to_owned() } else { format!("[{}]", quote(&below)) };
                steps.push(Step::Other(format!("..{below}")));
            }
            ('.', Some('[')) => {}
            // A dot at the end is the value itself.
            ('.', None) => {}
            ('.', Some(_)) => match name(&mut rest) {
                name if name == "*" => steps.push(Step::Other("[*]".to_owned())),
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
        return Ok(Step::Other(format!("[?{filter}]")));
    }
    let slice_or_union = |c: char| c.is_ascii_digit() || matches!(c, ':' | '-' | ',' | ' ');
    if inside == "*"
        || (!inside.is_empty() && inside.chars().all(slice_or_union))
        || inside.starts_with('\'')
        || inside.starts_with('"')
    {
        return Ok(Step::Other(format!("[{inside}]")));
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
