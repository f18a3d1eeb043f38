//! The HTTP and TCP calls that probes and lifecycle hooks make (upstream: pkg/probe/http and tcp).
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

const MAX_BODY: usize = 10 * 1024;
/// How many requests one call makes, when it is sent from place to place.
const MAX_REQUESTS: usize = 10;

/// Why a call failed; the text is what `Unhealthy` events show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
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
    #[error("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")]
    Timeout,
}

/// The number of a port of a container.
pub(crate) fn port_number(container: &Container, port: &IntOrString) -> Result<u16, Error> {
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
pub(crate) fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Opens and closes a connection.
pub(crate) async fn tcp(host: &str, port: u16) -> Result<(), Error> {
    connect(host, port).await.map(drop)
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, Error> {
    let address = host_port(host, port);
    TcpStream::connect(&address).await.map_err(|err| Error::Connect { reason: in_go(&err), address })
}

/// An error of the system as Go prints it: `connect: connection refused`.
fn in_go(err: &std::io::Error) -> String {
    let text = err.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => format!("connect: {}", words.to_lowercase()),
        None => text,
    }
}

/// Makes the request and returns status and body; redirects are followed as long as they stay on the host.
pub(crate) async fn get(
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: Option<IpAddr>,
    agent: &str,
) -> Result<(StatusCode, String), Error> {
    let mut place = Place::of(action, container, pod_ip)?;
    let headers = headers(action, agent)?;
    for _ in 0..MAX_REQUESTS {
        let answer = ask(&place, &headers).await?;
        let location = answer.headers().get(LOCATION).filter(|_| is_redirect(answer.status()));
        let location = location.map(|value| value.to_str().unwrap_or_default());
        match location.map(|location| place.redirected(location)).transpose()? {
            Some(next) if next.host == place.host => place = next,
            _ => return read(answer).await,
        }
    }
    Err(Error::Broken(format!("stopped after {MAX_REQUESTS} redirects")))
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    tls: bool,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    /// With the query.
    path: String,
}

impl Place {
    fn of(action: &HTTPGetAction, container: &Container, pod_ip: Option<IpAddr>) -> Result<Self, Error> {
        let port = port_number(container, &action.port)?;
        let host = match (&action.host, pod_ip) {
            (Some(host), _) if !host.is_empty() => host.clone(),
            (_, Some(ip)) => ip.to_string(),
            _ => return Err(Error::Invalid("the pod has no address".to_owned())),
        };
        let path = action.path.as_deref().unwrap_or("/");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { tls: action.scheme.as_deref() == Some("HTTPS"), host, port, path })
    }

    /// Where a `Location` leads from here (RFC 9110, 10.2.2).
    fn redirected(&self, location: &str) -> Result<Self, Error> {
        let wrong = || Error::Broken(format!("failed to parse Location header {location:?}"));
        let location = location.split('#').next().unwrap_or_default();
        let scheme = if self.tls { "https" } else { "http" };
        let whole = match location {
            "" => return Ok(self.clone()),
            _ if location.starts_with("//") => format!("{scheme}:{location}"),
            _ if location.contains("://") => location.to_owned(),
            _ => return Ok(Self { path: self.beside(location), ..self.clone() }),
        };
        let uri: Uri = whole.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let host = uri.host().ok_or_else(wrong)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }), path })
    }

    /// A path that is given relative to this one's.
    fn beside(&self, relative: &str) -> String {
        let own = self.path.split('?').next().unwrap_or_default();
        match relative.chars().next() {
            Some('/') => relative.to_owned(),
            Some('?') => format!("{own}{relative}"),
            _ => format!("{}/{relative}", own.rsplit_once('/').map_or("", |(folder, _)| folder)),
        }
    }
}

/// Those that name another place for the same request.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

async fn ask(place: &Place, headers: &HeaderMap) -> Result<Response<Incoming>, Error> {
    let request = build(place, headers)?;
    let stream = connect(&place.host, place.port).await?;
    if !place.tls {
        return send(stream, request).await;
    }
    let name = ServerName::try_from(place.host.clone()).map_err(|err| Error::Invalid(err.to_string()))?;
    let connector = tokio_rustls::TlsConnector::from(daemon::unverified_tls());
    send(connector.connect(name, stream).await.map_err(broken)?, request).await
}

/// The beginning of what was answered.
async fn read(answer: Response<Incoming>) -> Result<(StatusCode, String), Error> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map(|body| body.to_bytes());
    Ok((status, String::from_utf8_lossy(&body.unwrap_or_default()).into_owned()))
}

