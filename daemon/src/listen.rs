//! The accept loop of every port that is not the API server's: how many connections there may be, how long one may take
//! to say what it wants, and who goes when there are too many.
//!
//! A connection is *pending* until its first request has come whole; pending ones are few and short-lived, and the oldest
//! makes room for the newest. So whoever opens connections and says nothing pushes out only others that say nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Waits after an accept that failed, doubled each time up to the second value.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Wait after a connection that took one of the last descriptors.
const SCARCE: Duration = Duration::from_millis(50);

/// What one port bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; more are closed at once.
    pub total: usize,
    /// Of them, from one address.
    pub per_peer: usize,
    /// Connections that have not made a request yet; the oldest is closed for a new one.
    pub pending: usize,
    /// Of them, from one address.
    pub pending_per_peer: usize,
    /// From the first byte of TCP to the end of the first request's headers.
    pub first_request: Duration,
    /// A connection that lasts longer is cut, whatever it does.
    pub lifetime: Option<Duration>,
    /// Connections that are still open so long after shutdown began are cut.
    pub drain: Duration,
}

/// Accepts connections until shutdown, and serves each in a task of its own; then lets them end within the limit.
pub async fn accept<Serve, Serving>(listener: TcpListener, limits: Limits, shutdown: CancellationToken, serve: Serve)
where
    Serve: Fn(Seated) -> Serving,
    Serving: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Room { limits, seats: Mutex::default() });
    let mut connections = JoinSet::new();
    let mut wait = BACK_OFF.0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_ended) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let pause = match accepted {
            Ok((stream, _)) if host::descriptors::is_scarce(&stream) => {
                room.lock().cut_oldest(None);
                Some(SCARCE)
            }
            Ok((stream, peer)) => {
                wait = BACK_OFF.0;
                if let Some(seat) = room.seat(peer.ip().to_canonical()) {
                    connections.spawn(attend(seat.clone(), limits, serve(Seated { stream, seat })));
                }
                None
            }
            Err(err) => {
                tracing::warn!(error = &err as &dyn std::error::Error, again_in = ?wait, "accept failed");
                wait = (wait * 2).min(BACK_OFF.1);
                Some(wait)
            }
        };
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    drop(listener);
    let drain = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drain).await.is_err() {
        connections.shutdown().await;
    }
}

/// Serves a connection until it ends, or must.
async fn attend(seat: Arc<Seat>, limits: Limits, serving: impl Future<Output = ()>) {
    let silent = async {
        tokio::time::sleep(limits.first_request).await;
        if !seat.is_pending() {
            std::future::pending().await
        }
    };
    let old = async {
        match limits.lifetime {
            Some(lifetime) => tokio::time::sleep(lifetime).await,
            None => std::future::pending().await,
        }
    };
    let cut = seat.cut.clone();
    tokio::select! {
        () = serving => {}
        () = silent => {}
        () = old => {}
        () = cut.cancelled() => {}
    }
}

/// One connection's place among those of a port. It is taken for as long as the stream lives, upgraded or not.
#[derive(Debug)]
pub struct Seat {
    number: u64,
    room: Arc<Room>,
    pending: AtomicBool,
    /// Cancelled when it must make room.
    cut: CancellationToken,
}

impl Seat {
    /// Says that a request has come. False when there are too many connections that have made one: then close this one.
    pub fn proven(&self) -> bool {
        if !self.is_pending() {
            return true;
        }
        let proven = self.room.lock().prove(self.number, &self.room.limits);
        if proven {
            self.pending.store(false, Ordering::Relaxed);
        }
        proven
    }

    fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.lock().leave(self.number);
    }
}

#[derive(Debug)]
struct Room {
    limits: Limits,
    seats: Mutex<Seats>,
}

impl Room {
    fn seat(self: &Arc<Self>, peer: IpAddr) -> Option<Arc<Seat>> {
        let cut = CancellationToken::new();
        let number = self.lock().enter(peer, cut.clone(), &self.limits)?;
        Some(Arc::new(Seat { number, room: Arc::clone(self), pending: AtomicBool::new(true), cut }))
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().expect("no panic under this lock")
    }
}

/// Who is here, the oldest first.
#[derive(Debug, Default)]
struct Seats {
    next: u64,
    pending: BTreeMap<u64, (IpAddr, CancellationToken)>,
    proven: BTreeMap<u64, IpAddr>,
}

impl Seats {
    /// Takes a connection in; those that make room for it are cut. `None` when there is no room to be made.
    fn enter(&mut self, peer: IpAddr, cut: CancellationToken, limits: &Limits) -> Option<u64> {
        if self.is_full(peer, limits) {
            return None;
        }
        if self.pending.values().filter(|(other, _)| *other == peer).count() >= limits.pending_per_peer {
            self.cut_oldest(Some(peer));
        }
        if self.pending.len() >= limits.pending {
            self.cut_oldest(None);
        }
        self.next += 1;
        self.pending.insert(self.next, (peer, cut));
        Some(self.next)
    }

