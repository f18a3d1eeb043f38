//! A cheap HTTP client: hyper connections without layers, shared (HTTP/2) or one a worker (HTTP/1.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::Error;
use crate::options::Protocol;
use crate::target::Target;

/// A request that takes longer than this has failed, unless it is a watch.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// HTTP/2 windows large enough never to hold up a list.
const WINDOW: u32 = 16 << 20;
/// No text of a refusal is longer.
const REFUSAL_BYTES: usize = 64 * 1024;
/// Servers commonly allow 100 streams a connection; watches must not use them all up.
const STREAMS_PER_CONNECTION: usize = 50;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static("coracle-load");

/// A request, without what is the same for all.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// Path and query below the server's base.
    pub path: String,
    pub content_type: HeaderValue,
    pub body: Bytes,
    pub accept: HeaderValue,
    /// Whether the answer may be compressed. It is counted as it comes, and never decompressed.
    pub may_be_compressed: bool,
    /// Whether 404 counts as success.
    pub may_be_absent: bool,
}

impl Call {
    /// A read.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            content_type: JSON,
            body: Bytes::new(),
            accept: JSON,
            may_be_compressed: false,
            may_be_absent: false,
        }
    }

    /// The same request for an answer of another type.
    #[must_use]
    pub fn accepting(self, accept: &'static str) -> Self {
        Self { accept: HeaderValue::from_static(accept), ..self }
    }

    /// The same request for a compressed answer.
    #[must_use]
    pub fn compressed(self) -> Self {
        Self { may_be_compressed: true, ..self }
    }

    /// A create.
    pub fn post(path: impl Into<String>, body: Bytes) -> Self {
        Self { method: Method::POST, body, ..Self::get(path) }
    }

    /// A merge patch.
    pub fn merge_patch(path: impl Into<String>, body: Bytes) -> Self {
        let content_type = HeaderValue::from_static("application/merge-patch+json");
        Self { method: Method::PATCH, content_type, body, ..Self::get(path) }
    }

    /// A delete without grace; the object may be gone already.
    pub fn delete(path: impl Into<String>) -> Self {
        let body = Bytes::from_static(br#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}"#);
        Self { method: Method::DELETE, body, may_be_absent: true, ..Self::get(path) }
    }

    fn name(&self) -> &'static str {
        match self.method {
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "GET",
        }
    }
}

/// A server that can be reached.
#[derive(Debug)]
pub struct Client {
    target: Target,
    protocol: Protocol,
    shared: Vec<Lane>,
    turn: AtomicUsize,
}

impl Client {
    /// Connects `connections` times if they can be shared (HTTP/2), or once to see that it works.
    pub async fn connect(target: Target, protocol: Protocol, connections: usize) -> Result<Self, Error> {
        let target = target.speaking(protocol.alpn());
        let mut shared = Vec::new();
        for _ in 0..if protocol == Protocol::Http2 { connections } else { 1 } {
            shared.push(Lane::connect(&target, protocol).await?);
        }
        Ok(Self { target, protocol, shared, turn: AtomicUsize::new(0) })
    }

    /// A lane for one worker, which sends one request after another.
    pub async fn lane(&self) -> Result<Lane, Error> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.shared.len();
        match self.shared[turn].share() {
            Some(lane) => Ok(lane),
            None => Lane::connect(&self.target, self.protocol).await,
        }
    }

    /// A lane on a connection of its own.
    pub async fn own_lane(&self) -> Result<Lane, Error> {
        Lane::connect(&self.target, self.protocol).await
    }

    /// Lanes on connections of their own, for requests that last.
    pub async fn long_lanes(&self, count: usize) -> Result<Vec<Lane>, Error> {
        let mut lanes: Vec<Lane> = Vec::with_capacity(count);
        for at in 0..count {
            let reused = if at % STREAMS_PER_CONNECTION == 0 { None } else { lanes.last().and_then(Lane::share) };
            lanes.push(match reused {
                Some(lane) => lane,
                None => Lane::connect(&self.target, self.protocol).await?,
            });
        }
        Ok(lanes)
    }

    /// Sends one request and reads the whole answer.
    pub async fn call(&self, call: &Call) -> Result<Bytes, Error> {
        self.lane().await?.fetch(call).await
    }

    /// Sends one request and parses the answer; `null` if the object may be absent and is.
    pub async fn json(&self, call: &Call) -> Result<Value, Error> {
        let answer = self.call(call).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }
}

