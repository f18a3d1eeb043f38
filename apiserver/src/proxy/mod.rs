//! Connections to nodes and pods on behalf of clients: logs, exec, attach, port-forward and the proxies. Upstream:
//! `util/proxy.UpgradeAwareHandler`.
//!
//! Upgraded streams are copied as they are, both ways: the kubelet speaks the client's protocol (WebSocket or SPDY), and
//! this server does not look into it.

pub(crate) mod aggregated;
mod links;
mod moved;
mod pod;
mod web;

use std::sync::Arc;

use api::resource::join_group_version;
use api::status::Qualified;
use api::{ApiError, Object, Resource};
use axum::body::Body;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, UPGRADE};
use http::{Method, Request, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::admission::{Attributes, Operation, kind_of};
use crate::authn::protocols;
use crate::authz;
use crate::call::{Call, method_not_allowed};
use crate::core::Core;
use crate::request::headers as header;
use crate::request::info::Deed;
use crate::response::Answer;

use crate::outbound::dial::DialError;
use crate::outbound::kubelets::Backend;

/// Answers a subresource that leads to a node or pod.
pub(crate) async fn answer(call: &Call<'_>, row: &Arc<Resource>, body: Body) -> Result<Answer, ApiError> {
    match (row.plural.as_ref(), call.info.subresource.as_str(), &call.info.deed) {
        ("pods", "log", Deed::Get) => pod::log(call).await,
        ("pods", "exec" | "attach" | "portforward", Deed::Connect(method)) => {
            permit_creation(call).await?;
            admit(call, row).await?;
            pod::stream(call, method, body).await
        }
        ("pods" | "services" | "nodes", "proxy", Deed::Connect(method)) => {
            admit(call, row).await?;
            web::answer(call, row, method, body).await
        }
        _ => Err(method_not_allowed()),
    }
}

/// Asks for the verb `create` on a stream that is opened by GET, as WebSockets are: who may only read must not get a shell
/// (upstream's AuthorizePodWebsocketUpgradeCreatePermission).
async fn permit_creation(call: &Call<'_>) -> Result<(), ApiError> {
    const VERB: &str = "create";
    if call.info.verb() == VERB {
        return Ok(());
    }
    let wanted = authz::Attributes { verb: VERB.into(), ..authz::Attributes::new(call.user, call.info) };
    let refused = |why: String| {
        let what = Qualified { group: &call.info.group, resource: &call.info.resource };
        ApiError::forbidden(what, &call.info.name, &why)
    };
    call.core.authz.authorize(&wanted).await.map_err(refused)
}

/// Asks admission about a connection, whose object is its options.
async fn admit(call: &Call<'_>, row: &Arc<Resource>) -> Result<(), ApiError> {
    let (info, registry) = (call.info, &call.core.registry);
    let catalog = registry.catalog();
    let mut options = connect_options(call, row);
    let attributes = Attributes {
        operation: Operation::Connect,
        resource: catalog.storage_row(row),
        requested: row,
        catalog: &catalog,
        subresource: &info.subresource,
        namespace: if row.namespaced { &info.namespace } else { "" },
        name: &info.name,
        user: call.user,
        dry_run: false,
        old: None,
        options: None,
        reinvocation: None,
    };
    registry.admission().admit(&attributes, &mut options, &mut Vec::new()).await
}

/// The query of a connection as an object: `PodExecOptions`, `ServiceProxyOptions`, ...
fn connect_options(call: &Call<'_>, row: &Resource) -> Object {
    let kind = kind_of(row, &call.info.subresource);
    let mut options = Object::default();
    options.set(&["kind"], kind.kind.as_ref());
    options.set(&["apiVersion"], join_group_version(&kind.group, &kind.version));
    match call.info.subresource.as_str() {
        "proxy" => {
            let (tail, slash) = (call.info.tail.as_str(), call.info.path.ends_with('/'));
            let path = if slash && !tail.ends_with('/') { format!("{tail}/") } else { tail.to_owned() };
            if !path.is_empty() {
                options.set(&["path"], path);
            }
        }
        "portforward" => {
            let ports: Vec<u16> =
                call.query.all("ports").flat_map(|ports| ports.split(',')).flat_map(str::parse).collect();
            if !ports.is_empty() {
                options.set(&["ports"], ports);
            }
        }
        stream => {
            for flag in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|flag| call.query.flag(flag)) {
                options.set(&[flag], true);
            }
            if let Some(container) = call.query.get("container") {
                options.set(&["container"], container);
            }
            let command: Vec<&str> = call.query.all("command").filter(|_| stream == "exec").collect();
            if !command.is_empty() {
                options.set(&["command"], command);
            }
        }
    }
    options
}

