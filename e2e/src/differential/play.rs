//! Plays a conversation with a server.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use regex::{Captures, Regex};
use serde_json::Value;

use super::conversation::{Conversation, Step};

/// Whoever has not answered by then has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer that is compared is longer.
const LONGEST: usize = 16 * 1024 * 1024;
/// The field manager of who names none.
const AGENT: &str = "golden/1.0";

/// What a server answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// Headers that are compared, by name.
    pub headers: BTreeMap<String, Value>,
    /// JSON, or a text.
    pub body: Value,
}

/// What was answered to a conversation, and the variables that its texts were made with.
#[derive(Clone, Debug, Default)]
pub struct Played {
    pub answers: Vec<Answer>,
    pub vars: BTreeMap<String, Value>,
}

/// Why a conversation was not played to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{method} {path} is no request")]
    Request { method: String, path: String, source: http::Error },
    #[error("{method} {path} was not answered")]
    Unanswered { method: String, path: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{method} {path} was not answered in {seconds} s")]
    TimedOut { method: String, path: String, seconds: u64 },
    #[error("the setup was answered {status}: {body}")]
    Setup { status: u16, body: String },
}

/// Plays a conversation: its setup, all of its steps, and what cleans up, whatever came before.
///
/// # Errors
/// When the setup is refused or a request is not answered.
pub async fn play(client: &Client, conversation: &Conversation, run: &str) -> Result<Played, Error> {
    let mut playing = Playing { client, vars: BTreeMap::from([("run".to_owned(), run.into())]) };
    for (name, value) in &conversation.vars {
        let value = playing.filled(value).into();
        playing.vars.insert(name.clone(), value);
    }
    let answers = playing.all(conversation).await;
    for step in &conversation.cleanup {
        let _best_effort = playing.one(step).await;
    }
    Ok(Played { answers: answers?, vars: playing.vars })
}

struct Playing<'a> {
    client: &'a Client,
    vars: BTreeMap<String, Value>,
}

