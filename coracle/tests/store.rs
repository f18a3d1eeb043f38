//! The commands on a store, beside a running API server and after it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn coracle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coracle")).args(arguments).output().unwrap()
}

/// Runs a command that should succeed, and returns what it prints.
fn succeed(arguments: &[&str]) -> String {
    let output = coracle(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that should fail, and returns why it did.
fn fail(arguments: &[&str]) -> String {
    let output = coracle(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// An API server; it is killed when dropped.
struct Server(Child);

impl Server {
    fn start(directory: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["apiserver", "--healthz-port=0", &format!("--secure-port={port}")])
            .arg(format!("--data-dir={}", directory.join("data").display()))
            .arg(format!("--cert-dir={}", directory.join("certs").display()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn terminate(&mut self) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_store_is_checked_backed_up_restored_and_refused_when_damaged() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (data, backup, new) = (path("data"), path("backup"), path("new"));
    let mut server = Server::start(place.path());
    let end = Instant::now() + Duration::from_secs(60);
    // The last of the bootstrap objects are ClusterRoleBindings; any will do.
    while !String::from_utf8_lossy(&coracle(&["store", "check", &data]).stdout).contains(" keys") {
        assert!(Instant::now() < end, "the API server makes no store");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(succeed(&["store", "check", &data]).contains("in use"));
    assert!(succeed(&["backup", "--data-dir", &data, "--to", &backup]).contains(" keys"));
    assert!(fail(&["backup", "--data-dir", &data, "--to", &backup]).contains("nothing is overwritten"));
    server.terminate();
    assert!(succeed(&["store", "check", &data]).contains("closed: this is all"));

    assert!(fail(&["restore", "--from", &backup, "--data-dir", &data]).contains("nothing is overwritten"));
    succeed(&["restore", "--from", &backup, "--data-dir", &new]);
    assert!(succeed(&["store", "check", &new]).contains("closed: this is all"));

    let files = fs::read_dir(&data).unwrap().map(|file| file.unwrap().path());
    let checkpoint = files.into_iter().find(|path| path.to_str().unwrap().contains("checkpoint-")).unwrap();
    let mut content = fs::read(&checkpoint).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 4;
    fs::write(&checkpoint, content).unwrap();
    let why = fail(&["store", "check", &data]);
    assert!(why.contains(checkpoint.to_str().unwrap()) && why.contains("damaged at byte"), "{why}");
    assert!(why.contains("coracle restore"), "{why}");
    let mut server = Server::start(place.path());
    assert!(!server.0.wait().unwrap().success(), "a damaged store is not served");
}
