//! Port forwarding: over WebSocket channels, or over SPDY/3.1, plain or tunnelled in a WebSocket (as kubectl does)
//! (upstream: streaming/portforward of k8s.io/kubelet/pkg/cri).
use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use futures::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use runtime::Runtime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Shared;
use super::channels::Protocol;
use super::handlers::{Refusal, query};
use super::upgrade::Upgrade;
use crate::server::spdy;

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// What is spoken above SPDY.
const PROTOCOL: &str = "portforward.k8s.io";
const CHUNK: usize = 32 * 1024;
const WAITING: usize = 16;

/// `/portForward/...`.
pub(super) async fn port_forward(
    State(shared): State<Shared>,
    Path(path): Path<HashMap<String, String>>,
    RawQuery(raw): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let known = shared.pod(&path)?;
    let sandbox = known.report.seen.live_sandbox().map(|sandbox| sandbox.id.clone());
    let sandbox = sandbox.ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, "the pod is not running".to_owned()))?;
    let (runtime, streams) = (Arc::clone(&shared.context.runtime), shared.streams);
    let upgrade = match Upgrade::of(upgrade, request)? {
        Upgrade::WebSocket(upgrade) => upgrade,
        Upgrade::Spdy(upgrade) => {
            return Ok(
                upgrade.accept(&streams, &[PROTOCOL], move |stream, _| spdy::forward_ports(stream, runtime, sandbox))
            );
        }
    };
    let ports = ports(raw)?;
    let upgrade = upgrade.protocols([TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"]);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let tunnel = socket.protocol().is_some_and(|name| name.as_bytes() == TUNNEL.as_bytes());
        let serving = async {
            if tunnel {
                let (stream, copying) = spdy::tunnel(socket);
                tokio::join!(spdy::forward_ports(stream, runtime, sandbox), copying);
            } else {
                channels(socket, ports, runtime, sandbox).await;
            }
        };
        streams.serve(serving).await;
    }))
}

fn ports(raw: Option<String>) -> Result<Vec<u16>, Refusal> {
    let query = query(raw);
    let texts = query.get("port").into_iter().chain(query.get("ports")).flatten();
    let ports = texts.flat_map(|text| text.split(',')).map(|text| {
        let port = text.parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, format!("{text:?} is not a port")))
    });
    ports.collect()
}

/// Two channels a port: data and errors; each begins with the port's number.
async fn channels(socket: WebSocket, ports: Vec<u16>, runtime: Arc<dyn Runtime>, sandbox: String) {
    let protocol = Protocol::of(socket.protocol().and_then(|name| name.to_str().ok()).unwrap_or_default());
    let (mut sink, mut stream) = socket.split();
    let (sender, mut output) = mpsc::channel::<(u8, Vec<u8>)>(WAITING);
    let mut tasks = JoinSet::new();
    let mut inputs = HashMap::new();
    for (index, port) in ports.into_iter().enumerate() {
        let Ok(channel) = u8::try_from(index * 2) else { break };
        for channel in [channel, channel + 1] {
            if sink.send(protocol.encode(channel, &port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        let (input, data) = mpsc::channel(WAITING);
        inputs.insert(channel, input);
        tasks.spawn(forward_one(Arc::clone(&runtime), sandbox.clone(), port, channel, data, sender.clone()));
    }
    drop(sender);
    loop {
        tokio::select! {
            Some((channel, data)) = output.recv() => {
                if sink.send(protocol.encode(channel, &data)).await.is_err() {
                    return;
                }
            }
            message = stream.next() => {
                let Some(Ok(message)) = message else { return };
                if matches!(message, Message::Close(_)) {
                    return;
                }
                let Some((channel, data)) = protocol.decode(message) else { continue };
                if let Some(input) = inputs.get(&channel) {
                    let _port_closed = input.send(data).await;
                }
            }
        }
    }
}

async fn forward_one(
    runtime: Arc<dyn Runtime>,
    sandbox: String,
    port: u16,
    channel: u8,
    mut data: mpsc::Receiver<bytes::Bytes>,
    output: mpsc::Sender<(u8, Vec<u8>)>,
) {
    let (mut reader, mut writer) = match runtime.port_forward(&sandbox, port).await {
        Ok(pair) => pair,
        Err(err) => {
            let text = format!("error forwarding port {port} to pod: {}", crate::failure::chain(&err));
            let _client_gone = output.send((channel + 1, text.into_bytes())).await;
            return;
        }
    };
    let up = async {
        while let Some(data) = data.recv().await {
            if writer.write_all(&data).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length) = reader.read(&mut buffer).await {
            if length == 0 || output.send((channel, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
