//! Opening: everything that an earlier process left is taken up, or taken down.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::{Config, Container, EVENT_BACKLOG, LocalRuntime, Sandbox, Shared, State, blocking, boot_id};
use crate::cgroup::Cgroups;
use crate::disk::{self, io_error};
use crate::image::{Registry, Store};
use crate::network::{HostPorts, Network};
use crate::{ContainerState, Error, shim};

impl LocalRuntime {
    /// Opens the runtime. Pods whose shims live go on as if nothing had happened; what ended meanwhile has its exit.
    /// Fails where another process has its directory, or a bridge, table or address of its network.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let runtime = Self::open_with(config, true).await?;
        let keep = runtime.shared.network.keep().await?;
        runtime.shared.monitors.lock().expect("no panic under this lock").spawn(keep);
        runtime.shared.reconnect().await?;
        Ok(runtime)
    }

    /// Opens the runtime for work on images only, when nobody else has it open: leaves pods and network alone.
    pub async fn open_for_images(config: Config) -> Result<Self, Error> {
        Self::open_with(config, false).await
    }

    async fn open_with(config: Config, with_network: bool) -> Result<Self, Error> {
        let load = move || {
            let mut shared = make(config)?;
            if with_network {
                shared._claim = Some(shared.network.claim()?);
            }
            shared.load()?;
            Ok(Self { shared: Arc::new(shared) })
        };
        blocking(load).await
    }
}

fn make(config: Config) -> Result<Shared, Error> {
    let config = absolute(config)?;
    // Layers and containers hold setuid programs and device nodes of strangers, and what pods write; sockets lead to
    // shims: no other user of the node may reach them.
    for private in [config.root.clone(), config.root.join("sandboxes"), config.run.clone(), config.run.join("shm")] {
        disk::make_private(&private)?;
    }
    let in_use = |holder| Error::InUse { path: config.root.clone(), holder };
    let root = host::FolderLock::take(&config.root).map_err(|err| Error::Claim { source: Box::new(err) })?;
    let root = root.map_err(in_use)?;
    Ok(Shared {
        _root: root,
        _claim: None,
        cgroups: Cgroups::detect()?,
        images: Arc::new(Store::open(config.root.clone())?),
        registry: Registry::new(config.insecure_registries.clone()),
        network: Arc::new(Network::open(config.network.clone(), config.root.join("network"), &config.run)?),
        state: Mutex::new(State::default()),
        shim_program: Mutex::new(None),
        events: broadcast::Sender::new(EVENT_BACKLOG),
        monitors: Mutex::new(JoinSet::new()),
        config,
    })
}

/// The same places, wherever a process stands: shims work in other directories than this one.
fn absolute(config: Config) -> Result<Config, Error> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(io_error("make absolute", path));
    Ok(Config { root: absolute(&config.root)?, run: absolute(&config.run)?, ..config })
}

impl Shared {
    /// Reads what is on disk. Blocks.
    fn load(&self) -> Result<(), Error> {
        let boot = boot_id()?;
        for id in names(&self.config.root.join("sandboxes"))? {
            let directory = self.sandbox_directory(&id);
            let Some(mut sandbox) = disk::read_json::<Sandbox>(&directory.join("sandbox.json"))? else {
                // Its maker got no further than the directory.
                disk::remove(&directory)?;
                continue;
            };
            if sandbox.boot != boot {
                (sandbox.status.ready, sandbox.shim_pid) = (false, 0);
            }
            for container in names(&directory.join("containers"))? {
                self.load_container(&id, &container)?;
            }
            self.lock().sandboxes.insert(id, sandbox);
        }
        Ok(())
    }

    fn load_container(&self, sandbox: &str, id: &str) -> Result<(), Error> {
        let directory = self.container_directory(sandbox, id);
        let Some(mut container) = disk::read_json::<Container>(&directory.join("container.json"))? else {
            return disk::remove(&directory);
        };
        if let Some(exit) = shim::read_exit(&directory) {
            container.status.state = ContainerState::Exited(exit);
        }
        self.lock().containers.insert(id.to_owned(), container);
        Ok(())
    }

    /// Listens to the shims that live, and settles what the others left.
    async fn reconnect(self: &Arc<Self>) -> Result<(), Error> {
        let sandboxes: Vec<Sandbox> = self.lock().sandboxes.values().cloned().collect();
        let mut living = BTreeMap::new();
        for sandbox in sandboxes {
            let id = &sandbox.status.id;
            if sandbox.status.ready && self.watch(id).await.is_ok() {
                let ports = HostPorts::of(&sandbox.status.ips, &sandbox.status.config.port_mappings);
                living.insert(id.clone(), ports);
            } else if sandbox.status.ready {
                tracing::warn!(sandbox = id, pod = sandbox.status.config.name, "the shim is gone");
                self.lose_sandbox(id);
            } else {
                self.settle_containers(id);
            }
        }
        self.network.restore(living).await
    }
}

fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match std::fs::read_dir(directory) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("read", directory))?,
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.map_err(io_error("read", directory))?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}
