//! The sockets: datagrams one by one, TCP within limits (RFC 7766).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::listen::{self, Limits, Seated};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::handler::Handler;
use crate::message::Transport;
use crate::zone::Cluster;

/// Datagrams that are worked on at a time; others are dropped, and their senders ask again.
const DATAGRAMS: usize = 4096;
/// The longest message that is looked at: no question is longer.
const DATAGRAM: usize = 4096;
/// Wait after a datagram could not be received.
const BACK_OFF: Duration = Duration::from_millis(50);
/// How long a TCP client may be silent, or not read.
const IDLE: Duration = Duration::from_secs(10);
/// A pod's resolver needs a connection or two, and not for long.
const LIMITS: Limits = Limits {
    total: 1024,
    per_peer: 64,
    pending: 256,
    pending_per_peer: 64,
    first_request: Duration::from_secs(5),
    lifetime: Some(Duration::from_secs(120)),
    drain: Duration::from_secs(1),
};

/// Answers datagrams until shutdown.
pub(crate) async fn udp<C: Cluster>(socket: UdpSocket, handler: Arc<Handler<C>>, shutdown: CancellationToken) {
    let (socket, room) = (Arc::new(socket), Arc::new(Semaphore::new(DATAGRAMS)));
    let mut answering = JoinSet::new();
    let mut bytes = vec![0; DATAGRAM];
    loop {
        let received = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = answering.join_next(), if !answering.is_empty() => continue,
            received = socket.recv_from(&mut bytes) => received,
        };
        match received {
            Ok((length, from)) => {
                let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
                let (question, socket, handler) = (bytes[..length].to_vec(), Arc::clone(&socket), Arc::clone(&handler));
                answering.spawn(async move {
                    answer_datagram(&socket, &handler, &question, from).await;
                    drop(place);
                });
            }
            Err(err) => {
                debug!(error = &err as &dyn std::error::Error, "nothing received");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn answer_datagram<C: Cluster>(socket: &UdpSocket, handler: &Handler<C>, question: &[u8], from: SocketAddr) {
    if let Some(answer) = handler.answer(question, Transport::Udp).await
        && let Err(err) = socket.send_to(&answer, from).await
    {
        debug!(error = &err as &dyn std::error::Error, "answer not sent");
    }
}

/// Serves connections until shutdown.
pub(crate) async fn tcp<C: Cluster>(listener: TcpListener, handler: Arc<Handler<C>>, shutdown: CancellationToken) {
    let ending = shutdown.clone();
    listen::accept(listener, LIMITS, shutdown, move |stream| {
        let (handler, shutdown) = (Arc::clone(&handler), ending.clone());
        async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = converse(stream, &handler) => {}
            }
        }
    })
    .await;
}

/// Answers the questions of one connection in their order.
async fn converse<C: Cluster>(mut stream: Seated, handler: &Handler<C>) {
    let seat = stream.seat();
    while let Ok(Ok(question)) = tokio::time::timeout(IDLE, next(&mut stream)).await {
        if !seat.proven() {
            return;
        }
        // What gets no answer as a datagram is not worth a connection.
        let Some(answer) = handler.answer(&question, Transport::Tcp).await else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        if !matches!(tokio::time::timeout(IDLE, stream.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn next(stream: &mut Seated) -> std::io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > DATAGRAM {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await?;
    Ok(question)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::{Name, RecordType};
    use prometheus_client::metrics::counter::Counter;
    use tokio::net::TcpStream;

    use super::*;
    use crate::zone::Zone;
    use crate::zone::tests::Fixed;

    fn question() -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii("web.d.svc.cluster.local.").unwrap(), RecordType::A));
        message.to_vec().unwrap()
    }

    async fn ask(stream: &mut TcpStream) -> Option<Message> {
        let question = question();
        stream
            .write_all(&[&u16::try_from(question.len()).unwrap().to_be_bytes()[..], &question].concat())
            .await
            .ok()?;
        let mut answer = vec![0; usize::from(stream.read_u16().await.ok()?)];
        stream.read_exact(&mut answer).await.ok()?;
        Message::from_vec(&answer).ok()
    }

    #[tokio::test]
    async fn half_questions_over_tcp_do_not_keep_others_from_asking() {
        let zone = Zone::new(Name::from_ascii("cluster.local.").unwrap(), Fixed::new());
        let handler = Handler { zone, upstream: None, requests: Counter::default(), failures: Counter::default() };
        let handler = Arc::new(handler);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (datagrams, address) = (socket.local_addr().unwrap(), listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(tcp(listener, Arc::clone(&handler), shutdown.clone()));
        let answering = tokio::spawn(udp(socket, handler, shutdown.clone()));
        let mut first = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut first).await.unwrap().answers.len(), 1);
        let mut held = Vec::new();
        for _ in 0..300 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // A length, and less than that. One that was cut already cannot be written to.
            let _cut = stream.write_all(&[0, 99, 1]).await;
            held.push(stream);
        }
        let mut late = TcpStream::connect(address).await.unwrap();
        let mut refused = u64::from(ask(&mut first).await.is_none());
        refused += u64::from(ask(&mut late).await.is_none());
        let mut open = 0;
        for stream in &mut held {
            open += usize::from(tokio::time::timeout(Duration::from_millis(5), stream.read_u8()).await.is_err());
        }
        refused += u64::from(open > LIMITS.pending_per_peer);
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(&question(), datagrams).await.unwrap();
        let mut bytes = [0; 512];
        let received = tokio::time::timeout(Duration::from_secs(5), client.recv(&mut bytes)).await;
        assert_eq!(Message::from_vec(&bytes[..received.unwrap().unwrap()]).unwrap().answers.len(), 1);
        faults::Attack::new("dns over tcp: half-open questions")
            .tried(300, refused)
            .figure("connections held", open)
            .record();
        shutdown.cancel();
        serving.await.unwrap();
        answering.await.unwrap();
    }
}