impl Playing<'_> {
    async fn all(&mut self, conversation: &Conversation) -> Result<Vec<Answer>, Error> {
        for step in &conversation.setup {
            let answer = self.one(step).await?;
            if !(200..300).contains(&answer.status) && answer.status != 409 {
                return Err(Error::Setup { status: answer.status, body: answer.body.to_string() });
            }
        }
        let mut answers = Vec::new();
        for step in &conversation.steps {
            answers.push(self.one(step).await?);
        }
        Ok(answers)
    }

    async fn one(&mut self, step: &Step) -> Result<Answer, Error> {
        let (method, path) = (step.method.clone(), self.path(&step.path));
        let body = step.body.as_ref().map(|body| self.body(body).to_string()).unwrap_or_default();
        let mut request = Request::builder().method(method.as_str()).uri(&path).header("User-Agent", AGENT);
        if !step.headers.contains_key("Accept") {
            request = request.header("Accept", "application/json");
        }
        if step.body.is_some() && !step.headers.contains_key("Content-Type") {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in &step.headers {
            request = request.header(name, self.filled(value));
        }
        let request = request.body(Body::from(body.into_bytes()));
        let request =
            request.map_err(|source| Error::Request { method: method.clone(), path: path.clone(), source })?;
        let answered = tokio::time::timeout(PATIENCE, self.send(request)).await;
        let late = |_| Error::TimedOut { method: method.clone(), path: path.clone(), seconds: PATIENCE.as_secs() };
        let answer = answered.map_err(late)?.map_err(|source| Error::Unanswered {
            method: method.clone(),
            path: path.clone(),
            source,
        })?;
        if (200..300).contains(&answer.status) {
            for (name, pointer) in &step.capture {
                self.vars.insert(name.clone(), answer.body.pointer(pointer).cloned().unwrap_or_default());
            }
        }
        Ok(answer)
    }

    async fn send(&self, request: Request<Body>) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let (parts, body) = self.client.send(request).await?.into_parts();
        let bytes = Limited::new(body, LONGEST).collect().await?.to_bytes();
        let texts = |name: &str| -> Vec<Value> {
            let values = parts.headers.get_all(name).iter();
            values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned().into()).collect()
        };
        let mut headers = BTreeMap::new();
        if let Some(kind) = texts("Content-Type").into_iter().next() {
            headers.insert("Content-Type".to_owned(), kind);
        }
        let warnings = texts("Warning");
        if !warnings.is_empty() {
            headers.insert("Warning".to_owned(), warnings.into());
        }
        let body =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
        Ok(Answer { status: parts.status.as_u16(), headers, body })
    }

    /// A path with the values of variables, in which nothing is special.
    fn path(&self, text: &str) -> String {
        fill(text, &self.vars)
    }

    fn filled(&self, text: &str) -> String {
        fill(text, &self.vars)
    }

    fn body(&self, body: &Value) -> Value {
        match body {
            Value::Object(map) if map.contains_key("$use") => self.changed(body),
            Value::Object(map) => map
                .iter()
                .map(|(name, value)| (self.filled(name), self.body(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Array(list) => list.iter().map(|value| self.body(value)).collect(),
            Value::String(text) => self.filled(text).into(),
            other => other.clone(),
        }
    }

    /// A captured object with changes.
    fn changed(&self, body: &Value) -> Value {
        let name = body["$use"].as_str().unwrap_or("");
        let mut object = self.vars.get(name).cloned().unwrap_or_default();
        for pointer in body["$unset"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            remove(&mut object, pointer);
        }
        for (pointer, value) in body["$set"].as_object().into_iter().flatten() {
            set(&mut object, pointer, self.body(value));
        }
        object
    }
}

/// A text with the values of the variables in it; unknown ones stay as they are.
pub(super) fn fill(text: &str, vars: &BTreeMap<String, Value>) -> String {
    let variable = Regex::new(r"\$\{([a-z][A-Za-z0-9_]*)\}").expect("a valid pattern");
    let value = |found: &Captures<'_>| match vars.get(&found[1]) {
        Some(Value::String(value)) => value.clone(),
        Some(value) => value.to_string(),
        None => found[0].to_owned(),
    };
    variable.replace_all(text, value).into_owned()
}

/// Sets the value at a pointer; what is missing on the way is made.
pub(super) fn set(target: &mut Value, pointer: &str, value: Value) {
    let Some((parent, last)) = pointer.rsplit_once('/') else {
        *target = value;
        return;
    };
    if target.pointer(parent).is_none() {
        set(target, parent, Value::Object(serde_json::Map::new()));
    }
    let last = last.replace("~1", "/").replace("~0", "~");
    match target.pointer_mut(parent) {
        Some(Value::Array(list)) => match last.parse::<usize>().ok().and_then(|at| list.get_mut(at)) {
            Some(element) => *element = value,
            None => list.push(value),
        },
        Some(holder @ (Value::Object(_) | Value::Null)) => holder[last] = value,
        _ => {}
    }
}

/// Removes the value at a pointer, if there is one.
pub(super) fn remove(target: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    let last = last.replace("~1", "/").replace("~0", "~");
    match target.pointer_mut(parent) {
        Some(Value::Array(list)) => {
            if let Some(at) = last.parse::<usize>().ok().filter(|at| *at < list.len()) {
                list.remove(at);
            }
        }
        Some(Value::Object(map)) => {
            map.remove(&last);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_filled_in_and_unknown_ones_are_left() {
        let vars = BTreeMap::from([("a".to_owned(), json!("x")), ("n".to_owned(), json!(5))]);
        assert_eq!(fill("/${a}/${n}/${b}", &vars), "/x/5/${b}");
    }

    #[test]
    fn values_are_set_and_removed_by_pointers() {
        let mut tree = json!({"a": [1, 2], "m": {"x/y": 1}});
        set(&mut tree, "/b/c", json!(3));
        set(&mut tree, "/a/0", json!(9));
        set(&mut tree, "/m/x~1y", json!(2));
        remove(&mut tree, "/a/1");
        remove(&mut tree, "/nothing/here");
        assert_eq!(tree, json!({"a": [9], "b": {"c": 3}, "m": {"x/y": 2}}));
    }
}