/// What is sent on of a request: the method that was authorised, the client's headers, and its side of the connection if
/// that leaves HTTP.
struct Outgoing<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    /// Whom the client asked, for backends that want to know.
    host: Option<HeaderValue>,
    client: Option<OnUpgrade>,
}

/// Sends a request on to a backend and its answer back; upgrades are joined.
async fn forward(
    core: &Arc<Core>,
    outgoing: Outgoing<'_>,
    backend: &Backend,
    path_and_query: &str,
    body: Body,
) -> Result<Answer, ApiError> {
    let unreachable = |err: &dyn std::fmt::Display| {
        ApiError::service_unavailable(format!("error trying to reach service: dial tcp {backend}: {err}"))
    };
    let refused = |err: DialError| match err {
        DialError::NotAllowed => ApiError::bad_request(err.to_string()),
        other => unreachable(&other),
    };
    let uri: Uri =
        path_and_query.parse().map_err(|err| ApiError::bad_request(format!("bad path {path_and_query:?}: {err}")))?;
    let mut request = Request::new(body);
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = forwarded_headers(&outgoing, backend)?;
    let mut sender = core.kubelets.connect(backend, &core.connections, &core.shutdown).await.map_err(refused)?;
    let mut response = sender.send_request(request).await.map_err(|err| unreachable(&err))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let backend_side = hyper::upgrade::on(&mut response);
        let client_side = outgoing
            .client
            .ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded (use HTTP/1.1)"))?;
        join(core, client_side, backend_side);
    } else if outgoing.headers.contains_key(UPGRADE) && response.status() < StatusCode::BAD_REQUEST {
        let code = response.status().as_u16();
        return Err(ApiError::unclassified(format!("invalid upgrade response: status code {code}")));
    }
    Ok(response.map(Body::new))
}

/// Copies between two upgraded connections until one side ends or the server shuts down.
pub(crate) fn join(core: &Core, client: OnUpgrade, backend: OnUpgrade) {
    let shutdown = core.shutdown.clone();
    core.connections.spawn(async move {
        let copy = async {
            let (client, backend) = tokio::try_join!(client, backend)?;
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            // A side that goes away without a word is how these streams end.
            let _ended = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
            Ok::<_, hyper::Error>(())
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            outcome = copy => if let Err(err) = outcome {
                tracing::debug!(error = &err as &dyn std::error::Error, "upgrade failed");
            }
        }
    });
}

/// The client's headers without its credentials and what concerns only its own connection.
fn forwarded_headers(outgoing: &Outgoing<'_>, backend: &Backend) -> Result<HeaderMap, ApiError> {
    let mut forwarded = outgoing.headers.clone();
    forwarded.remove(AUTHORIZATION);
    protocols::hide(&mut forwarded);
    header::end_to_end(&mut forwarded);
    let host = match &outgoing.host {
        Some(host) => host.clone(),
        None => HeaderValue::from_str(&backend.to_string()).map_err(ApiError::internal)?,
    };
    forwarded.insert(HOST, host);
    Ok(forwarded)
}
