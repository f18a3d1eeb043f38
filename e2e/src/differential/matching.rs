//! Whether an answer is what is expected: compares JSON with placeholders to JSON without.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::play::{Answer, Played, fill};

/// A place at which an answer is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which step, beginning with 0.
    pub step: usize,
    /// Where: a pointer into `{status, headers, body}`.
    pub place: String,
    pub expected: String,
    pub got: String,
}

impl Difference {
    /// What differences of one cause have in common: their place, with names of elements left out.
    pub fn kind(&self) -> String {
        let part = |part: &str| if part.parse::<usize>().is_ok() { "*".to_owned() } else { part.to_owned() };
        self.place.split('/').map(part).collect::<Vec<_>>().join("/")
    }
}

/// Compares what was answered with what is expected, step by step.
pub fn differences(expected: &[Option<Value>], played: &Played) -> Vec<Difference> {
    let mut matching = Matching::new(played);
    for (step, answer) in played.answers.iter().enumerate() {
        if let Some(Some(expected)) = expected.get(step) {
            matching.step = step;
            matching.answer(expected, answer);
        }
    }
    matching.found
}

struct Matching<'a> {
    vars: &'a BTreeMap<String, Value>,
    placeholder: Regex,
    /// What placeholders with numbers stand for.
    bound: BTreeMap<(String, u32), String>,
    step: usize,
    found: Vec<Difference>,
}

impl<'a> Matching<'a> {
    fn new(played: &'a Played) -> Self {
        let placeholder = Regex::new(r"<<([a-zA-Z0-9]+?)(?::(\d+))?>>").expect("a valid pattern");
        Self { vars: &played.vars, placeholder, bound: BTreeMap::new(), step: 0, found: Vec::new() }
    }

    fn answer(&mut self, expected: &Value, answer: &Answer) {
        if expected["status"] != answer.status {
            self.differ("/status", &expected["status"], &answer.status.into());
        }
        let headers: Map<String, Value> = answer.headers.clone().into_iter().collect();
        for name in ["Content-Type", "Warning"] {
            let (wanted, got) =
                (sorted(name, &expected["headers"][name]), headers.get(name).cloned().unwrap_or_default());
            // A list of one is written as what is in it.
            let wanted = match (wanted, &got) {
                (Value::String(one), Value::Array(_)) => Value::Array(vec![one.into()]),
                (wanted, _) => wanted,
            };
            self.value(&format!("/headers/{name}"), name, &wanted, &sorted(name, &got));
        }
        if let Some(body) = expected.get("body") {
            self.value("/body", "", body, &answer.body);
        }
    }

    fn differ(&mut self, place: &str, expected: &Value, got: &Value) {
        let short = |value: &Value| value.to_string().chars().take(400).collect();
        self.found.push(Difference {
            step: self.step,
            place: place.to_owned(),
            expected: short(expected),
            got: short(got),
        });
    }

    fn value(&mut self, place: &str, name: &str, expected: &Value, got: &Value) {
        match (expected, got) {
            (Value::Object(expected), Value::Object(got)) => self.objects(place, expected, got),
            (Value::Array(wanted), Value::Array(have)) if wanted.len() == have.len() => {
                for (at, (wanted, have)) in wanted.iter().zip(have).enumerate() {
                    self.value(&format!("{place}/{at}"), name, wanted, have);
                }
            }
            (Value::String(pattern), Value::String(text)) if self.fits(pattern, text) => {}
            (Value::String(pattern), Value::Number(number)) if pattern.starts_with("<<") => {
                if !self.fits(pattern, &number.to_string()) {
                    self.differ(place, expected, got);
                }
            }
            (Value::String(pattern), Value::String(text))
                if name == "message" && same_words(&self.filled(pattern), text) => {}
            _ if expected == got => {}
            _ => self.differ(place, expected, got),
        }
    }

    fn objects(&mut self, place: &str, expected: &Map<String, Value>, got: &Map<String, Value>) {
        let mut left: Vec<&String> = got.keys().collect();
        for (pattern, wanted) in expected {
            let known = left.iter().position(|name| *name == pattern || self.fits(pattern, name));
            match known.map(|at| left.remove(at)) {
                Some(name) => {
                    let (wanted, have) = (sorted(name, wanted), sorted(name, &got[name]));
                    self.value(&format!("{place}/{name}"), name, &wanted, &have);
                }
                None => self.differ(&format!("{place}/{pattern}"), wanted, &Value::Null),
            }
        }
        for name in left {
            self.differ(&format!("{place}/{name}"), &Value::Null, &got[name]);
        }
    }

    fn filled(&self, pattern: &str) -> String {
        fill(pattern, self.vars)
    }

    /// Whether a text is what a pattern stands for; remembers what its placeholders are.
    fn fits(&mut self, pattern: &str, text: &str) -> bool {
        let pattern = self.filled(pattern);
        if !pattern.contains("<<") {
            return pattern == text;
        }
        let (mut written, mut end, mut new) = ("^".to_owned(), 0, Vec::new());
        for found in self.placeholder.captures_iter(&pattern) {
            let whole = found.get(0).expect("the whole is always there");
            written.push_str(&regex::escape(&pattern[end..whole.start()]));
            let key = (found[1].to_owned(), found.get(2).and_then(|number| number.as_str().parse().ok()).unwrap_or(0));
            match self.bound.get(&key) {
                Some(value) => written.push_str(&regex::escape(value)),
                None => {
                    written.push_str(&format!("({})", form(&key.0)));
                    new.push(key);
                }
            }
            end = whole.end();
        }
        written.push_str(&regex::escape(&pattern[end..]));
        written.push('$');
        let Ok(written) = Regex::new(&written) else { return false };
        let Some(found) = written.captures(text) else { return false };
        let values: Vec<String> = (1..found.len()).map(|at| found[at].to_owned()).collect();
        for (key, value) in new.into_iter().zip(values) {
            if key.1 != 0 && !self.bind(key, value) {
                return false;
            }
        }
        true
    }

