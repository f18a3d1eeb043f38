//! The plain requests: the list of pods, and commands without streams.
use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use runtime::ContainerStatus;

use super::Shared;
use crate::pods::Known;

/// A refusal in plain text, as the kubelet answers.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<runtime::Error> for Refusal {
    fn from(err: runtime::Error) -> Self {
        let code = match err {
            runtime::Error::NotFound { .. } => StatusCode::NOT_FOUND,
            runtime::Error::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(code, crate::failure::chain(&err))
    }
}

/// The query's values by name; of a repeated name all, in order.
pub(super) fn query(raw: Option<String>) -> HashMap<String, Vec<String>> {
    let mut values: HashMap<String, Vec<String>> = HashMap::new();
    for (name, value) in form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
        values.entry(name.into_owned()).or_default().push(value.into_owned());
    }
    values
}

/// Whether a query parameter says yes (`1` or `true`).
pub(super) fn is_set(query: &HashMap<String, Vec<String>>, name: &str) -> bool {
    query.get(name).and_then(|values| values.first()).is_some_and(|value| matches!(value.as_str(), "1" | "true"))
}

impl Shared {
    /// The pod that a path names.
    pub(super) fn pod(&self, path: &HashMap<String, String>) -> Result<Known, Refusal> {
        let part = |name: &str| path.get(name).map(String::as_str);
        let (namespace, name) = (part("namespace").unwrap_or_default(), part("pod").unwrap_or_default());
        let found = self.pods.find(namespace, name, part("uid"));
        found.ok_or_else(|| {
            Refusal(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist in namespace {namespace:?}"))
        })
    }

    /// The running container that a path names.
    pub(super) fn container(&self, path: &HashMap<String, String>) -> Result<ContainerStatus, Refusal> {
        let known = self.pod(path)?;
        let name = path.get("container").map(String::as_str).unwrap_or_default();
        let latest = known.report.seen.latest(name).filter(|latest| crate::pods::observed::is_running(latest));
        latest.cloned().ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("container not found (\"{name}\")")))
    }
}

/// `GET /pods`.
pub(super) async fn pods(State(shared): State<Shared>) -> Json<List<Pod>> {
    let items = shared.pods.list().into_iter().map(|known| known.pod).collect();
    Json(List { items, metadata: Default::default() })
}

/// `POST /run/...?cmd=...`: runs a command and answers with its output.
pub(super) async fn run(
    State(shared): State<Shared>,
    Path(path): Path<HashMap<String, String>>,
    RawQuery(raw): RawQuery,
) -> Result<Vec<u8>, Refusal> {
    let container = shared.container(&path)?;
    let query = query(raw);
    let command: Vec<String> =
        query.get("cmd").into_iter().flatten().flat_map(|text| text.split(' ').map(str::to_owned)).collect();
    if command.is_empty() {
        return Err(Refusal(StatusCode::BAD_REQUEST, "cmd is required".to_owned()));
    }
    let output = shared.context.runtime.exec_sync(&container.id, &command, Duration::from_secs(3600)).await?;
    let both = [output.stdout, output.stderr].concat();
    if output.exit_code != 0 {
        let text = String::from_utf8_lossy(&both).into_owned();
        let message = format!("command '{}' exited with {}: {text}", command.join(" "), output.exit_code);
        return Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, message));
    }
    Ok(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_unescaped_and_keep_repetitions() {
        let query = query(Some("command=sh&command=-c&command=echo%20a+b&stdin=true&x=%zz".to_owned()));
        assert_eq!(query["command"], ["sh", "-c", "echo a b"]);
        assert!(is_set(&query, "stdin") && !is_set(&query, "tty"));
        assert_eq!(query["x"], ["%zz"]);
    }
}
