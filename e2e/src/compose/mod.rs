//! The cluster of `e2e/compose`: many machines, each a container, driven with kubectl and Docker from outside.

mod docker;
mod writes;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use self::docker::docker;
pub use self::docker::{Place, place, run_apart};
pub use self::writes::Writes;
use crate::command::{Output, Run as _, eventually};
use crate::image::free_port;
use crate::{binary, workspace};

/// How long a change may take: far more than it does, for slow machines.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the containers of the cluster are labelled with, by either kind of docker-compose.
const PROJECT: &str = "label=com.docker.compose.project=coracle";
const NETWORK: &str = "coracle_cluster";
/// The image that the registry has, as pods name it.
pub const COMPOSE_IMAGE: &str = "registry:5000/busybox:1.36";

/// Every part of the cluster, with the ports and paths at which it says how it is.
pub const PARTS: [(&str, &[&str]); 13] = [
    ("etcd-1", &["2381/health"]),
    ("etcd-2", &["2381/health"]),
    ("etcd-3", &["2381/health"]),
    ("apiserver-1", &["10250/readyz"]),
    ("apiserver-2", &["10250/readyz"]),
    ("controller-manager-1", &["10250/readyz"]),
    ("controller-manager-2", &["10250/readyz"]),
    ("scheduler-1", &["10250/readyz"]),
    ("scheduler-2", &["10250/readyz"]),
    // The kubelet, the proxy, routes, policies, DNS.
    ("node-1", NODE),
    ("node-2", NODE),
    ("node-3", NODE),
    ("registry", &["5000/v2/"]),
];
const NODE: &[&str] = &["10248/readyz", "10256/readyz", "10246/readyz", "10247/readyz", "10245/readyz"];

/// The cluster. Dropping it takes everything down.
pub struct ComposeCluster {
    directory: TempDir,
}

impl ComposeCluster {
    /// Starts it as a user would, and waits until every part is ready.
    pub fn up() -> Self {
        let others = docker(&["ps", "--all", "--quiet", "--filter", PROJECT]);
        assert!(others.ok().is_empty(), "a cluster of e2e/compose is there: e2e/compose/compose down --volumes");
        let cluster = Self { directory: TempDir::new().expect("a temporary directory") };
        let mut command = Command::new(folder().join("up"));
        command.arg("--local").env("CORACLE_KUBECONFIG", cluster.kubeconfig());
        command.env("CORACLE_BIN_DIR", binary("coracle").parent().expect("it lies in a folder"));
        command.env("CORACLE_PORT", free_port().to_string()).env("CORACLE_REGISTRY_PORT", free_port().to_string());
        eprintln!("{}", command.env("HOME", cluster.directory.path()).run().ok());
        cluster
    }