    /// Notes what a placeholder stands for. Two of one kind never stand for the same, and versions grow with their numbers.
    fn bind(&mut self, key: (String, u32), value: String) -> bool {
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        let fits = |(known, other): (&(String, u32), &String)| match key.0.as_str() {
            _ if known.0 != key.0 => true,
            "rv" => (known.1 < key.1) == (number(other) < number(&value)) && *other != value,
            _ => *other != value,
        };
        let all = self.bound.iter().all(fits);
        self.bound.insert(key, value);
        all
    }
}

/// Lists whose order means nothing, in one order.
fn sorted(name: &str, value: &Value) -> Value {
    let keys: &[&str] = match name {
        "managedFields" => &["operation", "manager", "apiVersion", "subresource"],
        "causes" => &["field", "reason", "message"],
        "Warning" => &[],
        _ => return value.clone(),
    };
    let mut value = value.clone();
    if let Some(list) = value.as_array_mut() {
        let key = |one: &Value| -> Vec<String> {
            if keys.is_empty() { vec![one.to_string()] } else { keys.iter().map(|key| one[*key].to_string()).collect() }
        };
        list.sort_by_key(key);
    }
    value
}

/// Whether two messages list the same errors, in whatever order.
fn same_words(expected: &str, got: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let mut words: Vec<String> = text
            .split(", ")
            .flat_map(|part| part.split(['[', ']']))
            .flat_map(|part| part.split(" and "))
            .map(str::to_owned)
            .collect();
        words.sort();
        words
    };
    expected.contains('[') && words(expected) == words(got)
}

/// What values of a kind look like.
fn form(kind: &str) -> &'static str {
    match kind {
        "uid" => "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "rv" | "listrv" | "decimal" => r"\d+",
        "gen" => "[a-z0-9]{5}",
        "ip" => r"[0-9a-f.:]+",
        "nodePort" => r"3\d{4}",
        "time" => r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
        "microtime" => r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",
        "continue" => r"[A-Za-z0-9_\-=.]+",
        "int" => r"-?\d+",
        "age" => r"(?:\d+[smhdy])+",
        _ => r"[\s\S]*",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(expected: Value, bodies: &[Value]) -> Vec<String> {
        let answers = bodies.iter().map(|body| Answer { status: 200, headers: BTreeMap::new(), body: body.clone() });
        let vars = BTreeMap::from([("run".to_owned(), json!("r1"))]);
        let played = Played { answers: answers.collect(), vars };
        let expected: Vec<Option<Value>> =
            expected.as_array().unwrap().iter().map(|body| Some(json!({"status": 200, "body": body}))).collect();
        differences(&expected, &played).into_iter().map(|one| format!("{} {}", one.step, one.place)).collect()
    }

    const UIDS: [&str; 2] = ["0a0a0a0a-0b0b-0c0c-0d0d-0e0e0e0e0e0e", "1a0a0a0a-0b0b-0c0c-0d0d-0e0e0e0e0e0e"];

    #[test]
    fn placeholders_stand_for_one_value_each() {
        let expected = json!([{"uid": "<<uid:1>>", "n": "x-${run}"}, {"uid": "<<uid:1>>"}, {"uid": "<<uid:2>>"}]);
        let answers = [json!({"uid": UIDS[0], "n": "x-r1"}), json!({"uid": UIDS[0]}), json!({"uid": UIDS[1]})];
        assert_eq!(check(expected.clone(), &answers), [""; 0]);
        let answers = [json!({"uid": UIDS[0], "n": "x-r2"}), json!({"uid": UIDS[1]}), json!({"uid": UIDS[0]})];
        assert_eq!(check(expected, &answers), ["0 /body/n", "1 /body/uid", "2 /body/uid"]);
    }

    #[test]
    fn versions_grow_with_their_numbers() {
        let expected = json!([{"v": "<<rv:1>>"}, {"v": "<<rv:3>>"}, {"v": "<<rv:2>>"}]);
        let answers = |versions: [&str; 3]| versions.map(|version| json!({"v": version}));
        assert_eq!(check(expected.clone(), &answers(["5", "9", "7"])), [""; 0]);
        assert_eq!(check(expected, &answers(["5", "9", "11"])), ["2 /body/v"]);
    }

    #[test]
    fn what_is_missing_and_what_is_more_both_differ() {
        assert_eq!(
            check(json!([{"a": 1, "b": [1, 2]}]), &[json!({"c": 1, "b": [1]})]),
            ["0 /body/a", "0 /body/b", "0 /body/c"]
        );
        assert_eq!(check(json!([{"message": "[a, b]"}]), &[json!({"message": "[b, a]"})]), [""; 0]);
        let causes = |names: [&str; 2]| json!({"causes": names.map(|name| json!({"field": name}))});
        assert_eq!(check(json!([causes(["a", "b"])]), &[causes(["b", "a"])]), [""; 0]);
    }
}
