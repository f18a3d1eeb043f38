//! The real kubectl at work.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use cluster::TestCluster;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

use crate::api::{Api, PATIENCE, eventually};

const POD: &str = "/api/v1/namespaces/default/pods/p";

/// A cluster that other processes can reach, and a home for kubectl.
pub(crate) struct Shell {
    cluster: TestCluster,
    kubeconfig: PathBuf,
    home: TempDir,
}

/// What a command printed.
pub(crate) struct Output {
    success: bool,
    stdout: String,
    stderr: String,
}

impl Output {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.success, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// What a command that must fail said.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert!(!self.success, "{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

impl Shell {
    /// Starts a cluster, or says loudly that there is no kubectl.
    pub(crate) async fn start() -> Option<Self> {
        let found = Command::new("kubectl").args(["version", "--client"]).stdout(Stdio::null()).status().await;
        if found.is_err() {
            assert!(std::env::var_os("E2E_REQUIRED").is_none(), "kubectl is not installed");
            eprintln!("SKIP: kubectl is not installed");
            return None;
        }
        let mut cluster = TestCluster::start().await.unwrap();
        let kubeconfig = cluster.kubeconfig().await.unwrap();
        Some(Self { cluster, kubeconfig, home: TempDir::new().unwrap() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command.env("HOME", self.home.path()).env_remove("KUBECONFIG").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn api(&self) -> Api {
        Api::of(&self.cluster)
    }

    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_with(arguments, "").await
    }

    pub(crate) async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that does not read its input closes it early.
        let _closed_early = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Output { success: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    async fn apply(&self, object: &Value) {
        self.kubectl_with(&["apply", "-f", "-"], &object.to_string()).await.ok();
    }

    async fn run_pod(&self) -> Api {
        self.kubectl(&["run", "p", "--restart=Never", "--image=web:1", "--labels=app=web", "--port=6379"]).await.ok();
        let api = Api::of(&self.cluster);
        eventually("the pod runs", async || api.get(POD).await["status"]["phase"] == "Running").await;
        api
    }
}

fn replication_controller() -> Value {
    json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "rc", "labels": {"app": "rc"}},
        "spec": {"replicas": 0, "selector": {"app": "web", "role": "primary"}, "template": {
            "metadata": {"labels": {"app": "web", "role": "primary"}},
            "spec": {"containers": [{"name": "c", "image": "web:1", "ports": [{"containerPort": 6379}]}]}}}})
}

/// Conformance: [sig-cli] Kubectl client Kubectl api-versions should check if v1 is in available api versions [Conformance]
/// Conformance: [sig-cli] Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info [Conformance]
/// Conformance: [sig-cli] Kubectl client Kubectl version should check is all data is printed [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn the_server_introduces_itself() {
    let Some(shell) = Shell::start().await else { return };
    let versions = shell.kubectl(&["api-versions"]).await.ok();
    assert!(versions.lines().any(|line| line == "v1"), "{versions}");
    let info = shell.kubectl(&["cluster-info"]).await.ok();
    assert!(info.contains("Kubernetes control plane") && info.contains("https://127.0.0.1:"), "{info}");
    let version: Value = serde_json::from_str(&shell.kubectl(&["version", "-o", "json"]).await.ok()).unwrap();
    for side in ["clientVersion", "serverVersion"] {
        for field in ["major", "minor", "gitVersion", "gitCommit", "goVersion", "compiler", "platform"] {
            assert!(version[side][field].is_string(), "{side}.{field}: {version}");
        }
    }
}

/// Conformance: [sig-cli] Kubectl client Kubectl run pod should create a pod from an image when restart is Never [Conformance]
/// Conformance: [sig-cli] Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods [Conformance]
/// Conformance: [sig-cli] Kubectl client Kubectl replace should update a single-container pod's image [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_run_tried_and_replaced() {
    let Some(shell) = Shell::start().await else { return };
    let api = shell.run_pod().await;
    let pod = api.get(POD).await;
    assert_eq!(
        (&pod["spec"]["containers"][0]["image"], &pod["spec"]["restartPolicy"]),
        (&json!("web:1"), &json!("Never"))
    );
    let patch = json!({"spec": {"containers": [{"name": "p", "image": "web:2"}]}}).to_string();
    shell.kubectl(&["patch", "pod", "p", "--patch", &patch, "--dry-run=server"]).await.ok();
    assert_eq!(api.get(POD).await["spec"]["containers"][0]["image"], "web:1");
    let shown = shell.kubectl(&["get", "pod", "p", "-o", "json"]).await.ok();
    shell.kubectl_with(&["replace", "-f", "-"], &shown.replace("web:1", "web:2")).await.ok();
    assert_eq!(api.get(POD).await["spec"]["containers"][0]["image"], "web:2");
}

