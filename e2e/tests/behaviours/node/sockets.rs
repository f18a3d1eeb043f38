//! What browsers get: answers over WebSockets (RFC 6455), through `kubectl proxy`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use e2e::Ground;
use serde_json::json;

use super::tools::{ready, run, script};

/// No answer takes so long, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy on loopback that shows the administrator's certificate. Dropping it ends it.
struct Proxy {
    process: Child,
    address: String,
}

impl Proxy {
    fn start(ground: &Ground<'_>) -> Self {
        let mut command = ground.command(&["proxy", "--port=0", "--reject-paths=^$"]);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { process, address }
    }

    /// What comes over a WebSocket until its end: the messages without the empty ones.
    fn messages(&self, path: &str, protocol: &str) -> Vec<Vec<u8>> {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n",
            self.address
        );
        (&stream).write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let head: Vec<String> =
            reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        assert!(head[0].contains(" 101 "), "{head:?}");
        let spoken = format!("sec-websocket-protocol: {protocol}");
        assert!(head.iter().any(|line| line.to_lowercase() == spoken), "{head:?}");
        let mut messages = Vec::new();
        while let Some(message) = next(&mut reader) {
            messages.extend(Some(message).filter(|message| !message.is_empty()));
        }
        messages
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The next message of a server, which masks none; `None` at the farewell.
fn next(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    reader.read_exact(&mut head).unwrap();
    let mut length = usize::from(head[1]);
    if length == 126 {
        let mut long = [0; 2];
        reader.read_exact(&mut long).unwrap();
        length = u16::from_be_bytes(long).into();
    }
    assert!(length != 127, "a longer message than any of these tests");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head[0] & 0xf != 8).then_some(body)
}

/// Conformance: [sig-node] Pods should support remote command execution over websockets [NodeConformance] [Conformance]
/// Conformance: [sig-node] Pods should support retrieving logs from the container over websockets [NodeConformance] [Conformance]
pub(super) fn talk(ground: &Ground<'_>) {
    let ends = "echo container is alive; trap 'exit 0' TERM; sleep 100000 & wait";
    run(ground, "p", json!({"containers": [script("main", ends)]}));
    ready(ground, "p");
    let proxy = Proxy::start(ground);
    let pod = format!("/api/v1/namespaces/{}/pods/p", ground.namespace);
    let command = "stderr=1&stdout=1&container=main&command=echo&command=remote+execution+test";
    let messages = proxy.messages(&format!("{pod}/exec?{command}"), "channel.k8s.io");
    let of_output = messages.iter().filter_map(|message| message.strip_prefix(&[1])).collect::<Vec<_>>().concat();
    assert_eq!(String::from_utf8_lossy(&of_output), "remote execution test\n");
    let others = messages.iter().filter(|message| message[0] != 1 && message.len() > 1);
    assert_eq!(others.count(), 0, "{messages:?}");
    ground.wait_until("it has written its line", || ground.kubectl(&["logs", "p"]).ok() == "container is alive");
    let logs = proxy.messages(&format!("{pod}/log?container=main"), "binary.k8s.io").concat();
    assert_eq!(String::from_utf8_lossy(&logs), "container is alive\n");
}