    /// The administrator's kubeconfig, by way of the balancer.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Runs kubectl by way of the balancer.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_command(arguments).run()
    }

    /// Runs kubectl at one of the API servers.
    pub fn kubectl_by(&self, server: &str, arguments: &[&str]) -> Output {
        self.kubectl_command_by(server, arguments).run()
    }

    /// A kubectl command at one of the API servers, to run in another way.
    pub fn kubectl_command_by(&self, server: &str, arguments: &[&str]) -> Command {
        let mut command = self.kubectl_command(arguments);
        command.arg(format!("--server=https://{}:6443", self.address(server)));
        command
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        // Before the arguments: what comes after `--` is the pod's.
        command.arg("--kubeconfig").arg(self.kubeconfig()).arg("--request-timeout=30s").args(arguments);
        command.env("HOME", self.directory.path()).env_remove("KUBECONFIG");
        command
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        self.kubectl_command(&["apply", "-f", "-"]).output_with(manifest).ok();
    }

    /// Runs a command in the container of a part.
    pub fn inside(&self, part: &str, command: &[&str]) -> Output {
        docker(&[&["exec", &self.container(part)], command].concat())
    }

    /// Whether every process of a part says that it is well; asked from within the cluster's network.
    pub fn is_well(&self, part: &str) -> bool {
        let (_, endpoints) = PARTS.iter().find(|(name, _)| *name == part).expect("a part of the cluster");
        let get = |endpoint: &&str| {
            let url = format!("http://{part}:{endpoint}");
            self.inside("api", &["timeout", "3", "wget", "-q", "-O", "/dev/null", &url]).success
        };
        endpoints.iter().all(get)
    }

    /// Waits until a part is well.
    #[track_caller]
    pub fn wait_until_well(&self, part: &str) {
        eventually(&format!("{part} is well"), PATIENCE, || self.is_well(part).then_some(()));
    }

    /// Which of the members of etcd leads.
    pub fn etcd_leader(&self) -> &'static str {
        let leads = |part: &str| {
            let metrics = format!("http://{part}:2381/metrics");
            let answer = self.inside("api", &["timeout", "3", "wget", "-q", "-O", "-", &metrics]);
            answer.stdout.lines().any(|line| line == "etcd_server_is_leader 1")
        };
        eventually("a member of etcd leads", PATIENCE, || {
            ["etcd-1", "etcd-2", "etcd-3"].into_iter().find(|part| leads(part))
        })
    }

    /// Which part holds a Lease of `kube-system`.
    pub fn holder(&self, lease: &str) -> Option<String> {
        let holder = ["get", "lease", "-n", "kube-system", lease, "-o", "jsonpath={.spec.holderIdentity}"];
        let (part, _) = self.kubectl(&holder).stdout.split_once('_').map(|(part, id)| (part.to_owned(), id.len()))?;
        Some(part)
    }

    /// Kills a part, as a power cut does.
    #[track_caller]
    pub fn kill(&self, part: &str) {
        docker(&["kill", &self.container(part)]).ok();
    }

    /// Starts a part that was killed.
    #[track_caller]
    pub fn start(&self, part: &str) {
        docker(&["start", &self.container(part)]).ok();
    }

    /// Takes a part off the network while it goes on running.
    #[track_caller]
    pub fn disconnect(&self, part: &str) {
        docker(&["network", "disconnect", NETWORK, &self.container(part)]).ok();
    }

    /// Puts it back, with the address that it had.
    #[track_caller]
    pub fn connect(&self, part: &str, address: &str) {
        docker(&["network", "connect", "--ip", address, "--alias", part, NETWORK, &self.container(part)]).ok();
    }

    /// The address of a part.
    #[track_caller]
    pub fn address(&self, part: &str) -> String {
        let field = format!("{{{{(index .NetworkSettings.Networks {NETWORK:?}).IPAddress}}}}");
        docker(&["inspect", "--format", &field, &self.container(part)]).ok().to_owned()
    }

    #[track_caller]
    fn container(&self, part: &str) -> String {
        let service = format!("label=com.docker.compose.service={part}");
        let found = docker(&["ps", "--all", "--quiet", "--filter", PROJECT, "--filter", &service]);
        let id = found.ok().to_owned();
        assert!(!id.is_empty() && !id.contains('\n'), "{part}: {id:?}");
        id
    }

    /// What it looks like, for messages of failed tests.
    fn state(&self) -> String {
        let objects = self.kubectl(&["get", "nodes,pods,endpointslices,leases,events", "-A", "-o", "wide"]);
        let logs = Command::new(folder().join("compose")).args(["logs", "--no-color", "--tail=60"]).run();
        format!("{}{}\n{}", objects.stdout, objects.stderr, logs.stdout)
    }
}

impl Drop for ComposeCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.state());
        }
        let mut down = Command::new(folder().join("compose"));
        let gone = down.args(["down", "--volumes", "--timeout=20"]).run();
        assert!(gone.success || std::thread::panicking(), "{}", gone.stderr);
    }
}

fn folder() -> PathBuf {
    workspace().join("e2e/compose")
}