/// One request at a time to one connection.
#[derive(Debug)]
pub struct Lane {
    sender: Sender,
    /// `https://127.0.0.1:6443/base`, or only the base with HTTP/1.1.
    prefix: Arc<str>,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    driver: Arc<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Lane {
    /// Opens a connection.
    pub async fn connect(target: &Target, protocol: Protocol) -> Result<Self, Error> {
        let address = target.address();
        let unreachable = |source| Error::Unreachable { address: address.clone(), source };
        let late = |_| unreachable(std::io::ErrorKind::TimedOut.into());
        let connecting = TcpStream::connect((target.host.as_str(), target.port));
        let socket = tokio::time::timeout(PATIENCE, connecting).await.map_err(late)?.map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        let scheme = if target.tls.is_some() { "https" } else { "http" };
        let prefix = match protocol {
            Protocol::Http1 => target.base.clone(),
            Protocol::Http2 => format!("{scheme}://{address}{}", target.base),
        };
        let (sender, driver) = match target.connector() {
            Some((connector, name)) => {
                let handshake = tokio::time::timeout(PATIENCE, connector.connect(name, socket));
                open(handshake.await.map_err(late)?.map_err(unreachable)?, protocol, &address).await?
            }
            None => open(socket, protocol, &address).await?,
        };
        let host = HeaderValue::from_str(&address).unwrap_or(HeaderValue::from_static("localhost"));
        Ok(Self {
            sender,
            prefix: prefix.into(),
            host,
            authorization: target.authorization.clone(),
            driver: Arc::new(driver),
        })
    }

    /// Another lane of the same connection, if it can carry several requests.
    fn share(&self) -> Option<Self> {
        let Sender::Two(sender) = &self.sender else { return None };
        Some(Self {
            sender: Sender::Two(sender.clone()),
            prefix: self.prefix.clone(),
            host: self.host.clone(),
            authorization: self.authorization.clone(),
            driver: self.driver.clone(),
        })
    }

    /// Sends a request and returns its answer once the headers are there; an answer other than 2xx is an error.
    pub async fn open(&mut self, call: &Call) -> Result<Response<Incoming>, Error> {
        let transport = |source| Error::Transport { method: call.name(), path: call.path.clone(), source };
        let request = self.request(call)?;
        let answer = match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await.map_err(transport)?;
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                sender.ready().await.map_err(transport)?;
                sender.send_request(request).await
            }
        };
        let answer = answer.map_err(transport)?;
        let status = answer.status();
        if status.is_success() || (call.may_be_absent && status == StatusCode::NOT_FOUND) {
            return Ok(answer);
        }
        let body = Limited::new(answer.into_body(), REFUSAL_BYTES)
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        Err(Error::Refused { method: call.name(), path: call.path.clone(), status, message: message(&body) })
    }

    /// Sends a request and reads the whole answer.
    pub async fn fetch(&mut self, call: &Call) -> Result<Bytes, Error> {
        let transport = |source| Error::Transport { method: call.name(), path: call.path.clone(), source };
        let whole =
            async { self.open(call).await?.into_body().collect().await.map(|body| body.to_bytes()).map_err(transport) };
        let late = |_| Error::TimedOut { what: format!("{} {}", call.name(), call.path), seconds: PATIENCE.as_secs() };
        tokio::time::timeout(PATIENCE, whole).await.map_err(late)?
    }

    /// Sends a request and counts the bytes of the answer. Sets no timer: the caller has one for all its requests.
    pub async fn count(&mut self, call: &Call) -> Result<u64, Error> {
        let transport = |source| Error::Transport { method: call.name(), path: call.path.clone(), source };
        let mut body = self.open(call).await?.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame.map_err(transport)?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(bytes)
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder().method(call.method.clone()).uri(format!("{}{}", self.prefix, call.path));
        request = request.header(header::ACCEPT, call.accept.clone()).header(header::USER_AGENT, AGENT);
        if call.may_be_compressed {
            request = request.header(header::ACCEPT_ENCODING, "gzip");
        }
        if matches!(self.sender, Sender::One(_)) {
            request = request.header(header::HOST, self.host.clone());
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.clone());
        }
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, call.content_type.clone());
        }
        let invalid = |_| Error::Refused {
            method: call.name(),
            path: call.path.clone(),
            status: StatusCode::BAD_REQUEST,
            message: "the server's address and this path are no valid URL".to_owned(),
        };
        request.body(Full::new(call.body.clone())).map_err(invalid)
    }
}

async fn open<S>(socket: S, protocol: Protocol, address: &str) -> Result<(Sender, AbortOnDropHandle<()>), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |source| Error::Handshake { address: address.to_owned(), source };
    // How a connection ends, its requests see: the drivers' own results say nothing more.
    Ok(match protocol {
        Protocol::Http1 => {
            let (sender, driver) = http1::handshake(TokioIo::new(socket)).await.map_err(failed)?;
            (Sender::One(sender), AbortOnDropHandle::new(tokio::spawn(async { drop(driver.await) })))
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW).max_frame_size(64 * 1024);
            let (sender, driver) = builder.handshake(TokioIo::new(socket)).await.map_err(failed)?;
            (Sender::Two(sender), AbortOnDropHandle::new(tokio::spawn(async { drop(driver.await) })))
        }
    })
}

/// The message of a `Status`, or the beginning of what else was answered.
fn message(body: &[u8]) -> String {
    let status: Option<Value> = serde_json::from_slice(body).ok();
    let message = status.as_ref().and_then(|status| status["message"].as_str()).map(str::to_owned);
    message.unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(200).collect())
}

/// The lines of an answer that does not end: a watch.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The lines of `body`.
    pub fn of(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next line without its end, `None` when the stream has ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(searched + end + 1).freeze();
                line.truncate(searched + end);
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            match self.body.frame().await {
                Some(frame) => self.buffer.extend_from_slice(frame?.data_ref().map_or(&[], |data| data)),
                None => return Ok(None),
            }
        }
    }
}
