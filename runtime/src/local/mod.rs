//! The runtime of this node: pods as real processes in real namespaces and cgroups (upstream: containerd's CRI plugin).
//!
//! Everything that must outlast this process is on disk or in the shims:
//!
//! ```text
//! <root>/images.json, layers/<chain>          images (image::Store)
//! <root>/network/leases.json, leases6.json    addresses (network)
//! <root>/network/cni/<id>.json                pods that plugins connected (network::cni)
//! <root>/sandboxes/<id>/sandbox.json          what was asked for, where its shim is
//! <root>/sandboxes/<id>/containers/<id>/      container.json, exit.json (by the shim), upper, work
//! <root>/lock                                 held by the process that has all this open
//! <run>/<id>.sock, <run>/shm/<id>             a shim's socket, a pod's /dev/shm
//! <run>/netns/<id>                            its network namespace, if plugins connected it
//! ```
//! State in memory is a copy of that; [`LocalRuntime::open`] makes it again.

mod containers;
mod monitor;
mod program;
mod recovery;
mod runtime;
mod sandboxes;
mod shim_client;
mod spec;
mod streams;
mod unlinked;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use crate::cgroup::Cgroups;
use crate::disk::io_error;
use crate::image::{Registry, Store};
use crate::network::Network;
use crate::{ContainerStatus, Error, Event, SandboxStatus, SyscallPolicy};
use shim_client::Shim;

pub use crate::network::{CniConfig, NetworkConfig};

/// Events that a slow reader may fall behind before it gets [`Event::Resync`].
const EVENT_BACKLOG: usize = 4096;

/// Longer than servers and runtimes take to start.
pub const SYSCALL_QUIET: Duration = Duration::from_secs(60);

/// This program, also when its file has been replaced meanwhile.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Where the runtime keeps what, and what sets it apart from another one on the same machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// State that survives a reboot.
    pub root: PathBuf,
    /// Sockets and mounts, gone after a reboot.
    pub run: PathBuf,
    /// The command that is a shim: the path of its program, and arguments; the pod's name is added to them.
    pub shim: Vec<String>,
    /// Registries (`host[:port]`) that are spoken to without TLS, and that may be on the node itself; no other one may.
    pub insecure_registries: Vec<String>,
    pub network: NetworkConfig,
    /// What is done about system calls that containers have little reason for; a pod may ask for more, by its annotation
    /// [`SYSCALL_POLICY`](crate::SYSCALL_POLICY).
    pub syscall_policy: SyscallPolicy,
    /// How long a process or a container runs without such a call until one is unusual.
    pub syscall_quiet: Duration,
}

impl Config {
    /// The usual places, with this very program as the shim. Fails where `/proc` does not show it.
    pub fn new() -> Result<Self, Error> {
        let program = PathBuf::from(OWN_PROGRAM);
        program.metadata().map_err(io_error("find this program by", &program))?;
        Ok(Self {
            root: PathBuf::from("/var/lib/coracle/runtime"),
            run: PathBuf::from("/run/coracle"),
            shim: vec![OWN_PROGRAM.to_owned(), "shim".to_owned()],
            insecure_registries: Vec::new(),
            network: NetworkConfig::default(),
            syscall_policy: SyscallPolicy::default(),
            syscall_quiet: SYSCALL_QUIET,
        })
    }
}

/// The runtime. Clones share one state; dropping the last leaves containers running.
#[derive(Clone)]
pub struct LocalRuntime {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    cgroups: Cgroups,
    images: Arc<Store>,
    registry: Registry,
    network: Arc<Network>,
    /// The names of bridge and table; none where only images are worked with.
    _claim: Option<host::Claim>,
    _root: host::FolderLock,
    state: Mutex<State>,
    shim_program: Mutex<Option<Arc<program::Sealed>>>,
    events: broadcast::Sender<Event>,
    /// One per living shim; they end with this.
    monitors: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, Container>,
}

/// A sandbox, as on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sandbox {
    status: SandboxStatus,
    /// 0 once it has ended.
    shim_pid: u32,
    /// A boot later the shim is gone and its process id means nothing.
    boot: String,
    cgroup: String,
}

/// A container, as on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Container {
    status: ContainerStatus,
    cgroup: String,
    stop_signal: i32,
    tty: bool,
    stdin: bool,
    layers: Vec<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    fn sandbox_directory(&self, id: &str) -> PathBuf {
        self.config.root.join("sandboxes").join(id)
    }

    fn container_directory(&self, sandbox: &str, id: &str) -> PathBuf {
        self.sandbox_directory(sandbox).join("containers").join(id)
    }

    fn socket(&self, sandbox: &str) -> PathBuf {
        self.config.run.join(format!("{sandbox}.sock"))
    }

    fn shm(&self, sandbox: &str) -> PathBuf {
        self.config.run.join("shm").join(sandbox)
    }

    fn shim(&self, sandbox: &str) -> Shim {
        Shim::at(&self.socket(sandbox))
    }

    fn sandbox(&self, id: &str) -> Result<Sandbox, Error> {
        let found = self.lock().sandboxes.get(id).cloned();
        found.ok_or_else(|| Error::NotFound { what: "sandbox", id: id.to_owned() })
    }

    fn container(&self, id: &str) -> Result<Container, Error> {
        let found = self.lock().containers.get(id).cloned();
        found.ok_or_else(|| Error::NotFound { what: "container", id: id.to_owned() })
    }

    fn publish(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    fn save_sandbox(&self, sandbox: &Sandbox) -> Result<(), Error> {
        let path = self.sandbox_directory(&sandbox.status.id).join("sandbox.json");
        crate::disk::write_json(&path, sandbox)
    }

    fn save_container(&self, container: &Container) -> Result<(), Error> {
        let status = &container.status;
        let path = self.container_directory(&status.sandbox, &status.id).join("container.json");
        crate::disk::write_json(&path, container)
    }
}

/// Runs something that waits for the disk or a socket where it may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(err) => std::panic::resume_unwind(err.into_panic()),
    }
}

fn ignore_missing(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Identifies this boot of the machine.
fn boot_id() -> Result<String, Error> {
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    Ok(std::fs::read_to_string(&path).map_err(io_error("read", &path))?.trim().to_owned())
}

/// The end of a container that nobody saw.
fn unknown_exit(started_at: Option<SystemTime>, message: &str) -> crate::Exit {
    crate::Exit {
        code: 137,
        signal: None,
        started_at,
        finished_at: SystemTime::now(),
        reason: "ContainerStatusUnknown".to_owned(),
        message: message.to_owned(),
    }
}
