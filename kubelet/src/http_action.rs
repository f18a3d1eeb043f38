//! The HTTP, TCP and gRPC calls that probes and lifecycle hooks make.
use std::net::IpAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

const MAX_BODY: usize = 10 * 1024;

/// Why a call failed; the text is what `Unhealthy` events show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is neither a number nor a named port of the container.
    #[error("couldn't find port: {0}")]
    Port(String),
    /// The request itself cannot be made.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// Nobody answers there.
    #[error("dial tcp {address}: {reason}")]
    Connect {
        /// Host and port.
        address: String,
        /// The system's words.
        reason: String,
    },
    /// The conversation broke off.
    #[error("{0}")]
    Broken(String),
    /// No answer in time.
    #[error("context deadline exceeded")]
    Timeout,
    /// An answer that means no.
    #[error("{0}")]
    Refused(String),
}

/// The number of a port of a container.
pub fn port_number(container: &Container, port: &IntOrString) -> Result<u16, Error> {
    let wrong = |port: &dyn std::fmt::Display| Error::Port(port.to_string());
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok().filter(|port| *port > 0).ok_or_else(|| wrong(number)),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            let number = named.map(|port| port.container_port).or_else(|| name.parse().ok());
            number.and_then(|port| u16::try_from(port).ok()).ok_or_else(|| wrong(name))
        }
    }
}

/// An address with a port, IPv6 in brackets.
pub fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Opens and closes a connection.
pub async fn tcp(host: &str, port: u16) -> Result<(), Error> {
    connect(host, port).await.map(drop)
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, Error> {
    let address = host_port(host, port);
    TcpStream::connect(&address).await.map_err(|err| Error::Connect { reason: err.to_string(), address })
}

/// Makes the request and returns status and body; redirects to other hosts are not followed.
pub async fn get(
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: Option<IpAddr>,
    agent: &str,
) -> Result<(StatusCode, String), Error> {
    let port = port_number(container, &action.port)?;
    let host = match (&action.host, pod_ip) {
        (Some(host), _) if !host.is_empty() => host.clone(),
        (_, Some(ip)) => ip.to_string(),
        _ => return Err(Error::Invalid("the pod has no address".to_owned())),
    };
    let tls = action.scheme.as_deref() == Some("HTTPS");
    let request = build(action, &host_port(&host, port), agent)?;
    let stream = connect(&host, port).await?;
    let response = if tls {
        let name = ServerName::try_from(host).map_err(|err| Error::Invalid(err.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(daemon::unverified_tls());
        send(connector.connect(name, stream).await.map_err(broken)?, request).await?
    } else {
        send(stream, request).await?
    };
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map(|body| body.to_bytes());
    Ok((status, String::from_utf8_lossy(&body.unwrap_or_default()).into_owned()))
}

fn build(action: &HTTPGetAction, authority: &str, agent: &str) -> Result<Request<Full<Bytes>>, Error> {
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = Request::get(path)
        .header(http::header::HOST, authority)
        .header(http::header::USER_AGENT, agent)
        .header(http::header::ACCEPT, "*/*")
        .header(http::header::CONNECTION, "close")
        .body(Full::default())
        .map_err(|err| Error::Invalid(err.to_string()))?;
    let mut replaced = std::collections::HashSet::new();
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::try_from(header.name.as_str()).map_err(|err| Error::Invalid(err.to_string()))?;
        let value = HeaderValue::try_from(header.value.as_str()).map_err(|err| Error::Invalid(err.to_string()))?;
        if replaced.insert(name.clone()) {
            request.headers_mut().insert(name, value);
        } else {
            request.headers_mut().append(name, value);
        }
    }
    Ok(request)
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // The connection ends with the request: both are dropped together by the caller's time limit.
    let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(broken)?;
    let (head, body) = response.into_parts();
    driver.detach();
    Ok(Response::from_parts(head, body))
}

fn broken(err: impl std::error::Error) -> Error {
    Error::Broken(crate::failure::chain(&err))
}

/// Asks a gRPC server's health service; an error when it is not serving.
pub async fn grpc_health(action: &GRPCAction, ip: IpAddr) -> Result<(), Error> {
    let port = u16::try_from(action.port).map_err(|_| Error::Port(action.port.to_string()))?;
    let address = host_port(&ip.to_string(), port);
    let stream = connect(&ip.to_string(), port).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(broken)?;
    let _driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .body(Full::new(health_request(action.service.as_deref().unwrap_or_default())))
        .map_err(|err| Error::Invalid(err.to_string()))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let head = response.headers().clone();
    let body =
        Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|err| Error::Broken(err.to_string()))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let status = trailers.get("grpc-status").or_else(|| head.get("grpc-status"));
    if status.is_some_and(|status| status != "0") {
        let text = |name: &str| {
            let value = trailers.get(name).or_else(|| head.get(name));
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let message = format!("rpc error: code = {} desc = {}", text("grpc-status"), text("grpc-message"));
        return Err(Error::Refused(message));
    }
    // Frame header of five bytes, then field 1 (status) as varint; SERVING is 1.
    match body.to_bytes().get(5..) {
        Some([0x08, 0x01, ..]) => Ok(()),
        Some([0x08, code, ..]) => Err(Error::Refused(format!("service unhealthy (responded with {code})"))),
        _ => Err(Error::Refused("service unhealthy (responded with \"UNKNOWN\")".to_owned())),
    }
}

fn health_request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

/// Limits a call in time.
pub async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(Error::Timeout))
}
