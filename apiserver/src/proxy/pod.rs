//! Logs of containers, and streams into them (upstream: `LogREST`, `ExecREST`, `AttachREST`, `PortForwardREST`).

use std::sync::Arc;

use api::status::Qualified;
use api::{ApiError, Object};
use axum::body::Body;
use http::header::{ACCEPT_ENCODING, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Outgoing, forward};
use crate::call::Call;
use crate::call::websocket::{self, Form};
use crate::core::Core;
use crate::outbound::kubelets::Backend;
use crate::registry::Target;
use crate::request::headers::asks_for_websocket;
use crate::response::{self, Answer};
use crate::watch_cache::ResourceCache;

/// More of a kubelet's refusal is not read.
const MAX_REFUSAL: usize = 64 * 1024;

/// Answers `pods/{name}/log`.
pub(super) async fn log(call: &Call<'_>) -> Result<Answer, ApiError> {
    check_log_options(call)?;
    let pod = pod(call).await?;
    let container = container(call, &pod)?;
    let node = pod.text(&["spec", "nodeName"]);
    if node.is_empty() {
        return Ok(response::nothing(StatusCode::NO_CONTENT));
    }
    let backend = kubelet(call.core, "pods", node).await?;
    let query = log_query(call);
    let path = format!("/containerLogs/{}/{}/{}?{query}", part(pod.namespace()), part(pod.name()), part(&container));
    let mut headers = call.headers().clone();
    // The kubelet's answer is plain, whatever the client's becomes.
    for name in [ACCEPT_ENCODING, UPGRADE, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_PROTOCOL] {
        headers.remove(name);
    }
    let outgoing = Outgoing { method: &Method::GET, headers: &headers, host: None, client: None };
    let answer = forward(call.core, outgoing, &backend, &path, Body::empty()).await?;
    match answer.status().is_success() {
        true if asks_for_websocket(call.headers()) => {
            websocket::answer(call, Form::Pieces, answer.into_body().into_data_stream()).await
        }
        true => Ok(answer),
        false => Err(refusal(answer).await),
    }
}

/// The kubelet's refusal, which is plain text, as a `Status`.
async fn refusal(answer: Answer) -> ApiError {
    let code = answer.status();
    let body = match Limited::new(answer.into_body(), MAX_REFUSAL).collect().await {
        Ok(body) => body.to_bytes(),
        Err(err) => return ApiError::internal(err),
    };
    let text = String::from_utf8_lossy(&body);
    match code {
        StatusCode::INTERNAL_SERVER_ERROR => ApiError::internal(text),
        StatusCode::NOT_FOUND => ApiError::new(code.as_u16(), "NotFound", text),
        StatusCode::BAD_REQUEST => ApiError::bad_request(text),
        _ => ApiError::new(code.as_u16(), "", text),
    }
}

fn log_query(call: &Call<'_>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for name in ["follow", "previous", "timestamps"] {
        if call.query.flag(name) {
            query.append_pair(name, "true");
        }
    }
    for name in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes"] {
        if let Some(value) = call.query.get(name) {
            query.append_pair(name, value);
        }
    }
    query.finish()
}

/// Answers `pods/{name}/exec`, `attach` and `portforward`.
pub(super) async fn stream(call: &Call<'_>, method: &Method, body: Body) -> Result<Answer, ApiError> {
    let pod = pod(call).await?;
    let node = pod.text(&["spec", "nodeName"]);
    let what = call.info.subresource.as_str();
    let container = if what == "portforward" { String::new() } else { container(call, &pod)? };
    if node.is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", pod.name())));
    }
    let backend = kubelet(call.core, "pods", node).await?;
    if !call.headers().contains_key(http::header::UPGRADE) {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let outgoing = Outgoing { method, headers: call.headers(), host: None, client: call.upgrade() };
    forward(call.core, outgoing, &backend, &stream_path(call, &pod, &container), body).await
}

