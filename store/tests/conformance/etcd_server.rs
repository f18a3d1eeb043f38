//! Starts the system's etcd on free loopback ports, with data of its own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use store::Error;
use store::etcd::{EtcdStore, Options};
use tempfile::TempDir;

/// A running etcd; it is killed and its data removed when dropped.
pub(crate) struct EtcdServer {
    pub(crate) directory: TempDir,
    pub(crate) client: u16,
    peer: u16,
    arguments: Vec<String>,
    child: Child,
}

impl EtcdServer {
    /// Starts etcd, or says loudly that there is none.
    pub(crate) async fn start() -> Option<Self> {
        // Room for an entry of the largest size and the rest of its request.
        Self::start_with("http", &["--max-request-bytes=1600000".into()]).await
    }

    /// Starts etcd with these arguments and waits until it listens.
    pub(crate) async fn start_with(scheme: &str, arguments: &[String]) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let (client, peer) = (free_port(), free_port());
            let mut arguments = arguments.to_vec();
            let client_url = format!("{scheme}://127.0.0.1:{client}");
            let peer_url = format!("http://127.0.0.1:{peer}");
            arguments.extend([
                format!("--listen-client-urls={client_url}"),
                format!("--advertise-client-urls={client_url}"),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=default={peer_url}"),
            ]);
            let child = spawn(directory.path(), &arguments);
            let mut server = Self { directory, client, peer, arguments, child };
            if server.listens().await {
                return Some(server);
            }
        }
        panic!("etcd does not start");
    }

    pub(crate) fn options(&self) -> Options {
        Options::new([format!("http://127.0.0.1:{}", self.client)])
    }

    /// Kills etcd as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same data and ports.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(self.directory.path(), &self.arguments);
        assert!(self.listens().await, "etcd does not start again on port {}", self.peer);
    }

    /// Starts it again on the same data where its clients do not look, and returns that port.
    pub(crate) async fn start_elsewhere(&mut self) -> u16 {
        let (here, there) = (self.client, free_port());
        let moved = |argument: &String| argument.replace(&format!("127.0.0.1:{here}"), &format!("127.0.0.1:{there}"));
        let arguments: Vec<_> = self.arguments.iter().map(moved).collect();
        self.child = spawn(self.directory.path(), &arguments);
        self.client = there;
        let listens = self.listens().await;
        self.client = here;
        assert!(listens, "etcd does not start on port {there}");
        there
    }

    async fn listens(&mut self) -> bool {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end && self.child.try_wait().unwrap().is_none() {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.client)).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }
}

/// Connects as soon as the server has elected itself.
pub(crate) async fn connect(options: Options) -> EtcdStore {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match EtcdStore::connect(options.clone()).await {
            Ok(store) => return store,
            Err(Error::Unavailable { .. }) if Instant::now() < end => {}
            Err(err) => panic!("{err}"),
        }
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there is an etcd; if not, it is said loudly.
pub(crate) fn is_installed() -> bool {
    let is_there = Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "etcd is not installed");
        eprintln!("SKIP: etcd is not installed");
    }
    is_there
}

pub(crate) fn spawn(directory: &Path, arguments: &[String]) -> Child {
    Command::new("etcd")
        .arg(format!("--data-dir={}", directory.join("data").display()))
        .args(["--logger=zap", "--log-outputs=/dev/null"])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