    fn prove(&mut self, number: u64, limits: &Limits) -> bool {
        let Some((peer, _)) = self.pending.get(&number) else { return self.proven.contains_key(&number) };
        let peer = *peer;
        if self.is_full(peer, limits) {
            return false;
        }
        self.pending.remove(&number);
        self.proven.insert(number, peer);
        true
    }

    /// Whether there is no room for one more that has made a request.
    fn is_full(&self, peer: IpAddr, limits: &Limits) -> bool {
        let of_peer = || self.proven.values().filter(|other| **other == peer).count();
        self.proven.len() >= limits.total || of_peer() >= limits.per_peer
    }

    fn cut_oldest(&mut self, of: Option<IpAddr>) {
        let oldest =
            self.pending.iter().find(|(_, (peer, _))| of.is_none_or(|of| *peer == of)).map(|(number, _)| *number);
        if let Some((_, cut)) = oldest.and_then(|number| self.pending.remove(&number)) {
            cut.cancel();
        }
    }

    fn leave(&mut self, number: u64) {
        self.pending.remove(&number);
        self.proven.remove(&number);
    }
}

/// A stream that keeps its seat.
#[derive(Debug)]
pub struct Seated {
    stream: TcpStream,
    seat: Arc<Seat>,
}

impl Seated {
    /// Its seat.
    pub fn seat(&self) -> Arc<Seat> {
        Arc::clone(&self.seat)
    }

    /// Sends small pieces at once.
    pub fn set_nodelay(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)
    }
}

impl AsyncRead for Seated {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Seated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMITS: Limits = Limits {
        total: 3,
        per_peer: 2,
        pending: 4,
        pending_per_peer: 2,
        first_request: Duration::from_secs(5),
        lifetime: None,
        drain: Duration::from_secs(1),
    };

    fn peer(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    #[test]
    fn the_oldest_silent_connection_makes_room_its_own_peers_first() {
        let mut seats = Seats::default();
        let tokens: Vec<CancellationToken> = (0..7).map(|_| CancellationToken::new()).collect();
        for (token, from) in tokens.iter().zip([1, 2, 2, 2, 3, 4, 1]) {
            assert!(seats.enter(peer(from), token.clone(), &LIMITS).is_some());
        }
        let cut: Vec<bool> = tokens.iter().map(CancellationToken::is_cancelled).collect();
        // 2's third pushes out 2's first; 4's and 1's last push out the oldest of all.
        assert_eq!(cut, [true, true, true, false, false, false, false]);
        assert_eq!(seats.pending.len(), 4);
    }

    #[test]
    fn connections_that_made_a_request_are_never_pushed_out_and_fill_up() {
        let mut seats = Seats::default();
        let mut proven = |from: u8| {
            let token = CancellationToken::new();
            let number = seats.enter(peer(from), token.clone(), &LIMITS)?;
            seats.prove(number, &LIMITS).then_some((number, token))
        };
        let (first, token) = proven(1).unwrap();
        assert!(proven(1).is_some());
        assert!(proven(1).is_none(), "one peer has its share");
        assert!(proven(2).is_some());
        assert!(proven(3).is_none(), "the room is full");
        assert!(!token.is_cancelled());
        seats.leave(first);
        assert!(seats.enter(peer(3), CancellationToken::new(), &LIMITS).is_some());
    }

    async fn echo(first_request: Duration) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let limits = Limits { total: 100, per_peer: 100, pending: 8, pending_per_peer: 8, first_request, ..LIMITS };
        let serving = accept(listener, limits, shutdown.clone(), |mut stream| async move {
            let mut bytes = [0; 16];
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                if !stream.seat().proven() || stream.write_all(&bytes[..read]).await.is_err() {
                    return;
                }
            }
        });
        (address, shutdown.clone(), tokio::spawn(serving))
    }

    #[tokio::test]
    async fn a_flood_of_silent_connections_leaves_those_that_talk() {
        let (address, shutdown, task) = echo(Duration::from_secs(60)).await;
        let mut early = TcpStream::connect(address).await.unwrap();
        let mut answer = [0; 2];
        early.write_all(b"hi").await.unwrap();
        early.read_exact(&mut answer).await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut late = TcpStream::connect(address).await.unwrap();
        for stream in [&mut early, &mut late] {
            stream.write_all(b"yo").await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
        }
        // The first silent one was cut: it reads the end.
        assert!(!matches!(silent[0].read(&mut answer).await, Ok(1..)));
        shutdown.cancel();
        drop((early, late, silent));
        task.await.unwrap();
    }

    #[tokio::test]
    async fn who_says_nothing_is_cut_after_a_while() {
        let (address, _shutdown, _task) = echo(Duration::from_millis(200)).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }
}
