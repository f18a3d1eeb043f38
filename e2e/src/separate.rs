//! A cluster of separate processes over etcd, as a careful administrator would start it by hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::command::{Output, Run as _, eventually};
use crate::image::{Registry, free_port};
use crate::separate_network::{
    BRIDGE, CLUSTER_CIDR, DNS_SERVICE, NODE_IP, Network, POLICY_TABLE, PROXY_TABLE, SECOND_IP, SERVICE_RANGE,
};
use crate::separate_process::Member;
use crate::{binary, can_run, etcd, on_path, workspace};

/// How long a change may take: far more than it does, for slow machines.
const PATIENCE: Duration = Duration::from_secs(120);
/// The name of the only node.
const NODE: &str = "e2e-separate";

/// The members of a cluster, in the order in which they are started.
pub const MEMBERS: [&str; 8] =
    ["etcd", "apiserver", "controller-manager", "scheduler", "kubelet", "proxy", "network-policy", "dns"];

/// Second ones of those members that there may be several of. They use the second API server.
pub const SECONDS: [&str; 3] = ["apiserver-2", "controller-manager-2", "scheduler-2"];
/// With seconds: a lease, and how long a node need not be heard of, end so soon that a test can outwait them.
const HASTE: [&str; 3] =
    ["--leader-elect-lease-duration=6s", "--leader-elect-renew-deadline=4s", "--leader-elect-retry-period=1s"];
const NODE_HASTE: &str = "--node-monitor-grace-period=20s";

/// Whether these suites can run here. Panics instead of answering "no" when `E2E_REQUIRED=1`.
pub fn can_run_separate() -> bool {
    let tools = ["etcd", "ip"].into_iter().filter(|tool| !on_path(tool)).map(str::to_owned);
    let binaries = MEMBERS[1..]
        .iter()
        .map(|name| binary(name))
        .filter(|path| !path.exists())
        .map(|path| path.display().to_string());
    let missing: Vec<String> = tools.chain(binaries).collect();
    if missing.is_empty() {
        return can_run();
    }
    assert!(std::env::var_os("E2E_REQUIRED").is_none(), "missing: {}", missing.join(", "));
    eprintln!("SKIP: missing: {}", missing.join(", "));
    false
}

/// A cluster of one process per component, with a registry beside it. Dropping it takes everything down.
pub struct SeparateCluster {
    directory: TempDir,
    registry: Registry,
    port: u16,
    etcd_port: u16,
    members: BTreeMap<&'static str, Member>,
    /// Whether there are second ones.
    is_doubled: bool,
    // Last: goes away when nothing uses it any more.
    _network: Network,
}

impl SeparateCluster {
    /// Starts every member and waits until the node is Ready.
    pub fn up() -> Self {
        Self::of(&[])
    }

    /// The same with [`SECONDS`]. Whoever leads gives up within 4 s, and others take over after 6 s.
    pub fn doubled() -> Self {
        Self::of(&SECONDS)
    }

    fn of(seconds: &[&'static str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let registry = Registry::start(directory.path());
        let mut cluster = Self {
            port: free_port(),
            etcd_port: free_port(),
            members: BTreeMap::new(),
            is_doubled: !seconds.is_empty(),
            registry,
            _network: Network::make(),
            directory,
        };
        cluster.make_certificates();
        let names = || MEMBERS.iter().chain(seconds).copied();
        cluster.members = names().map(|name| (name, cluster.describe(name))).collect();
        cluster.member("etcd").start();
        cluster.member("apiserver").start();
        cluster.wait_until_served();
        cluster.apply_addons();
        for name in names().skip(2) {
            cluster.member(name).start();
        }
        cluster.wait_for(&["nodes"], "{.items[*].status.conditions[?(@.type==\"Ready\")].status}", "True");
        cluster.wait_for(&["serviceaccount", "default"], "{.metadata.name}", "default");
        cluster
    }

    /// A member, by name.
    #[track_caller]
    pub fn member(&mut self, name: &str) -> &mut Member {
        self.members.get_mut(name).unwrap_or_else(|| panic!("{name:?} is no member"))
    }

    /// Waits until the API server says that it is ready.
    pub fn wait_until_served(&mut self) {
        eventually("the API server is ready", PATIENCE, || {
            self.member("apiserver").check_alive();
            self.kubectl(&["get", "--raw=/readyz"]).success.then_some(())
        });
    }

    /// Starts again the members that have ended by themselves, and says which.
    pub fn start_ended(&mut self) -> Vec<&'static str> {
        let ended = self.members.iter_mut().filter_map(|(name, member)| member.start_if_ended().then_some(*name));
        ended.collect()
    }

