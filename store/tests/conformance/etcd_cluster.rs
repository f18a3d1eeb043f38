//! Three members of etcd on free loopback ports. What they say to each other goes through forwarders, so that one can be cut
//! off from the others while clients still reach it.
//!
//! etcd names the sender of all that matters between members in the header `X-Server-From`; a forwarder reads it, and so
//! knows which two members a connection joins.

use std::collections::HashMap;
use std::io;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use store::etcd::Options;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::etcd_server::{free_port, is_installed, spawn};

const SIZE: usize = 3;
/// The head of a request between members is far shorter.
const HEAD: usize = 16 << 10;
const SENDER: &str = "x-server-from: ";

/// Three members; they are killed and their data removed when dropped.
pub(crate) struct Cluster {
    members: Vec<Member>,
    state: Arc<State>,
    _forwarders: Vec<AbortOnDropHandle<()>>,
}

struct Member {
    client: u16,
    child: Child,
    directory: TempDir,
    arguments: Vec<String>,
}

struct State {
    /// Which member is cut off.
    cut: watch::Sender<Option<usize>>,
    /// Members by the ids that etcd gave them, once they are known.
    ids: watch::Sender<HashMap<String, usize>>,
}

impl Cluster {
    /// Starts the members and waits until each of them serves reads that need a leader; or says loudly that there is no etcd.
    pub(crate) async fn start() -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let state = Arc::new(State { cut: watch::Sender::new(None), ids: watch::Sender::default() });
        let (mut forwarders, mut urls, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        for member in 0..SIZE {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            urls.push(format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port()));
            let peer = free_port();
            ports.push((free_port(), peer));
            let forwarding = forward(listener, member, peer, state.clone());
            forwarders.push(AbortOnDropHandle::new(tokio::spawn(forwarding)));
        }
        let initial: Vec<String> = urls.iter().enumerate().map(|(member, url)| format!("{member}={url}")).collect();
        let members = (0..SIZE).map(|member| {
            let (client, peer) = ports[member];
            let arguments = vec![
                format!("--name={member}"),
                format!("--listen-client-urls=http://127.0.0.1:{client}"),
                format!("--advertise-client-urls=http://127.0.0.1:{client}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-advertise-peer-urls={}", urls[member]),
                format!("--initial-cluster={}", initial.join(",")),
                "--unsafe-no-fsync=true".to_owned(),
            ];
            let directory = tempfile::tempdir().unwrap();
            Member { client, child: spawn(directory.path(), &arguments), directory, arguments }
        });
        let cluster = Self { members: members.collect(), state, _forwarders: forwarders };
        cluster.learn_ids().await;
        Some(cluster)
    }

    /// All members.
    pub(crate) fn options(&self) -> Options {
        Options::new(self.members.iter().map(|member| format!("http://127.0.0.1:{}", member.client)))
    }

    /// Only this member.
    pub(crate) fn only(&self, member: usize) -> Options {
        Options::new([format!("http://127.0.0.1:{}", self.members[member].client)])
    }

    /// The member that leads now.
    pub(crate) async fn leader(&self) -> usize {
        let mut client = self.etcd_client(0).await.maintenance_client();
        let leader = client.status().await.unwrap().leader();
        self.state.ids.borrow()[&format!("{leader:x}")]
    }

    /// Cuts one member off from the others, and nobody is told: what is under way between them is not carried any more.
    pub(crate) fn cut(&self, member: usize) {
        self.state.cut.send_replace(Some(member));
    }

    /// Stops a member as SIGSTOP does: connections stay, and nothing is answered.
    pub(crate) fn freeze(&self, member: usize) {
        self.signal(member, "STOP");
    }

    /// It goes on.
    pub(crate) fn thaw(&self, member: usize) {
        self.signal(member, "CONT");
    }

    pub(crate) fn kill(&mut self, member: usize) {
        self.members[member].child.kill().unwrap();
        self.members[member].child.wait().unwrap();
    }

    /// Starts it again on its data.
    pub(crate) fn start_again(&mut self, member: usize) {
        let member = &mut self.members[member];
        member.child = spawn(member.directory.path(), &member.arguments);
    }

    fn signal(&self, member: usize, name: &str) {
        let id = self.members[member].child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    async fn etcd_client(&self, member: usize) -> etcd_client::Client {
        let endpoint = format!("http://127.0.0.1:{}", self.members[member].client);
        etcd_client::Client::connect([endpoint], None).await.unwrap()
    }

    async fn learn_ids(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        for member in 0..SIZE {
            let client = self.etcd_client(member).await;
            // A read that every member needs the leader for.
            while let Err(err) = client.kv_client().get("a", None).await {
                assert!(Instant::now() < end, "etcd does not start: {err}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let list = client.cluster_client().member_list().await.unwrap();
            let ids = list.members().iter().map(|known| (format!("{:x}", known.id()), known.name().parse().unwrap()));
            self.state.ids.send_replace(ids.collect());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }
}

async fn forward(listener: TcpListener, to: usize, port: u16, state: Arc<State>) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                carried.spawn(carry(accepted.unwrap().0, to, port, state.clone()));
            }
            Some(_ended) = carried.join_next() => {}
        }
    }
}

/// Carries one connection until one of its ends is cut off; then it is held, and silent.
async fn carry(mut from: TcpStream, to: usize, port: u16, state: Arc<State>) -> io::Result<()> {
    let head = head(&mut from).await?;
    let sender = sender(&head).map(str::to_owned);
    let is_cut = |state: &State| {
        let sender = sender.as_ref().and_then(|id| state.ids.borrow().get(id).copied());
        state.cut.borrow().is_some_and(|cut| cut == to || Some(cut) == sender)
    };
    let mut cuts = state.cut.subscribe();
    if !is_cut(&state) {
        let mut onward = TcpStream::connect(("127.0.0.1", port)).await?;
        onward.write_all(&head).await?;
        let cut = async {
            while !is_cut(&state) {
                // The sender lives in `state`.
                cuts.changed().await.unwrap();
            }
        };
        tokio::select! {
            ended = tokio::io::copy_bidirectional(&mut from, &mut onward) => return ended.map(drop),
            () = cut => {}
        }
    }
    std::future::pending().await
}

async fn head(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if from.read_buf(&mut head).await? == 0 || head.len() > HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head)
}

/// The id of the member that sent a request.
fn sender(head: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(&head[..head.windows(4).position(|end| end == b"\r\n\r\n")?]).ok()?;
    let line =
        text.lines().find(|line| line.get(..SENDER.len()).is_some_and(|name| name.eq_ignore_ascii_case(SENDER)))?;
    line.get(SENDER.len()..)
}
