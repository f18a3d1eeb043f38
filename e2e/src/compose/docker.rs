//! Where the suite's Docker is: this machine's own, or one that the suite starts in namespaces of its own. In those it
//! changes nothing of the machine's network, and whatever it has started ends with the test, however that ends.
//!
//! ```text
//! test -> unshare (dies with the test) -> the same test again, process 1 of its namespaces -> dockerd -> containers
//! ```

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{Output, Run as _};
use crate::{on_path, target, workspace};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Says to the test that it is in namespaces of its own.
const APART: &str = "CORACLE_E2E_APART";
/// What a Docker of one's own needs.
const TOOLS: [&str; 7] = ["dockerd", "containerd", "runc", "docker-init", "iptables", "unshare", "setpriv"];
/// The namespaces of a Docker of one's own.
const NAMESPACES: [&str; 6] = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// What a node of the cluster does to its container, and what Docker is to give for that.
const PROBE: [&str; 10] = [
    "run",
    "--rm",
    "--init",
    "--sysctl=net.ipv4.ip_forward=1",
    "--cap-add=SYS_ADMIN",
    "--cap-add=NET_ADMIN",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--tmpfs=/run",
    "coracle-probe",
];

/// Where the suite can run.
pub enum Place {
    /// Here: a daemon answers, which ends with this value where it is the suite's own.
    Here(Option<Daemon>),
    /// Not before namespaces have been made ([`run_apart`]).
    Apart,
    /// Nowhere, for this reason.
    Nowhere(String),
}

/// A Docker daemon of one's own; dropping it ends it.
pub struct Daemon(Child);

/// Runs a command of Docker's.
pub(super) fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).run()
}

/// Looks for a Docker that can run the cluster.
pub fn place() -> Place {
    if !on_path("docker") || !(on_path("docker-compose") || docker(&["compose", "version"]).success) {
        return Place::Nowhere("docker and docker-compose are not installed".to_owned());
    }
    if std::env::var_os(APART).is_some() {
        return match Daemon::start().and_then(|daemon| probe().map(|()| daemon)) {
            Ok(daemon) => Place::Here(Some(daemon)),
            Err(reason) => Place::Nowhere(reason),
        };
    }
    if docker(&["info"]).success {
        return probe().map_or_else(Place::Nowhere, |()| Place::Here(None));
    }
    let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !on_path(tool)).collect();
    if missing.is_empty() {
        return Place::Apart;
    }
    Place::Nowhere(format!(
        "no Docker daemon answers, and these are missing for one of our own: {}",
        missing.join(", ")
    ))
}

/// Runs a test of this binary again, in namespaces in which it can start a Docker of its own.
pub fn run_apart(test: &str) {
    let root = root();
    // What an earlier run left, if that was killed.
    let _nothing_there = std::fs::remove_dir_all(&root);
    std::fs::create_dir_all(&root).expect("the target folder is writable");
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(NAMESPACES)
        .arg(std::env::current_exe().expect("a test knows its own path"))
        .args(["--exact", test, "--nocapture"])
        .env(APART, "1")
        .env("DOCKER_HOST", format!("unix://{}", root.join("docker.sock").display()))
        .status()
        .expect("setpriv starts");
    let removed = std::fs::remove_dir_all(&root);
    remove_cgroups();
    assert!(status.success(), "{test} failed in its namespaces");
    removed.unwrap_or_else(|err| panic!("remove {}: {err}", root.display()));
}

/// Removes what Docker leaves of its cgroups; all of their processes have ended.
fn remove_cgroups() {
    let find =
        "find /sys/fs/cgroup -maxdepth 2 -type d -name coracle-e2e -exec find {} -depth -type d -exec rmdir {} + ';'";
    // What stays is empty, and in nobody's way.
    let _left = Command::new("sh").args(["-c", find]).run();
}

/// Everything that a Docker of one's own has on disk.
fn root() -> PathBuf {
    target().join("e2e-docker")
}

impl Daemon {
    fn start() -> Result<Self, String> {
        let root = root();
        let log = File::create(root.join("dockerd.log")).map_err(|err| err.to_string())?;
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).run();
        if !up.success {
            return Err(format!("no loopback of our own: {}", up.stderr.trim()));
        }
        let at = |flag: &str, name: &str| format!("--{flag}={}", root.join(name).display());
        let child = Command::new("dockerd")
            .arg(format!("--host=unix://{}", root.join("docker.sock").display()))
            .args([at("data-root", "data"), at("exec-root", "run"), at("pidfile", "docker.pid")])
            // Others copy the whole image for each container.
            .args(["--storage-driver=overlay2", "--cgroup-parent=/coracle-e2e"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|err| err.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|err| format!("dockerd: {err}"))?;
        let mut daemon = Self(child);
        daemon.wait_until_it_answers()?;
        Ok(daemon)
    }

    fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !docker(&["info"]).success {
            let ended = self.0.try_wait().map_err(|err| err.to_string())?;
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(root().join("dockerd.log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                return Err(format!("the Docker daemon does not start here: {}", last.join("; ")));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It ends with its namespaces at the latest.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Whether Docker can run what the nodes are: some kernels and some rights do not go so far.
fn probe() -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|err| err.to_string())?;
    let archive = directory.path().join("probe.tar");
    Command::new(workspace().join("manifests/busybox-image")).arg(&archive).arg("coracle-probe:latest").run().ok();
    docker(&["load", "--input", &archive.to_string_lossy()]).ok();
    let script = "umount /proc/sys && mkdir /run/a /run/b /run/c /run/d && \
                  mount -t overlay -o lowerdir=/run/a,upperdir=/run/b,workdir=/run/c overlay /run/d && \
                  ip link add probe type bridge";
    let ran = docker(&[&PROBE[..], &["sh", "-c", script]].concat());
    docker(&["rmi", "coracle-probe"]).ok();
    if ran.success { Ok(()) } else { Err(format!("Docker cannot run nodes here: {}", ran.stderr.trim())) }
}
