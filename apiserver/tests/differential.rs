//! Conversations by chance with two servers of ours, on the embedded store and on etcd: they must answer the same. And
//! conversations that were recorded with the reference server: ours must answer as that did. `differ` (crate `e2e`) does
//! both with any servers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;
#[path = "process/recorded.rs"]
mod recorded;

use e2e::differential::{Conversation, Finding, Plan, compare, record, replay};
use kube::{Client, Config};
use secrecy::SecretString;

use process::{Running, etcd, free_port, is_installed};
use recorded::TOKEN;

/// Recorded with kube-apiserver v1.36.2.
const REFERENCE: &str = include_str!("recordings/reference.json");

/// A server, and a client of it.
struct Server {
    _process: Running,
    client: Client,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(flags: &[String]) -> Self {
        daemon::install_crypto_provider();
        let directory = tempfile::tempdir().unwrap();
        let (process, port) = recorded::start(directory.path(), flags);
        let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(SecretString::from(TOKEN));
        Self { _process: process, client: Client::try_from(config).unwrap(), _directory: directory }
    }
}

#[track_caller]
fn none(findings: &[Finding]) {
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} differences\n{}", findings.len(), texts.join("\n"));
}

#[tokio::test]
async fn the_embedded_store_and_etcd_answer_the_same() {
    if !is_installed("etcd") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let address = format!("http://127.0.0.1:{}", free_port());
    let _etcd = etcd(&directory.path().join("etcd"), &address, &[]);
    let (embedded, on_etcd) = (Server::start(&[]), Server::start(&[format!("--etcd-servers={address}")]));
    let plan = Plan { seed: 1, conversations: 60, steps: 8, only: Vec::new() };
    none(&compare(&on_etcd.client, &embedded.client, &plan).await.unwrap());
}

#[tokio::test]
async fn what_the_reference_answered_is_answered() {
    let server = Server::start(&[]);
    let conversations = Conversation::read_all(&serde_json::from_str(REFERENCE).unwrap()).unwrap();
    assert_eq!(conversations.iter().map(|one| one.steps.len()).sum::<usize>(), 60);
    none(&replay(&server.client, &conversations).await.unwrap());
}

#[tokio::test]
async fn a_recorded_conversation_is_answered_in_the_same_way_again_and_a_wrong_answer_is_found() {
    let server = Server::start(&[]);
    let plan = Plan { seed: 3, conversations: 4, steps: 6, only: vec!["configmaps".into(), "services".into()] };
    let recorded = record(&server.client, plan.conversations()).await.unwrap();
    let file = Conversation::write_all("differential", "v1", &recorded);
    let mut read = Conversation::read_all(&file).unwrap();
    none(&replay(&server.client, &read).await.unwrap());
    let expect = read[0].steps[0].expect.as_mut().unwrap();
    expect["body"]["metadata"]["labels"]["app"] = "another".into();
    let findings = replay(&server.client, &read).await.unwrap();
    let [finding] = findings.as_slice() else { panic!("one conversation differs: {findings:?}") };
    let places: Vec<&str> = finding.differences.iter().map(|one| one.place.as_str()).collect();
    assert_eq!(places, ["/body/metadata/labels/app"]);
}
