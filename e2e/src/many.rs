//! A cluster of several nodes on this machine: `coracle up --nodes`, as a child process.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::command::{Output, Run as _, eventually};
use crate::image::free_port;
use crate::started::{Started, signal};
use crate::{binary, workspace};

const PATIENCE: Duration = Duration::from_secs(120);
/// Addresses and names that no other cluster on this machine has.
const NETWORK: [&str; 7] = [
    "--node-ip=10.185.0.1,fd00:10:185::1",
    "--cluster-cidr=10.184.0.0/16,fd00:10:184::/56",
    "--service-cluster-ip-range=10.186.0.0/16,fd00:10:186::/112",
    "--load-balancer-pool=10.185.0.200-10.185.0.209",
    "--bridge=ce2e8",
    "--node-name=many",
    "--kubelet-port=10258",
];
/// The same for a cluster that has no IPv4.
const NETWORK_OF_IPV6: [&str; 6] = [
    "--node-ip=fd00:10:195::1",
    "--cluster-cidr=fd00:10:194::/56",
    "--service-cluster-ip-range=fd00:10:196::/112",
    "--bridge=ce2e6",
    "--node-name=six",
    "--kubelet-port=10258",
];
/// The image that every node has.
pub const IMAGE: &str = "localhost/e2e/busybox:1";

/// The cluster. Dropping it takes everything down.
pub struct ManyNodes {
    // Before the directory, which it needs until its end.
    process: Started,
    directory: TempDir,
    /// The name of the first node.
    first: &'static str,
}

impl ManyNodes {
    /// Brings up so many nodes and waits until all are Ready and have the image.
    pub fn up(count: usize) -> Self {
        Self::up_in(count, &NETWORK, "many")
    }

    /// The same without IPv4.
    pub fn up_of_ipv6(count: usize) -> Self {
        Self::up_in(count, &NETWORK_OF_IPV6, "six")
    }

    fn up_in(count: usize, network: &[&str], first: &'static str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let mut command = Command::new(binary("coracle"));
        command.arg("up").args(network).args([format!("--nodes={count}"), format!("--secure-port={}", free_port())]);
        command.arg(format!("--data-dir={}", directory.path().join("data").display()));
        let mut cluster = Self { process: Started::nothing(directory.path()), directory, first };
        cluster.process.start(&mut command);
        eventually("the cluster is up", PATIENCE, || {
            let ended = cluster.process.ended();
            assert!(ended.is_none(), "coracle ended: {}", cluster.state());
            cluster.printed().contains("kubeconfig: ").then_some(())
        });
        cluster.kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]).ok();
        let account = || cluster.kubectl(&["get", "serviceaccount", "default"]).success.then_some(());
        eventually("the default service account exists", PATIENCE, account);
        cluster.load_images();
        cluster
    }

    fn load_images(&self) {
        let archive = self.directory.path().join("busybox.tar");
        Command::new(workspace().join("manifests/busybox-image")).arg(&archive).run().ok();
        let named = self.directory.path().join("named.tar");
        let (from, to) = (archive.display(), named.display());
        Command::new("skopeo")
            .args(["copy", "--quiet", &format!("docker-archive:{from}"), &format!("docker-archive:{to}:{IMAGE}")])
            .run()
            .ok();
        let nodes = self.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]);
        for node in nodes.ok().split(' ') {
            let mut command = Command::new(binary("coracle"));
            command.args(["image", "load"]).arg(&named).arg("--data-dir").arg(self.data_of(node)).run().ok();
        }
    }

    /// Where a node keeps its data.
    pub fn data_of(&self, node: &str) -> PathBuf {
        let data = self.directory.path().join("data");
        if node == self.first { data } else { data.join("nodes").join(node) }
    }

    /// Runs kubectl against it.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_command(arguments).run()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("data/admin.kubeconfig")
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        // To kubectl, what begins with a brace is JSON.
        self.kubectl_command(&["apply", "-f", "-"]).output_with(&format!("---\n{manifest}")).ok();
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig()).arg("--request-timeout=60s").args(arguments);
        command.env("HOME", self.directory.path()).env_remove("KUBECONFIG");
        command
    }

    /// Server, token and hash of a new token.
    pub fn invitation(&self) -> [String; 3] {
        let mut command = Command::new(binary("coracle"));
        let output = command.args(["token", "create", "--data-dir"]).arg(self.directory.path().join("data")).run();
        let words: Vec<&str> = output.ok().split(' ').collect();
        let after = |flag: &str| {
            let at = words.iter().position(|word| *word == flag).unwrap_or_else(|| panic!("{flag}: {words:?}"));
            words[at + 1].to_owned()
        };
        [after("join"), after("--token"), after("--ca-hash")]
    }

    /// Takes a node beside the first away as a power cut would: its link, its process, and all that runs in its network.
    pub fn cut_power(&self, node: &str) {
        let (pid, bridge) = self.process_of(node);
        Command::new("ip").args(["link", "set", &format!("{bridge}.v"), "down"]).run().ok();
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("it has a network");
        kill(pid);
        // Its pods' shims are in it; the pods have namespaces of their own, below its data directory.
        let root = self.data_of(node).display().to_string();
        for (pid, command) in processes() {
            let is_inside = std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|found| found == namespace);
            if is_inside || command.contains(&root) {
                kill(pid);
            }
        }
    }

    /// Kills the process of a node beside the first, and nothing else.
    pub fn crash(&self, node: &str) {
        kill(self.process_of(node).0);
    }

    /// The process of a node beside the first, and the name of its bridge.
    fn process_of(&self, node: &str) -> (u32, String) {
        let name = format!("--node-name {node} ");
        let running = processes().into_iter().find(|(_, line)| line.contains(" join ") && line.contains(&name));
        let (pid, line) = running.unwrap_or_else(|| panic!("{node} does not run"));
        let bridge = line.split(' ').skip_while(|word| *word != "--bridge").nth(1).expect("it has a bridge");
        (pid, bridge.to_owned())
    }

    /// Has a node beside the first leave.
    pub fn leave(&self, node: &str) -> Output {
        let (pid, bridge) = self.process_of(node);
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{pid}/ns/net")).arg(binary("coracle"));
        command.args(["leave", "--bridge", &bridge, "--data-dir"]).arg(self.data_of(node)).run()
    }

    /// Asks it to end, as Ctrl-C does, and waits until it has.
    pub fn stop(&mut self) {
        self.process.stop(PATIENCE);
    }

    /// What it printed.
    pub fn printed(&self) -> String {
        self.process.printed()
    }

    /// What it looks like, for messages of failed tests.
    pub fn state(&self) -> String {
        let objects = self.kubectl(&["get", "nodes,pods,services,endpointslices,csr,events", "-A", "-o", "wide"]);
        format!("{}{}\n{}", objects.stdout, objects.stderr, self.process.logs())
    }
}

impl Drop for ManyNodes {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.state());
        }
    }
}

/// All processes with their command lines.
fn processes() -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").expect("a machine has /proc").filter_map(Result::ok);
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let named = numbers.filter_map(|pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    named.collect()
}

fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}
