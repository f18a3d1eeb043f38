//! Where pulls may connect to. Who writes a pod chooses the registry, and a registry chooses where its clients are
//! redirected and asked for tokens; so every connection of a pull goes through a gate, which looks at the address that it
//! then dials: never one of the node itself or of its link.
//!
//! The gate is an HTTP proxy (`CONNECT`, RFC 9110, 9.3.6) in this process, open for one pull. It leads to nothing that
//! whoever reaches it could not reach without.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A client that has not said by then where it wants to go is given up, and so is a destination that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time: a pull has one for each layer at most.
const CONNECTIONS: usize = 64;
/// Bytes of a request's head.
const HEAD: u64 = 8 * 1024;

/// What was refused last, and why.
type Refused = Arc<Mutex<Option<String>>>;

/// An open gate; dropping it cuts what goes through.
pub(super) struct Gate {
    address: SocketAddr,
    refused: Refused,
    _keeper: JoinSet<()>,
}

impl Gate {
    /// Opens it, for addresses that `allow` lets through.
    pub(super) async fn open(allow: fn(IpAddr) -> bool) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, refused) = (listener.local_addr()?, Refused::default());
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(listener, allow, refused.clone()));
        Ok(Self { address, refused, _keeper: keeper })
    }

    /// The gate as a client's proxy.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Why it last refused to lead on, if it has.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn keep(listener: TcpListener, allow: fn(IpAddr) -> bool, refused: Refused) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((client, _)) => {
                connections.spawn(lead(client, allow, refused.clone()));
            }
            // Out of descriptors, mostly: wait for some to close.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn lead(client: TcpStream, allow: fn(IpAddr) -> bool, refused: Refused) {
    let mut client = BufReader::new(client);
    let connected = tokio::time::timeout(PATIENCE, connect(&mut client, allow)).await;
    let connected = connected.unwrap_or_else(|_elapsed| Err("i/o timeout".to_owned()));
    // Clients that go away are nothing to speak of.
    match connected {
        Ok(mut destination) => {
            if client.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await.is_ok() {
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut destination).await;
            }
        }
        Err(why) => {
            *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            let _gone = client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
        }
    }
}

/// Reads where the client wants to go, and connects to the address that was looked at.
async fn connect(client: &mut BufReader<TcpStream>, allow: fn(IpAddr) -> bool) -> Result<TcpStream, String> {
    let head = head(client).await.map_err(|err| err.to_string())?;
    let line = head.lines().next().unwrap_or("");
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if method != "CONNECT" {
        return Err(format!("{target} is not encrypted; --insecure-registry names registries that need not be"));
    }
    let addresses = tokio::net::lookup_host(target).await.map_err(|err| format!("lookup {target}: {err}"))?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    if let Some(inside) = addresses.iter().find(|address| !allow(address.ip())) {
        let why = "images are not pulled from the node itself unless --insecure-registry names the registry";
        return Err(format!("{target} is at {}: {why}", inside.ip()));
    }
    TcpStream::connect(addresses.as_slice()).await.map_err(|err| format!("dial {target}: {err}"))
}

/// The head of a request, up to the empty line.
async fn head(client: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut limited = client.take(HEAD);
    let mut head = String::new();
    loop {
        let before = head.len();
        if limited.read_line(&mut head).await? == 0 {
            return Err(io::Error::other("the request has no end"));
        }
        if head[before..].trim_end().is_empty() {
            return Ok(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the gate answers, and then what comes through it.
    async fn ask(gate: &Gate, request: &str) -> String {
        let mut client = TcpStream::connect(gate.address).await.unwrap();
        // A gate that has heard enough may close before it was told all.
        let _closed = client.write_all(request.as_bytes()).await;
        let mut answer = vec![0; 256];
        let read = client.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    #[tokio::test]
    async fn no_pull_connects_to_the_node_itself() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Gate::open(host::is_elsewhere).await.unwrap();
        let mut through = 0;
        let hosts = [
            "127.0.0.1",
            "localhost",
            "0.0.0.0",
            "127.8.8.8",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "169.254.169.254",
            "[::]",
        ];
        for host in hosts {
            let answer = ask(&gate, &format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            through += u64::from(answer.starts_with("HTTP/1.1 200"));
        }
        assert!(gate.refused().unwrap().contains("--insecure-registry"));
        let plain = ask(&gate, &format!("GET http://127.0.0.1:{port}/v2/ HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        through += u64::from(plain.starts_with("HTTP/1.1 200"));
        let nothing = ask(&gate, &format!("{}\r\n\r\n", "x".repeat(2 * HEAD as usize))).await;
        through += u64::from(nothing.starts_with("HTTP/1.1 200"));
        let reached = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_ok();
        assert!(!reached, "nobody has connected");
        faults::Attack::new("images: pulls, redirects and token realms that lead to the node itself")
            .tried(hosts.len() as u64 + 2, through)
            .record();
    }

    #[tokio::test]
    async fn what_may_pass_is_led_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Gate::open(|_| true).await.unwrap();
        let mut client = TcpStream::connect(gate.address).await.unwrap();
        client.write_all(format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nhello").as_bytes()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut said = [0; 5];
        server.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
        server.write_all(b"you too").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HTTP/1.1 200 Connection Established\r\n\r\nyou too");
    }
}
