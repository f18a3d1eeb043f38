//! The proxies: `nodes/{name}/proxy/...`, `pods/{name}/proxy/...` and `services/{name}/proxy/...`.

use std::sync::Arc;

use api::{ApiError, Object, Resource};
use axum::body::Body;
use serde_json::Value;

use super::dial::{Backend, Tls};
use super::forward;
use super::pod::{kubelet, object};
use crate::endpoints;
use crate::handler::Call;
use crate::response::Answer;

pub(super) async fn answer(call: &Call<'_>, row: &Arc<Resource>, body: Body) -> Result<Answer, ApiError> {
    let invalid = || ApiError::bad_request(format!("invalid {} request {:?}", row.singular, call.info.name));
    let (scheme, name, port) = split_name(&call.info.name).ok_or_else(invalid)?;
    let backend = match row.plural.as_ref() {
        "nodes" => node(call, name, port).await?,
        "pods" => pod(call, scheme, name, port).await?,
        _ => service(call, scheme, name, port).await?,
    };
    let path = if call.info.tail.is_empty() { "/" } else { call.info.tail.as_str() };
    let query = call.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    forward(call.core, call.parts, &backend, &format!("{}{query}", raw_tail(call).unwrap_or(path)), body).await
}

/// The part of the path after `/proxy`, as the client encoded it.
fn raw_tail<'a>(call: &'a Call<'_>) -> Option<&'a str> {
    let path = call.parts.uri.path();
    let (_, tail) = path.split_once("/proxy")?;
    (!tail.is_empty()).then_some(tail)
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

async fn node(call: &Call<'_>, name: &str, port: &str) -> Result<Backend, ApiError> {
    let backend = kubelet(call.core, name).await?;
    match port {
        "" => Ok(backend),
        port => Ok(Backend { port: number(port)?, ..backend }),
    }
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
    let host = pod.text(&["status", "podIP"]);
    if host.is_empty() {
        return Err(ApiError::bad_request("address not allowed"));
    }
    let port = if port.is_empty() { first_port(&pod).unwrap_or(80) } else { number(port)? };
    Ok(Backend { host: host.to_owned(), port, tls })
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
    let (host, port) = endpoints::ready(&slices, namespace, name, port_name)
        .ok_or_else(|| unavailable(format!("no endpoints available for service {name:?}")))?;
    Ok(Backend { host, port, tls })
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