/// Conformance: [sig-cli] Kubectl client Kubectl label should update the label on a resource [Conformance]
/// Conformance: [sig-cli] Kubectl client Kubectl patch should add annotations for pods in rc [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn labels_and_annotations_come_and_go() {
    let Some(shell) = Shell::start().await else { return };
    let api = shell.run_pod().await;
    shell.kubectl(&["label", "pods", "p", "testing-label=testing-label-value"]).await.ok();
    let shown = shell.kubectl(&["get", "pod", "p", "-L", "testing-label"]).await.ok();
    assert!(shown.contains("testing-label-value"), "{shown}");
    assert!(shell.kubectl(&["get", "pod", "-l", "testing-label", "-o", "name"]).await.ok().contains("pod/p"));
    shell.kubectl(&["label", "pods", "p", "testing-label-"]).await.ok();
    let shown = shell.kubectl(&["get", "pod", "p", "-L", "testing-label"]).await.ok();
    assert!(!shown.contains("testing-label-value"), "{shown}");
    let patch = json!({"metadata": {"annotations": {"x": "y"}}}).to_string();
    shell.kubectl(&["patch", "pod", "p", "-p", &patch]).await.ok();
    assert_eq!(api.get(POD).await["metadata"]["annotations"]["x"], "y");
}

/// Conformance: [sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_diff_shows_what_an_apply_would_change() {
    let Some(shell) = Shell::start().await else { return };
    let deployment = |image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}}})
    };
    shell.apply(&deployment("web:1")).await;
    let diff = shell.kubectl_with(&["diff", "-f", "-"], &deployment("busybox:2").to_string()).await;
    assert!(!diff.success, "a difference is status 1");
    let line = |mark: &str, image: &str| {
        diff.stdout.lines().any(|line| line.starts_with(mark) && line.contains(&format!("image: {image}")))
    };
    assert!(line("-", "web:1") && line("+", "busybox:2"), "{}{}", diff.stdout, diff.stderr);
    let same = shell.kubectl_with(&["diff", "-f", "-"], &deployment("web:1").to_string()).await;
    assert_eq!(same.ok(), "");
}

/// Conformance: [sig-cli] Kubectl client Kubectl expose should create services for rc [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_exposed_gets_a_service() {
    let Some(shell) = Shell::start().await else { return };
    let api = Api::of(&shell.cluster);
    shell.apply(&replication_controller()).await;
    let port = async |service: &str, expected: u64| {
        let service = api.get(&format!("/api/v1/namespaces/default/services/{service}")).await;
        let port = &service["spec"]["ports"][0];
        assert_eq!((&port["port"], &port["targetPort"]), (&json!(expected), &json!(6379)), "{service}");
        assert_eq!(service["spec"]["selector"], json!({"app": "web", "role": "primary"}));
    };
    shell.kubectl(&["expose", "rc", "rc", "--name=rm2", "--port=1234", "--target-port=6379"]).await.ok();
    port("rm2", 1234).await;
    shell.kubectl(&["expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379"]).await.ok();
    port("rm3", 2345).await;
}

/// Conformance: [sig-cli] Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn descriptions_tell_what_matters() {
    let Some(shell) = Shell::start().await else { return };
    shell.run_pod().await;
    shell.apply(&replication_controller()).await;
    shell.kubectl(&["expose", "rc", "rc", "--name=s", "--port=6379"]).await.ok();
    let cases: [(&str, &str, &[&str]); 5] = [
        (
            "pod",
            "p",
            &["Name:", "Namespace:", "Node:", "Labels:", "Status:", "Running", "IP:", "Image:", "State:", "QoS Class:"],
        ),
        (
            "rc",
            "rc",
            &["Name:", "Namespace:", "Selector:", "Labels:", "Replicas:", "Pods Status:", "Pod Template:", "Image:"],
        ),
        ("service", "s", &["Name:", "Namespace:", "Labels:", "Selector:", "Type:", "IP:", "Port:", "Endpoints:"]),
        (
            "node",
            cluster::NODE,
            &["Name:", "Labels:", "CreationTimestamp", "Conditions", "Addresses", "Capacity", "Version", "Pods"],
        ),
        ("namespace", "default", &["Name:", "Labels:", "Status:", "Active", "No resource quota", "No LimitRange"]),
    ];
    for (kind, name, expected) in cases {
        let shown = shell.kubectl(&["describe", kind, name]).await.ok();
        for part in expected {
            assert!(shown.contains(part), "{kind} {name} has no {part}:\n{shown}");
        }
    }
}

/// Conformance: [sig-cli] Kubectl client Proxy server should support proxy with --port 0 [Conformance]
/// Conformance: [sig-cli] Kubectl client Proxy server should support --unix-socket=/path [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_serves_ports_and_sockets() {
    let Some(shell) = Shell::start().await else { return };
    let said = |line: &str| line.trim().rsplit(' ').next().unwrap().to_owned();
    let (_proxy, line) = proxy(&shell, &["proxy", "--port=0", "--disable-filter"]).await;
    assert_versions(TcpStream::connect(said(&line)).await.unwrap()).await;
    let socket = shell.home.path().join("proxy.sock");
    let (_proxy, line) = proxy(&shell, &["proxy", &format!("--unix-socket={}", socket.display())]).await;
    assert_eq!(Path::new(&said(&line)), socket);
    assert_versions(UnixStream::connect(socket).await.unwrap()).await;
}

/// Starts a proxy and waits for the line that says where it listens.
async fn proxy(shell: &Shell, arguments: &[&str]) -> (tokio::process::Child, String) {
    let mut child = shell.command(arguments).stderr(Stdio::inherit()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the proxy goes on");
            if line.contains("Starting to serve on") {
                return line;
            }
        }
    };
    let line = tokio::time::timeout(PATIENCE, line).await.unwrap();
    (child, line)
}

async fn assert_versions(mut stream: impl AsyncWrite + tokio::io::AsyncRead + Unpin) {
    stream.write_all(b"GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"versions\""), "{answer}");
}