/// The kubelet's path for a stream, with its own names for the options.
fn stream_path(call: &Call<'_>, pod: &Object, container: &str) -> String {
    let (namespace, name) = (part(pod.namespace()), part(pod.name()));
    let what = call.info.subresource.as_str();
    let mut query = form_urlencoded::Serializer::new(String::new());
    if what == "portforward" {
        for port in call.query.all("ports") {
            query.append_pair("port", port);
        }
        return format!("/portForward/{namespace}/{name}?{}", query.finish());
    }
    for (from, to) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if call.query.flag(from) {
            query.append_pair(to, "1");
        }
    }
    for command in call.query.all("command").filter(|_| what == "exec") {
        query.append_pair("command", command);
    }
    format!("/{what}/{namespace}/{name}/{}?{}", part(container), query.finish())
}

fn part(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().replace("%2D", "-").replace("%2E", ".")
}

async fn pod(call: &Call<'_>) -> Result<Object, ApiError> {
    let cache = call.core.registry.named("", "pods")?;
    object(call, &cache, &call.info.namespace, &call.info.name).await
}

/// Reads an object that a connection is about.
pub(super) async fn object(
    call: &Call<'_>,
    cache: &Arc<ResourceCache>,
    namespace: &str,
    name: &str,
) -> Result<Object, ApiError> {
    let target = Target::stored(cache, namespace, name, call.user);
    call.core.registry.get(&target, "").await.map(|cached| cached.object())
}

/// The kubelet of a node. That there is no such node is said as of what was `asked` for, as upstream does.
pub(super) async fn kubelet(core: &Core, asked: &str, node: &str) -> Result<Backend, ApiError> {
    let nodes = core.registry.named("", "nodes")?;
    core.registry.freshen().await?;
    let missing = || ApiError::not_found(Qualified { group: "", resource: asked }, node);
    let object = nodes.get(&nodes.key("", node)).ok_or_else(missing)?.object();
    Backend::of_node(&object, &core.config.kubelet_address_types).map_err(ApiError::internal)
}

/// The container that is asked for, or the only or default one.
fn container(call: &Call<'_>, pod: &Object) -> Result<String, ApiError> {
    let names = |field: &str| -> Vec<String> {
        let list = pod.get(&["spec", field]).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|container| container["name"].as_str()).map(str::to_owned).collect()
    };
    let (containers, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let pod_name = pod.name();
    if let Some(name) = call.query.get("container").filter(|name| !name.is_empty()) {
        let known = [&containers, &init, &ephemeral].iter().any(|list| list.iter().any(|known| known == name));
        return if known {
            Ok(name.to_owned())
        } else {
            Err(ApiError::bad_request(format!("container {name} is not valid for pod {pod_name}")))
        };
    }
    if let [only] = containers.as_slice() {
        return Ok(only.clone());
    }
    if let Some(default) =
        pod.annotation("kubectl.kubernetes.io/default-container").filter(|name| containers.iter().any(|c| c == name))
    {
        return Ok(default.to_owned());
    }
    let mut text =
        format!("a container name must be specified for pod {pod_name}, choose one of: [{}]", containers.join(" "));
    if !init.is_empty() {
        text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
    }
    if !ephemeral.is_empty() {
        text.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
    }
    Err(ApiError::bad_request(text))
}

fn check_log_options(call: &Call<'_>) -> Result<(), ApiError> {
    use api::field::{FieldError, Path};
    if let Some(since) = call.query.get("sinceTime").filter(|since| !matches!(*since, "" | "null")) {
        api::codec::time::seconds(since).map_err(ApiError::bad_request)?;
    }
    let mut errors = Vec::new();
    let both = call.query.get("sinceSeconds").is_some() && call.query.get("sinceTime").is_some();
    for (name, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", if both { i64::MIN } else { 1 })] {
        if let Some(value) = call.query.integer(name)?.filter(|value| *value < least) {
            let detail = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            errors.push(FieldError::invalid(&Path::new(name), value, detail));
        }
    }
    if both {
        errors.push(FieldError::forbidden(
            &Path::new("[]"),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    // The gate PodLogsQuerySplitStreams is not on.
    if call.query.get("stream").is_some() {
        errors.push(FieldError::forbidden(&Path::new("stream"), "may not be specified"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(Qualified { group: "", resource: "PodLogOptions" }, &call.info.name, &errors))
}