fn build(place: &Place, headers: &HeaderMap) -> Result<Request<Full<Bytes>>, Error> {
    let mut request =
        Request::get(&*place.path).body(Full::default()).map_err(|err| Error::Invalid(err.to_string()))?;
    *request.headers_mut() = headers.clone();
    if !headers.contains_key(HOST) {
        let authority = HeaderValue::try_from(host_port(&place.host, place.port));
        request.headers_mut().insert(HOST, authority.map_err(|err| Error::Invalid(err.to_string()))?);
    }
    Ok(request)
}

/// Ours, and those of the action, which replace ours.
fn headers(action: &HTTPGetAction, agent: &str) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::try_from(agent).map_err(|err| Error::Invalid(err.to_string()))?);
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut replaced = std::collections::HashSet::new();
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::try_from(header.name.as_str()).map_err(|err| Error::Invalid(err.to_string()))?;
        let value = HeaderValue::try_from(header.value.as_str()).map_err(|err| Error::Invalid(err.to_string()))?;
        if replaced.insert(name.clone()) {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    Ok(headers)
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

/// Limits a call in time.
pub(crate) async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(Error::Timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(tls: bool, host: &str, port: u16, path: &str) -> Place {
        Place { tls, host: host.to_owned(), port, path: path.to_owned() }
    }

    #[test]
    fn a_location_is_read_from_where_it_was_given() {
        let here = place(false, "10.0.0.1", 8080, "/a/b?c=d");
        let check =
            |location: &str, expected: Place| assert_eq!(here.redirected(location).unwrap(), expected, "{location}");
        check("/x?y", place(false, "10.0.0.1", 8080, "/x?y"));
        check("x", place(false, "10.0.0.1", 8080, "/a/x"));
        check("?e=f#g", place(false, "10.0.0.1", 8080, "/a/b?e=f"));
        check("//10.0.0.1/x", place(false, "10.0.0.1", 80, "/x"));
        check("https://10.0.0.1/", place(true, "10.0.0.1", 443, "/"));
        check("http://[fd00::1]:81/x", place(false, "fd00::1", 81, "/x"));
        check("http://elsewhere", place(false, "elsewhere", 80, "/"));
        for wrong in ["ftp://10.0.0.1/", "http://", "http://a b/"] {
            assert!(here.redirected(wrong).is_err(), "{wrong}");
        }
    }

    /// A server on loopback that answers each connection with the next of these.
    async fn server(answers: Vec<String>) -> u16 {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                let line = String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or_default().to_owned();
                let body = format!("{line}!");
                let text = format!("HTTP/1.1 {answer}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
        port
    }

    async fn answer(answers: Vec<String>) -> Result<(StatusCode, String), Error> {
        let port = server(answers).await;
        let action = HTTPGetAction { port: IntOrString::Int(port.into()), ..HTTPGetAction::default() };
        let ip = Some("127.0.0.1".parse().unwrap());
        within(Duration::from_secs(10), get(&action, &Container::default(), ip, "test")).await
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_or_silent_is_told_of_in_gos_words() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let action = HTTPGetAction { port: IntOrString::Int(port.into()), ..HTTPGetAction::default() };
        let ip = Some("127.0.0.1".parse().unwrap());
        let container = Container::default();
        let answer = within(Duration::from_millis(50), get(&action, &container, ip, "test"));
        let words = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
        assert_eq!(answer.await.unwrap_err().to_string(), words);
        drop(silent);
        let refused = tcp("127.0.0.1", port).await.unwrap_err().to_string();
        assert_eq!(refused, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
    }

    #[tokio::test]
    async fn a_redirect_is_followed_on_the_same_host_only() {
        let redirect = |to: &str| format!("302 Found\r\nLocation: {to}");
        let (status, body) = answer(vec![redirect("/next"), "200 OK".to_owned()]).await.unwrap();
        assert_eq!((status.as_u16(), body.as_str()), (200, "GET /next HTTP/1.1!"));
        let (status, _) = answer(vec![redirect("http://192.0.2.1/")]).await.unwrap();
        assert_eq!(status.as_u16(), 302, "what would be fetched from elsewhere says nothing of the pod");
        let (status, _) = answer(vec!["304 Not Modified".to_owned()]).await.unwrap();
        assert_eq!(status.as_u16(), 304);
        let err = answer(vec![redirect("/"); 10]).await.unwrap_err();
        assert_eq!(err.to_string(), "stopped after 10 redirects");
    }
}
