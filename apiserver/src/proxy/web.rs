//! The proxies: `nodes/{name}/proxy/...`, `pods/{name}/proxy/...` and `services/{name}/proxy/...`. Upstream:
//! `ProxyREST` of pods, Services and nodes.

use std::net::IpAddr;
use std::sync::Arc;

use api::{ApiError, Object, Resource};
use axum::body::Body;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    HeaderMap, HeaderName, HeaderValue, LOCATION, UPGRADE,
};
use http::{Method, StatusCode};
use serde_json::Value;

use super::links::Links;
use super::moved::Moved;
use super::pod::{kubelet, object};
use super::{Outgoing, forward};
use crate::call::Call;
use crate::outbound::dial::Reach;
use crate::outbound::kubelets::{Backend, Tls};
use crate::outbound::services;
use crate::request::headers as header;
use crate::response::{self, Answer};
use crate::watch_cache::ResourceCache;

pub(super) async fn answer(
    call: &Call<'_>,
    row: &Arc<Resource>,
    method: &Method,
    body: Body,
) -> Result<Answer, ApiError> {
    let invalid = || ApiError::bad_request(format!("invalid {} request {:?}", row.singular, call.info.name));
    let (scheme, name, port) = split_name(&call.info.name).ok_or_else(invalid)?;
    let backend = match row.plural.as_ref() {
        "nodes" => node(call, scheme, name, port).await?,
        "pods" => pod(call, scheme, name, port).await?,
        _ => service(call, scheme, name, port).await?,
    };
    let tail = call.info.raw_tail.as_str();
    let query = call.raw_query().map(|query| format!("?{query}")).unwrap_or_default();
    let upgrades = call.headers().contains_key(UPGRADE);
    if tail.is_empty() && !upgrades && matches!(*method, Method::GET | Method::HEAD) {
        return redirected(&format!("{}/{query}", call.raw_path()));
    }
    let prefix = call.raw_path().strip_suffix(tail).unwrap_or_default();
    let (headers, host) = (forwarded(call), call.host());
    let asked = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let moved = Moved::new(prefix, backend.to_string(), asked);
    let outgoing = Outgoing { method, headers: &headers, host, client: call.upgrade() };
    let path = if tail.is_empty() { "/" } else { tail };
    let answer = forward(call.core, outgoing, &backend, &format!("{path}{query}"), body).await?;
    Ok(if upgrades { answer } else { moved_answer(&moved, answer) })
}

/// The answer as the client shall see it: its redirect, or the links of its HTML, lead through the proxy again. What other origins may do is not the backend's to say.
fn moved_answer(moved: &Moved, answer: Answer) -> Answer {
    let (mut parts, body) = answer.into_parts();
    for name in [
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN,
    ] {
        parts.headers.remove(name);
    }
    let location = header::shown(&parts.headers, LOCATION).into_owned();
    if !location.is_empty() {
        if let Some(Ok(url)) = moved.url(&location).map(|url| HeaderValue::from_str(&url)) {
            parts.headers.insert(LOCATION, url);
        }
        return Answer::from_parts(parts, body);
    }
    if !is_plain_html(&parts.headers) {
        return Answer::from_parts(parts, body);
    }
    parts.headers.remove(CONTENT_LENGTH);
    let pieces = Links::new(moved.clone()).follow(body.into_data_stream());
    Answer::from_parts(parts, Body::from_stream(pieces))
}

fn is_plain_html(headers: &HeaderMap) -> bool {
    let kind = header::shown(headers, CONTENT_TYPE);
    kind.split(';').next().is_some_and(|kind| kind.trim() == "text/html") && !headers.contains_key(CONTENT_ENCODING)
}

/// Below the root of a backend relative links are right, at its name alone they are not.
fn redirected(location: &str) -> Result<Answer, ApiError> {
    let location = HeaderValue::from_str(location).map_err(|err| ApiError::bad_request(err.to_string()))?;
    let mut answer = response::nothing(StatusCode::MOVED_PERMANENTLY);
    answer.headers_mut().insert(LOCATION, location);
    Ok(answer)
}

