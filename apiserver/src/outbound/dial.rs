//! Dialling: a host, TLS, HTTP/1.1, and a task that drives the connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const CONNECT: Duration = Duration::from_secs(10);

/// A connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("no kubelet CA is configured (--kubelet-certificate-authority)")]
    NoCa,
    #[error("{0:?} is no name that a certificate can have")]
    Name(String),
    #[error("connect: {}", in_gos_words(.0))]
    Connect(std::io::Error),
    #[error("address not allowed")]
    NotAllowed,
    #[error("tls: {0}")]
    Tls(std::io::Error),
    #[error("i/o timeout")]
    Timeout,
    #[error("http: {0}")]
    Http(hyper::Error),
}

/// What Go's programs say of a connection that was not made.
fn in_gos_words(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        ErrorKind::HostUnreachable => "no route to host".to_owned(),
        ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        ErrorKind::TimedOut => "connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// Where a connection may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To whatever an administrator named: a kubelet, a webhook.
    Anywhere,
    /// Not to this machine itself or to what only it can see: the address is one that users of the API choose.
    Proxyable,
}

/// `host:port`, with brackets around IPv6 addresses.
pub(crate) fn host_port(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// Connects to a host, over TLS if the server's name is given. The connection is driven by a task of `tasks`.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    reach: Reach,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<SendRequest<Body>, DialError> {
    let dial = dial(host, port, reach);
    let socket = tokio::time::timeout(CONNECT, dial).await.map_err(|_| DialError::Timeout)??;
    // Without it a keystroke waits for the next one.
    socket.set_nodelay(true).map_err(DialError::Connect)?;
    let Some((tls, name)) = tls else { return start(socket, tasks, shutdown).await };
    let connect = TlsConnector::from(tls).connect(name, socket);
    let stream = tokio::time::timeout(CONNECT, connect).await.map_err(|_| DialError::Timeout)?;
    start(stream.map_err(DialError::Tls)?, tasks, shutdown).await
}

/// Connects to the very addresses that were looked at: a name may mean something else a moment later.
async fn dial(host: &str, port: u16, reach: Reach) -> Result<TcpStream, DialError> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(DialError::Connect)?.collect();
    if reach == Reach::Proxyable && !addresses.iter().all(|address| host::is_elsewhere(address.ip())) {
        return Err(DialError::NotAllowed);
    }
    TcpStream::connect(addresses.as_slice()).await.map_err(DialError::Connect)
}

async fn start<S>(stream: S, tasks: &TaskTracker, shutdown: &CancellationToken) -> Result<SendRequest<Body>, DialError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(DialError::Http)?;
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            ended = connection.with_upgrades() => if let Err(err) = ended {
                tracing::debug!(error = &err as &dyn std::error::Error, "backend connection ended");
            }
        }
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_means_when_it_is_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1", "0.0.0.0"] {
            let refused = dial(host, port, Reach::Proxyable).await;
            assert!(matches!(refused, Err(DialError::NotAllowed)), "{host}: {refused:?}");
        }
        assert!(dial("localhost", port, Reach::Anywhere).await.is_ok());
    }
}
