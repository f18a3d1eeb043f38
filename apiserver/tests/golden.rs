//! Replays the recorded conversations with the reference server against this server's binary, on the embedded store and
//! on etcd.
//!
//! Needs the recordings (`CORACLE_REFERENCE`, by default `../shared` beside the workspace), Python, and etcd for the second
//! half; what is missing is said, and fails with `E2E_REQUIRED=1`. Differences that are known stand in
//! `golden_known_differences.txt`; the list may only shrink.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const KNOWN: &str = include_str!("golden_known_differences.txt");
const TOKEN: &str = "replay";
/// Fewer steps than this were not all of them.
const STEPS: usize = 5000;

#[test]
fn the_embedded_store_answers_as_recorded() {
    let Some(golden) = recordings() else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory, &[]);
    server.replay(&golden);
}

#[test]
fn etcd_answers_as_recorded() {
    let (Some(golden), true) = (recordings(), is_installed("etcd")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (client, peer) = (free_url(), free_url());
    let mut etcd = Command::new("etcd");
    etcd.args(["--logger=zap", "--log-outputs=stderr"])
        .arg(format!("--data-dir={}", directory.path().join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"));
    let _etcd = Running::when(etcd, "serving client traffic");
    let server = Server::start(&directory, &[format!("--etcd-servers={client}")]);
    server.replay(&golden);
}

/// Where the recordings are, and Python to replay them with.
fn recordings() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let golden = std::env::var_os("CORACLE_REFERENCE").map_or_else(default, PathBuf::from).join("golden");
    if !golden.join("check.py").is_file() {
        eprintln!("SKIP: no recordings at {} (set CORACLE_REFERENCE)", golden.display());
        return None;
    }
    is_installed("python3").then_some(golden)
}

fn is_installed(program: &str) -> bool {
    let started = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    if started.is_err() {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "{program} is not installed");
        eprintln!("SKIP: {program} is not installed");
    }
    started.is_ok()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn free_url() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    /// Starts it and waits until it logs `ready`.
    fn when(mut command: Command, ready: &str) -> Self {
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

/// The server's binary, set up as the reference server was.
struct Server {
    _process: Running,
    port: u16,
    failures: PathBuf,
}

impl Server {
    fn start(directory: &TempDir, flags: &[String]) -> Self {
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("tokens.csv"), format!("{TOKEN},admin,uid1,\"system:masters\"\n")).unwrap();
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_apiserver"));
        command
            .arg(format!("--data-dir={}", at("data").display()))
            .arg(format!("--cert-dir={}", at("certificates").display()))
            .arg(format!("--token-auth-file={}", at("tokens.csv").display()))
            .arg(format!("--secure-port={port}"))
            .args([
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc",
            ])
            .arg("--enable-admission-plugins=StorageObjectInUseProtection")
            .arg("--service-account-extra-ca-config-map=openshift-service-ca.crt:service-ca.crt")
            .args(flags);
        Self { _process: Running::when(command, "listening"), port, failures: at("failures.json") }
    }

    /// Replays everything; the steps that differ must be those that are known to.
    fn replay(&self, golden: &Path) {
        let done = Command::new("python3")
            .arg(golden.join("check.py"))
            .arg(format!("--server=https://127.0.0.1:{}", self.port))
            .args(["--token", TOKEN, "--insecure", "-j", "8", "--timeout", "60", "--json"])
            .arg(&self.failures)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        let counts = printed.lines().last().unwrap_or_default();
        let steps: usize = counts.split(' ').filter_map(|word| word.parse::<usize>().ok()).sum();
        assert!(steps >= STEPS, "{printed}\n{}", String::from_utf8_lossy(&done.stderr));
        eprintln!("{counts}");
        let failures: Vec<Value> = serde_json::from_slice(&std::fs::read(&self.failures).unwrap()).unwrap();
        compare(&failures);
    }
}

fn compare(failures: &[Value]) {
    let text = |step: &Value, field: &str| step[field].as_str().unwrap_or("").to_owned();
    let name = |step: &Value| format!("{}/{}/{}", text(step, "file"), text(step, "case"), text(step, "step"));
    let known: BTreeSet<&str> = KNOWN.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let failed: BTreeSet<String> = failures.iter().map(name).collect();
    for step in failures.iter().filter(|step| !known.contains(name(step).as_str())) {
        eprintln!("--- {}\n{:#}", name(step), step["differences"]);
    }
    let surprises: Vec<&str> = failed.iter().map(String::as_str).filter(|step| !known.contains(step)).collect();
    let fixed: Vec<&str> = known.into_iter().filter(|step| !failed.contains(*step)).collect();
    assert!(surprises.is_empty(), "these steps differ and are not known to:\n{}", surprises.join("\n"));
    assert!(fixed.is_empty(), "these steps agree now, remove these lines:\n{}", fixed.join("\n"));
}