/// The client's headers with what proxies add to them.
fn forwarded(call: &Call<'_>) -> HeaderMap {
    const FOR: &str = "x-forwarded-for";
    let mut headers = call.headers().clone();
    if let Some(peer) = call.peer() {
        let before = header::shown(&headers, FOR).into_owned();
        let all = if before.is_empty() { peer.to_string() } else { format!("{before}, {peer}") };
        headers.extend(HeaderValue::from_str(&all).ok().map(|all| (HeaderName::from_static(FOR), all)));
    }
    if headers.contains_key(UPGRADE) {
        return headers;
    }
    let uri = HeaderValue::from_str(call.raw_path()).ok();
    headers.extend(uri.map(|uri| (HeaderName::from_static("x-forwarded-uri"), uri)));
    // The links of a page can be changed only where they can be read.
    if header::shown(&headers, ACCEPT).contains("text/html") {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    headers
}

/// `[scheme:]name[:port]`, with a scheme that the proxy speaks.
fn split_name(text: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = text.split(':').collect();
    let parts = match parts.as_slice() {
        [scheme, name, port] => (*scheme, *name, *port),
        [name, port] => ("", *name, *port),
        [name] => ("", *name, ""),
        _ => return None,
    };
    (matches!(parts.0, "" | "http" | "https") && !parts.1.is_empty()).then_some(parts)
}

/// The kubelet of a node; at other ports something else, which is not shown our certificate.
async fn node(call: &Call<'_>, scheme: &str, name: &str, port: &str) -> Result<Backend, ApiError> {
    let backend = kubelet(call.core, "nodes", name).await?;
    let port = if port.is_empty() { backend.port } else { number(port)? };
    if port == backend.port {
        return Ok(backend);
    }
    Ok(Backend { port, tls: tls(scheme), reach: Reach::Proxyable, ..backend })
}

fn number(port: &str) -> Result<u16, ApiError> {
    port.parse().map_err(|_| ApiError::bad_request(format!("invalid port {port:?}")))
}

fn tls(scheme: &str) -> Tls {
    if scheme == "https" { Tls::Unverified } else { Tls::Plain }
}

async fn pod(call: &Call<'_>, scheme: &str, name: &str, port: &str) -> Result<Backend, ApiError> {
    let tls = tls(scheme);
    let cache = call.core.registry.named("", "pods")?;
    let pod = object(call, &cache, &call.info.namespace, name).await?;
    let host = allowed(call, &pod, pod.text(&["status", "podIP"]))?;
    let port = if port.is_empty() { first_port(&pod).unwrap_or(80) } else { number(port)? };
    Ok(Backend { host, port, tls, reach: Reach::Proxyable })
}

/// The address of a pod, if it can be one. Whoever may write its status says what it is: it must not be a place that the
/// API server can reach and the pod is not at, as the node's own addresses are for pods with a network of their own.
fn allowed(call: &Call<'_>, pod: &Object, address: &str) -> Result<String, ApiError> {
    let refused = || ApiError::bad_request("address not allowed");
    let parsed: IpAddr = address.parse().map_err(|_| refused())?;
    let on_host = pod.get(&["spec", "hostNetwork"]).and_then(Value::as_bool) == Some(true);
    if !host::is_elsewhere(parsed) || (!on_host && is_of_a_node(call, parsed)?) {
        return Err(refused());
    }
    Ok(parsed.to_string())
}

fn is_of_a_node(call: &Call<'_>, address: IpAddr) -> Result<bool, ApiError> {
    let nodes = call.core.registry.named("", "nodes")?.snapshot();
    let is_it = |node: &Object| {
        let addresses = node.get(&["status", "addresses"]).and_then(Value::as_array).into_iter().flatten();
        let texts = addresses.filter_map(|known| known["address"].as_str());
        texts.filter_map(|text| text.parse::<IpAddr>().ok()).any(|known| known.to_canonical() == address.to_canonical())
    };
    Ok(nodes.objects.values().any(|node| is_it(node.tree())))
}

fn first_port(pod: &Object) -> Option<u16> {
    let containers = pod.get(&["spec", "containers"])?.as_array()?;
    let port = containers.iter().find_map(|container| container["ports"][0]["containerPort"].as_u64())?;
    u16::try_from(port).ok()
}

async fn service(call: &Call<'_>, scheme: &str, name: &str, port: &str) -> Result<Backend, ApiError> {
    let tls = tls(scheme);
    let services = call.core.registry.named("", "services")?;
    let namespace = &call.info.namespace;
    let service = object(call, &services, namespace, name).await?;
    let ports = service.get(&["spec", "ports"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = ports.iter().find(|known| match port {
        "" => ports.len() == 1,
        port => known["name"] == port || known["port"].as_u64().is_some_and(|number| number.to_string() == port),
    });
    let unavailable = |why: String| ApiError::service_unavailable(why);
    let wanted = wanted.ok_or_else(|| match port.parse::<i64>() {
        Ok(number) => unavailable(format!("no service port {number} found for service {name:?}")),
        Err(_) => unavailable(format!("no endpoints available for service {:?}", call.info.name)),
    })?;
    let port_name = wanted["name"].as_str().unwrap_or("");
    let slices = call.core.registry.named("discovery.k8s.io", "endpointslices")?;
    let pods = call.core.registry.named("", "pods")?;
    let at_its_pod = |endpoint: &Value, address: &str| {
        let Some(pod) = pod_of(&pods, namespace, endpoint) else { return false };
        has_address(&pod, address) && allowed(call, &pod, address).is_ok()
    };
    let (host, port) = services::ready(&slices, namespace, name, port_name, at_its_pod)
        .ok_or_else(|| unavailable(format!("no endpoints available for service {name:?}")))?;
    Ok(Backend { host, port, tls, reach: Reach::Proxyable })
}

/// The pod that an endpoint names, in the namespace of its Service: whoever may write endpoints must not choose where
/// the API server connects to.
fn pod_of(pods: &ResourceCache, namespace: &str, endpoint: &Value) -> Option<Object> {
    let target = endpoint.get("targetRef")?;
    let text = |field: &str| target.get(field).and_then(Value::as_str).unwrap_or("");
    let here = text("kind") == "Pod" && text("namespace") == namespace;
    let pod = here.then(|| pods.get(&pods.key(namespace, text("name")))).flatten()?;
    Some(pod.object())
}

fn has_address(pod: &Object, address: &str) -> bool {
    let more = pod.get(&["status", "podIPs"]).and_then(Value::as_array).into_iter().flatten();
    let mut all = more.filter_map(|known| known["ip"].as_str()).chain([pod.text(&["status", "podIP"])]);
    !address.is_empty() && all.any(|known| known == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_scheme_and_a_port() {
        assert_eq!(split_name("a"), Some(("", "a", "")));
        assert_eq!(split_name("a:80"), Some(("", "a", "80")));
        assert_eq!(split_name("https:a:"), Some(("https", "a", "")));
        for wrong in ["ftp:a:80", "a:b:c:d", ":80", ""] {
            assert_eq!(split_name(wrong), None, "{wrong}");
        }
    }
}