    /// Runs kubectl against it.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_command("admin", arguments).run()
    }

    /// The same by way of the second API server.
    pub fn kubectl_by_second(&self, arguments: &[&str]) -> Output {
        self.kubectl_command("admin-2", arguments).run()
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        self.kubectl_command("admin", &["apply", "-f", "-"]).output_with(manifest).ok();
    }

    /// Applies the samples of the repository, with the image of our registry.
    pub fn apply_samples(&self) {
        for file in ["samples/web.yaml", "samples/client.yaml"] {
            self.apply(&manifest(file).replace("busybox:1.36", &self.registry.image("busybox:1")));
        }
    }

    /// Waits until the value of a JSONPath of some objects is `wanted`.
    #[track_caller]
    pub fn wait_for(&mut self, objects: &[&str], path: &str, wanted: &str) {
        let output = format!("jsonpath={path}");
        let arguments = [&["get"], objects, &["-o", &output]].concat();
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.check_alive();
            let found = self.kubectl(&arguments);
            if found.success && found.stdout.trim() == wanted {
                return;
            }
            let last = format!("{}{}", found.stdout, found.stderr);
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {objects:?} {path} is {wanted:?}; last: {last}"
            );
        }
    }

    /// Waits until the client of the samples gets the page of the Service by its DNS name.
    #[track_caller]
    pub fn wait_until_answered(&mut self) {
        eventually("the Service answers by its name", PATIENCE, || {
            self.check_alive();
            let page = self.kubectl(&[
                "exec",
                "client",
                "--",
                "timeout",
                "5",
                "wget",
                "-q",
                "-O",
                "-",
                "http://web.default.svc.cluster.local/",
            ]);
            (page.stdout.trim() == "hello from the coracle").then_some(())
        });
    }

    /// The name of an image in the registry beside it.
    pub fn image(&self, name: &str) -> String {
        self.registry.image(name)
    }

    /// A directory that goes away with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The port of the API server.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn kubectl_command(&self, user: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig(user)).arg("--request-timeout=30s").args(arguments);
        // Discovery is cached below the home directory: another cluster's would mislead.
        command.env("HOME", self.directory()).env_remove("KUBECONFIG");
        command
    }

    /// The kubeconfig of a member, or of `admin`; those that end in `-2` lead to the second API server.
    pub fn kubeconfig(&self, member: &str) -> PathBuf {
        self.directory().join(format!("{member}.kubeconfig"))
    }

    fn make_certificates(&self) {
        let mut command = Command::new(binary("coracle"));
        command.arg("certificates").arg("--data-dir").arg(self.directory());
        command.arg(format!("--server=https://{NODE_IP}:{}", self.port));
        command.arg(format!("--node-name={NODE}")).arg(format!("--node-ip={NODE_IP}"));
        command.arg(format!("--service-cluster-ip-range={SERVICE_RANGE}"));
        command.arg(format!("--apiserver-cert-extra-sans={SECOND_IP}"));
        let output = command.run();
        assert!(output.ok().contains(&*self.kubeconfig("admin").to_string_lossy()), "{}", output.stdout);
        for user in ["admin", "controller-manager", "scheduler"] {
            let first = std::fs::read_to_string(self.kubeconfig(user)).expect("the kubeconfigs are there");
            let second = first.replace(&format!("//{NODE_IP}:"), &format!("//{SECOND_IP}:"));
            std::fs::write(self.kubeconfig(&format!("{user}-2")), second).expect("the directory is writable");
        }
    }

    fn apply_addons(&self) {
        self.apply(&manifest("network-policy.yaml"));
        let addons = manifest("dns.yaml");
        self.apply(
            &addons
                .replace("DNS_SERVICE_IP", DNS_SERVICE)
                .replace("DNS_SERVER_IP", NODE_IP)
                .replace("ADDRESS_FAMILY", "IPv4"),
        );
    }

    /// A member with its flags.
    fn describe(&self, name: &'static str) -> Member {
        let health_port = free_port();
        let program = name.trim_end_matches("-2");
        let mut flags = match program {
            "etcd" => {
                let flags = etcd::flags(&self.directory().join("etcd"), self.etcd_port);
                return Member::new(name, "etcd".into(), self.directory(), self.etcd_port, flags);
            }
            "apiserver" => self.apiserver_flags(if name == program { NODE_IP } else { SECOND_IP }),
            "controller-manager" => [self.controller_manager_flags(), self.leader_flags()].concat(),
            "scheduler" => self.leader_flags(),
            "kubelet" => self.kubelet_flags(),
            "proxy" => vec![
                format!("--hostname-override={NODE}"),
                format!("--cluster-cidr={CLUSTER_CIDR}"),
                format!("--table={PROXY_TABLE}"),
            ],
            "network-policy" => vec![
                format!("--hostname-override={NODE}"),
                format!("--bridge={BRIDGE}"),
                format!("--table={POLICY_TABLE}"),
            ],
            "dns" => vec![format!("--listen={NODE_IP}:53")],
            _ => Vec::new(),
        };
        if program != "apiserver" {
            flags.push(format!("--kubeconfig={}", self.kubeconfig(name).display()));
        }
        flags.push(format!("--healthz-port={health_port}"));
        Member::new(name, binary(program), self.directory(), health_port, flags)
    }

    fn apiserver_flags(&self, address: &str) -> Vec<String> {
        vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            "--allow-privileged=true".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            self.key("tls-cert-file", "apiserver.crt"),
            self.key("tls-private-key-file", "apiserver.key"),
            self.key("client-ca-file", "ca.crt"),
            self.key("service-account-key-file", "sa.pub"),
            self.key("service-account-signing-key-file", "sa.key"),
            self.key("kubelet-client-certificate", "apiserver-kubelet-client.crt"),
            self.key("kubelet-client-key", "apiserver-kubelet-client.key"),
            self.key("kubelet-certificate-authority", "ca.crt"),
        ]
    }

    fn leader_flags(&self) -> Vec<String> {
        let secure = ["--bind-address=127.0.0.1".to_owned(), format!("--secure-port={}", free_port())];
        let haste = HASTE.iter().filter(|_| self.is_doubled).map(|&flag| flag.to_owned());
        secure.into_iter().chain(haste).collect()
    }

    fn controller_manager_flags(&self) -> Vec<String> {
        let haste = self.is_doubled.then(|| NODE_HASTE.to_owned());
        let flags = vec![
            "--allocate-node-cidrs".to_owned(),
            format!("--cluster-cidr={CLUSTER_CIDR}"),
            self.key("root-ca-file", "ca.crt"),
            self.key("cluster-signing-cert-file", "ca.crt"),
            self.key("cluster-signing-key-file", "ca.key"),
            self.key("service-account-private-key-file", "sa.key"),
        ];
        flags.into_iter().chain(haste).collect()
    }

    fn kubelet_flags(&self) -> Vec<String> {
        let at = |flag: &str, directory: &str| format!("--{flag}={}", self.directory().join(directory).display());
        vec![
            format!("--hostname-override={NODE}"),
            format!("--node-ip={NODE_IP}"),
            format!("--address={NODE_IP}"),
            format!("--cluster-dns={DNS_SERVICE}"),
            format!("--cluster-cidr={CLUSTER_CIDR}"),
            format!("--bridge={BRIDGE}"),
            self.registry.flag(),
            at("root-dir", "kubelet"),
            at("pod-log-dir", "logs"),
            at("runtime-root", "runtime"),
            self.key("tls-cert-file", "kubelet-server.crt"),
            self.key("tls-private-key-file", "kubelet-server.key"),
            self.key("client-ca-file", "ca.crt"),
        ]
    }

    fn key(&self, flag: &str, file: &str) -> String {
        format!("--{flag}={}", self.directory().join("pki").join(file).display())
    }

    fn check_alive(&mut self) {
        self.members.values_mut().for_each(Member::check_alive);
    }

    /// Stops the pods, which a kubelet leaves running.
    fn stop_pods(&self) {
        let mut command = Command::new(binary("coracle"));
        let command = command
            .args(["stop-pods", "--remove", "--grace-period=1", "--bridge", BRIDGE, "--runtime-root"])
            .arg(self.directory().join("runtime"))
            .arg("--kubelet-root")
            .arg(self.directory().join("kubelet"));
        let output = command.run();
        if !output.success {
            eprintln!("{}: {}", output.command, output.stderr);
        }
    }

    /// What the cluster looks like, for messages of failed tests.
    pub fn state(&self) -> String {
        let objects = self.kubectl(&["get", "nodes,pods,deploy,rs,services,endpointslices,events", "-A", "-o", "wide"]);
        let logs: String = self.members.values().map(Member::log).collect();
        format!("{}{}\n{logs}", objects.stdout, objects.stderr)
    }
}

impl Drop for SeparateCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.state());
        }
        self.members.clear();
        self.stop_pods();
    }
}

fn manifest(file: &str) -> String {
    std::fs::read_to_string(workspace().join("manifests").join(file)).expect("the manifests are there")
}
