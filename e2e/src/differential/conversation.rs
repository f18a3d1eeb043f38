//! Conversations with an API server, as they are written to files: cases of the recorded ones (`cases` of a file, each
//! with `vars`, `setup`, `steps` and `cleanup`), of which a step has a `request` and what is expected of its answer.
//!
//! Texts may hold `${run}` (different in every run), `${ns}` and what a step has captured of its answer; a body
//! `{"$use": "obj", "$set": {pointer: value}, "$unset": [pointer]}` is a captured object with changes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What a conversation is about, and its requests in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    pub name: String,
    pub vars: BTreeMap<String, String>,
    pub setup: Vec<Step>,
    pub steps: Vec<Step>,
    pub cleanup: Vec<Step>,
}

/// One request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    pub name: String,
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Option<Value>,
    /// Variables, and where their values are in the answer.
    pub capture: BTreeMap<String, String>,
    /// What was answered, where the conversation comes from a file.
    pub expect: Option<Value>,
}

/// Why a file is no conversation that can be played.
#[derive(Debug, thiserror::Error)]
pub enum Unplayable {
    #[error("the file has no list of cases")]
    NoCases,
    #[error("{case}: step {step:?} has {what}, which is not played here")]
    Unknown { case: String, step: String, what: String },
}

impl Step {
    /// A step without headers and body.
    pub fn new(name: impl Into<String>, method: &str, path: impl Into<String>) -> Self {
        Self { name: name.into(), method: method.to_owned(), path: path.into(), ..Self::default() }
    }

    /// With a body of that type.
    #[must_use]
    pub fn with(mut self, content_type: &str, body: Value) -> Self {
        self.headers.insert("Content-Type".into(), content_type.to_owned());
        self.body = Some(body);
        self
    }

    fn read(case: &str, written: &Value) -> Result<Self, Unplayable> {
        let name = text(written, "name");
        let unknown =
            |what: &str| Unplayable::Unknown { case: case.to_owned(), step: name.clone(), what: what.to_owned() };
        let fields = |value: &Value, known: &[&str]| -> Result<(), Unplayable> {
            let mut names = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
            names.find(|name| !known.contains(name)).map_or(Ok(()), |name| Err(unknown(name)))
        };
        fields(written, &["name", "request", "expect", "capture", "ok"])?;
        let request = &written["request"];
        fields(request, &["method", "path", "headers", "body"])?;
        Ok(Self {
            method: text(request, "method"),
            path: text(request, "path"),
            headers: texts(&request["headers"]),
            body: request.get("body").cloned(),
            capture: texts(&written["capture"]),
            expect: written.get("expect").cloned(),
            name,
        })
    }

    fn written(&self) -> Value {
        let mut request = json!({"method": self.method, "path": self.path});
        if !self.headers.is_empty() {
            request["headers"] = json!(self.headers);
        }
        if let Some(body) = &self.body {
            request["body"] = body.clone();
        }
        let mut step = Map::new();
        if !self.name.is_empty() {
            step.insert("name".into(), self.name.clone().into());
        }
        step.insert("request".into(), request);
        if !self.capture.is_empty() {
            step.insert("capture".into(), json!(self.capture));
        }
        if let Some(expect) = &self.expect {
            step.insert("expect".into(), expect.clone());
        }
        Value::Object(step)
    }
}

impl Conversation {
    /// The conversations of a file.
    ///
    /// # Errors
    /// When a step has something that only the checker of the recordings plays (watches, repeated requests, ...).
    pub fn read_all(file: &Value) -> Result<Vec<Self>, Unplayable> {
        file["cases"].as_array().ok_or(Unplayable::NoCases)?.iter().map(Self::read).collect()
    }

    fn read(written: &Value) -> Result<Self, Unplayable> {
        let name = text(written, "name");
        let steps = |part: &str| -> Result<Vec<Step>, Unplayable> {
            written[part].as_array().into_iter().flatten().map(|step| Step::read(&name, step)).collect()
        };
        let (setup, steps, cleanup) = (steps("setup")?, steps("steps")?, steps("cleanup")?);
        Ok(Self { vars: texts(&written["vars"]), setup, steps, cleanup, name })
    }

    /// A file of conversations.
    pub fn write_all(area: &str, reference: &str, conversations: &[Self]) -> Value {
        let steps = |steps: &[Step]| -> Value { steps.iter().map(Step::written).collect() };
        let case = |one: &Self| {
            json!({
                "name": one.name, "vars": one.vars, "setup": steps(&one.setup), "steps": steps(&one.steps),
                "cleanup": steps(&one.cleanup),
            })
        };
        json!({
            "format": 1, "reference": reference, "area": area,
            "cases": conversations.iter().map(case).collect::<Vec<_>>(),
        })
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or("").to_owned()
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let fields = value.as_object().into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_read_as_they_are_written() {
        let step = Step::new("create", "POST", "/api/v1/namespaces/${ns}/configmaps")
            .with("application/json", json!({"metadata": {"name": "x"}}));
        let conversation = Conversation {
            name: "c".into(),
            vars: BTreeMap::from([("ns".into(), "n-${run}".into())]),
            setup: vec![Step::new("", "GET", "/")],
            steps: vec![Step { expect: Some(json!({"status": 201})), ..step }],
            cleanup: Vec::new(),
        };
        let file = Conversation::write_all("area", "v1", std::slice::from_ref(&conversation));
        assert_eq!(Conversation::read_all(&file).unwrap(), [conversation]);
    }

    #[test]
    fn what_cannot_be_played_is_refused_by_name() {
        let file = json!({"cases": [{"name": "c", "steps": [{"name": "s", "request": {}, "watch": {"count": 1}}]}]});
        let refused = Conversation::read_all(&file).unwrap_err().to_string();
        assert_eq!(refused, "c: step \"s\" has watch, which is not played here");
        assert!(Conversation::read_all(&json!({})).is_err());
    }
}
