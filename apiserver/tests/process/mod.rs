//! Processes beside the test: they end with it.

use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Whether a program can be run; panics instead of answering "no" when `E2E_REQUIRED=1`.
pub(crate) fn is_installed(program: &str) -> bool {
    let started = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    if started.is_err() {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "{program} is not installed");
        eprintln!("SKIP: {program} is not installed");
    }
    started.is_ok()
}

/// A port of the loopback interface that nobody uses now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Starts it and waits until it logs `ready`.
    pub(crate) fn when(mut command: Command, ready: &str) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut line) = (String::new(), String::new());
        while !line.contains(ready) {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "{command:?} ended:\n{said}");
            said.push_str(&line);
        }
        // What it logs from now on nobody reads, but it must be able to write it.
        std::thread::spawn(move || std::io::copy(&mut log.by_ref(), &mut std::io::sink()));
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// etcd with its data in `directory`, at `client` (a URL), with some flags more.
pub(crate) fn etcd(directory: &Path, client: &str, flags: &[String]) -> Running {
    let peer = format!("http://127.0.0.1:{}", free_port());
    let mut command = Command::new("etcd");
    command
        .args(["--logger=zap", "--log-outputs=stderr", "--unsafe-no-fsync=true"])
        .arg(format!("--data-dir={}", directory.display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .args(flags);
    Running::when(command, "serving client traffic")
}
