//! `coracle up` as a child process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::command::{Output, Run as _, eventually};
use crate::image::{Registry, free_port};
use crate::started::Started;
use crate::{binary, workspace};

/// How long a whole cluster may take to come up or down: far more than it does, for slow machines.
const PATIENCE: Duration = Duration::from_secs(90);

/// Addresses and names that no other cluster on this machine has.
const NETWORK: &[&str] = &[
    "--node-ip=10.205.0.1",
    "--cluster-cidr=10.204.0.0/16",
    "--service-cluster-ip-range=10.206.0.0/16",
    "--load-balancer-pool=10.207.0.1-10.207.0.9",
    "--bridge=coracle-e2e0",
    "--node-name=e2e",
];

/// A cluster in one process on the embedded store, with a registry beside it. Dropping it takes everything down.
pub struct Cluster {
    // Before the directory and the registry, which it needs until its end.
    process: Started,
    directory: TempDir,
    port: u16,
    registry: Registry,
}

impl Cluster {
    /// Brings a cluster up and waits until its node is Ready.
    pub fn up() -> Self {
        Self::up_with(&[])
    }

    /// The same with more flags.
    pub fn up_with(flags: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let registry = Registry::start(directory.path());
        let mut cluster = Self { process: Started::nothing(directory.path()), port: free_port(), registry, directory };
        cluster.start(flags);
        cluster
    }

    /// Starts it (again) on the same data.
    pub fn start(&mut self, flags: &[&str]) {
        let lines_before = self.printed().matches("kubeconfig: ").count();
        let mut command = Command::new(binary("coracle"));
        command.arg("up").args(NETWORK).args(["--kubelet-port=10251", &format!("--secure-port={}", self.port)]);
        command.arg(format!("--data-dir={}", self.data().display())).arg(self.registry.flag()).args(flags);
        self.process.start(&mut command);
        eventually("the cluster is up", PATIENCE, || {
            self.check_alive();
            (self.printed().matches("kubeconfig: ").count() > lines_before).then_some(())
        });
        self.kubectl(&["wait", "--for=condition=Ready", "node/e2e", "--timeout=60s"]).ok();
        let account = || self.kubectl(&["get", "serviceaccount", "default"]).success.then_some(());
        eventually("the default service account exists", PATIENCE, account);
    }

    /// Asks it to end, as Ctrl-C does, and waits until it has.
    pub fn stop(&mut self) {
        self.process.stop(PATIENCE);
    }

    /// Sends it a signal, and says at once what it has printed when `done` holds of that.
    #[track_caller]
    pub fn signal_until(&mut self, kind: Signal, what: &str, within: Duration, done: impl Fn(&str) -> bool) -> String {
        self.process.signal(kind);
        eventually(what, within, || Some(self.printed()).filter(|printed| done(printed)))
    }

    /// Waits until it has ended by itself, and says how.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.process.wait(PATIENCE).expect("it runs")
    }

    /// Another `coracle` on this machine, with the same network and its own data; it gets `flags` beside.
    pub fn another(&self, data: &Path, flags: &[&str]) -> Output {
        let mut command = Command::new(binary("coracle"));
        command.arg("up").args(NETWORK).args(["--kubelet-port=10252", &format!("--secure-port={}", free_port())]);
        command.arg(format!("--data-dir={}", data.display())).args(flags).run()
    }

    /// Kills it as a crash would.
    pub fn crash(&mut self) {
        self.process.crash();
    }

    /// Runs kubectl against it.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_command(arguments).run()
    }

    /// A kubectl command, to run in another way.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        // Discovery is cached below the home directory: another cluster's would mislead.
        command.env("HOME", self.directory.path()).env_remove("KUBECONFIG");
        command
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        self.kubectl_command(&["apply", "-f", "-"]).output_with(manifest).ok();
    }

    /// Applies the samples of the repository, with the image of our registry.
    pub fn apply_samples(&self) {
        for file in ["web.yaml", "client.yaml"] {
            let text = std::fs::read_to_string(workspace().join("manifests/samples").join(file))
                .expect("the samples are there");
            self.apply(&text.replace("busybox:1.36", &self.image("busybox:1")));
        }
    }

    /// The value of a JSONPath of some objects.
    #[track_caller]
    pub fn value(&self, objects: &[&str], path: &str) -> String {
        let mut arguments = vec!["get"];
        arguments.extend(objects);
        let output = format!("jsonpath={path}");
        arguments.extend(["-o", &output]);
        self.kubectl(&arguments).ok().to_owned()
    }

    /// Waits until the value of a JSONPath is `wanted`.
    #[track_caller]
    pub fn wait_for(&self, objects: &[&str], path: &str, wanted: &str) {
        let what = format!("{objects:?} {path} is {wanted:?}");
        let mut last = String::new();
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            let mut arguments = vec!["get"];
            arguments.extend(objects);
            let output = format!("jsonpath={path}");
            arguments.extend(["-o", &output]);
            let found = self.kubectl(&arguments);
            last = format!("{}{}", found.stdout, found.stderr);
            if found.success && found.stdout.trim() == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("not within {PATIENCE:?}: {what}; last: {last}\n{}", self.state());
    }

    /// The name of an image in the registry beside it.
    pub fn image(&self, name: &str) -> String {
        self.registry.image(name)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("admin.kubeconfig")
    }

    /// Where it keeps its data.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A directory that goes away with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What `coracle up` printed.
    pub fn printed(&self) -> String {
        self.process.printed()
    }

    fn logs(&self) -> String {
        self.process.logs()
    }

    /// What the cluster looks like, for messages of failed tests.
    pub fn state(&self) -> String {
        let pods = self.kubectl(&["get", "pods,deploy,rs,endpointslices", "-A", "-o", "wide"]);
        let events = self.kubectl(&["get", "events", "-A"]);
        format!("{}{}\n{}\n{}", pods.stdout, pods.stderr, events.stdout, self.logs())
    }

    fn check_alive(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("coracle ended with {status}:\n{}", self.logs());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.state());
        }
    }
}
