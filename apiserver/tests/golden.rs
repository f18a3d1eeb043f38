//! Replays the recorded conversations with the reference server against this server's binary, on the embedded store and
//! on etcd.
//!
//! Needs the recordings (`CORACLE_REFERENCE`, by default `../shared` beside the workspace), Python, and etcd for the second
//! half; what is missing is said, and fails with `E2E_REQUIRED=1`. Differences that are known stand in
//! `golden_known_differences.txt`; the list may only shrink.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;
#[path = "process/recorded.rs"]
mod recorded;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use process::{Running, etcd, free_port, is_installed};
use recorded::TOKEN;

const KNOWN: &str = include_str!("golden_known_differences.txt");
/// The folders of recordings, and how many steps there are at least: fewer were not all of them.
const RECORDINGS: [(&str, usize); 2] = [("cases", 5000), ("cases2", 360)];

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
    let client = format!("http://127.0.0.1:{}", free_port());
    let _etcd = etcd(&directory.path().join("etcd"), &client, &[]);
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

/// The server's binary, set up as the reference server was.
struct Server {
    _process: Running,
    port: u16,
    failures: PathBuf,
}

impl Server {
    fn start(directory: &TempDir, flags: &[String]) -> Self {
        let (process, port) = recorded::start(directory.path(), flags);
        Self { _process: process, port, failures: directory.path().join("failures.json") }
    }

    /// Replays everything; the steps that differ must be those that are known to.
    fn replay(&self, golden: &Path) {
        let failures: Vec<Value> =
            RECORDINGS.into_iter().flat_map(|(folder, steps)| self.replay_folder(golden, folder, steps)).collect();
        compare(&failures);
    }

    /// The steps of a folder that differ.
    fn replay_folder(&self, golden: &Path, folder: &str, least: usize) -> Vec<Value> {
        let done = Command::new("python3")
            .arg(golden.join("check.py"))
            .arg("--cases")
            .arg(golden.join(folder))
            .arg(format!("--server=https://127.0.0.1:{}", self.port))
            .args(["--token", TOKEN, "--insecure", "-j", "8", "--timeout", "60", "--json"])
            .arg(&self.failures)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        let counts = printed.lines().last().unwrap_or_default();
        let steps: usize = counts.split(' ').filter_map(|word| word.parse::<usize>().ok()).sum();
        assert!(steps >= least, "{printed}\n{}", String::from_utf8_lossy(&done.stderr));
        eprintln!("{folder}: {counts}");
        serde_json::from_slice(&std::fs::read(&self.failures).unwrap()).unwrap()
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
