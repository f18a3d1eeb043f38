//! Making and taking down a pod's sandbox.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::mount::{MountFlags, UnmountFlags};

use super::program::Sealed;
use super::shim_client;
use super::{Sandbox, Shared, blocking, ignore_missing};
use crate::disk::{self, io_error};
use crate::wire::{Request, ShimConfig};
use crate::{DnsConfig, Error, Event, IdMap, NamespaceOptions, Resources, SandboxConfig, SandboxStatus, sysctl};

/// Ids that are the node's own: no user namespace has them.
const NODE_IDS: u32 = 65_536;

/// A pod's `/dev/shm`, which belongs to its root.
fn shm_options(users: Option<IdMap>) -> CString {
    let root = users.map_or(0, |map| map.host);
    CString::new(format!("mode=1777,size=65536k,uid={root},gid={root}")).expect("numbers have no NUL")
}

impl Shared {
    pub(super) async fn run_sandbox(self: &Arc<Self>, config: &SandboxConfig) -> Result<SandboxStatus, Error> {
        check_users(config.namespaces)?;
        config.sysctls.keys().try_for_each(|name| sysctl::check(name, config.namespaces))?;
        let id = disk::random_id();
        match self.make_sandbox(&id, config).await {
            Ok(sandbox) => Ok(sandbox.status),
            Err(err) => {
                // What was made is taken down again; the first error is the one that tells.
                if let Err(err) = self.clear_sandbox(&id, &cgroup_path(&id, config)).await {
                    tracing::warn!(
                        sandbox = id,
                        error = &err as &dyn std::error::Error,
                        "failed to take down a sandbox"
                    );
                }
                Err(err)
            }
        }
    }

    async fn make_sandbox(self: &Arc<Self>, id: &str, config: &SandboxConfig) -> Result<Sandbox, Error> {
        let mut sandbox = Sandbox {
            status: SandboxStatus {
                id: id.to_owned(),
                config: config.clone(),
                ready: false,
                created_at: SystemTime::now(),
                ips: Vec::new(),
            },
            shim_pid: 0,
            boot: super::boot_id()?,
            cgroup: cgroup_path(id, config),
        };
        let directory = self.sandbox_directory(id);
        std::fs::create_dir_all(&directory).map_err(io_error("make", &directory))?;
        // If this process dies now, the next one knows what to take down.
        self.save_sandbox(&sandbox)?;
        let (shared, name, wanted) = (self.clone(), id.to_owned(), config.clone());
        let shim_pid = blocking(move || shared.prepare_sandbox(&name, &wanted)).await?;
        if !config.namespaces.host_network {
            let namespace = network_namespace(shim_pid)?;
            sandbox.status.ips = self.network.connect(id, namespace, config).await?;
        }
        (sandbox.status.ready, sandbox.shim_pid) = (true, shim_pid);
        self.save_sandbox(&sandbox)?;
        self.lock().sandboxes.insert(id.to_owned(), sandbox.clone());
        self.watch(id).await?;
        Ok(sandbox)
    }

    /// Everything but the network; returns the shim's process id. Blocks.
    fn prepare_sandbox(&self, id: &str, config: &SandboxConfig) -> Result<u32, Error> {
        let directory = self.sandbox_directory(id);
        let containers = directory.join("containers");
        std::fs::create_dir_all(&containers).map_err(io_error("make", &containers))?;
        write_name_files(&directory, config)?;
        self.cgroups.create_pod(&cgroup_path(id, config), &config.resources, &config.node_limits)?;
        self.mount_shm(id, config)?;
        let namespaces = config.namespaces;
        let shim = ShimConfig {
            socket: self.socket(id),
            hostname: (!namespaces.host_network).then(|| hostname(config).to_owned()),
            new_network: !namespaces.host_network,
            new_ipc: !namespaces.host_ipc,
            shared_pid: namespaces.shared_pid && !namespaces.host_pid,
            users: namespaces.users,
            sysctls: config.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            directory,
        };
        let arguments = self.config.shim.get(1..).unwrap_or_default();
        shim_client::spawn(&*self.shim_program()?, arguments, &format!("{}/{}", config.namespace, config.name), &shim)
    }

    /// The shim's program, taken hold of when it is first needed.
    fn shim_program(&self) -> Result<Arc<Sealed>, Error> {
        let mut held = self.shim_program.lock().expect("no panic under this lock");
        if let Some(program) = &*held {
            return Ok(program.clone());
        }
        let path = self.config.shim.first();
        let path = path.ok_or_else(|| Error::Shim { reason: "no shim command is configured".to_owned() })?;
        Ok(held.insert(Arc::new(Sealed::open(Path::new(path))?)).clone())
    }

    /// The cgroup with its limits and the shared memory of a pod, where somebody removed them since it was made. Blocks.
    pub(super) fn restore_sandbox(&self, sandbox: &Sandbox) -> Result<(), Error> {
        let config = &sandbox.status.config;
        if !self.cgroups.is_whole(&sandbox.cgroup) {
            tracing::warn!(pod = config.name, "the pod's cgroup was removed from outside: it is made again");
            self.cgroups.create(&sandbox.cgroup, &config.resources)?;
        }
        self.mount_shm(&sandbox.status.id, config)
    }

    /// Mounts a pod's `/dev/shm`, unless it is the node's or mounted already. Blocks.
    fn mount_shm(&self, id: &str, config: &SandboxConfig) -> Result<(), Error> {
        if config.namespaces.host_ipc {
            return Ok(());
        }
        let shm = self.shm(id);
        std::fs::create_dir_all(&shm).map_err(io_error("make", &shm))?;
        let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).map_err(io_error("look at", path));
        if shm.parent().map(device).transpose()? != Some(device(&shm)?) {
            return Ok(());
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let options = shm_options(config.namespaces.users);
        let mounted = rustix::mount::mount("shm", &shm, "tmpfs", flags, options.as_c_str());
        mounted.map_err(|err| io_error("mount", &shm)(err.into()))
    }

    /// Limits the pod's cgroup anew; should it have to be made again, then with these limits. Blocks.
    pub(super) fn update_sandbox(&self, id: &str, resources: &Resources) -> Result<(), Error> {
        self.cgroups.limit(&self.sandbox(id)?.cgroup, resources)?;
        let changed = {
            let mut state = self.lock();
            let sandbox = state.sandboxes.get_mut(id);
            let sandbox = sandbox.ok_or_else(|| Error::NotFound { what: "sandbox", id: id.to_owned() })?;
            sandbox.status.config.resources.update(resources);
            sandbox.clone()
        };
        self.save_sandbox(&changed)
    }

    pub(super) async fn stop_sandbox(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let Ok(mut sandbox) = self.sandbox(id) else { return Ok(()) };
        if sandbox.shim_pid != 0 || self.socket(id).exists() {
            self.end_shim(id).await?;
        }
        self.network.disconnect(id).await?;
        let (shared, name) = (self.clone(), id.to_owned());
        blocking(move || shared.unmount_shm(&name)).await?;
        (sandbox.status.ready, sandbox.shim_pid) = (false, 0);
        self.save_sandbox(&sandbox)?;
        self.lock().sandboxes.insert(id.to_owned(), sandbox);
        Ok(())
    }

    /// Ends a shim and with it every process of the pod.
    async fn end_shim(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        if let Some(sandbox) = self.lock().sandboxes.get_mut(id) {
            // The monitor now takes the shim's end as wanted.
            sandbox.status.ready = false;
        }
        match self.shim(id).order(Request::Shutdown).await {
            Ok(()) => {}
            // It is gone already, and its containers with it.
            Err(Error::Shim { reason }) => tracing::debug!(sandbox = id, reason, "the shim did not answer"),
            Err(err) => return Err(err),
        }
        self.settle_containers(id);
        Ok(())
    }

    fn unmount_shm(&self, id: &str) -> Result<(), Error> {
        let shm = self.shm(id);
        match rustix::mount::unmount(&shm, UnmountFlags::DETACH) {
            // Not there, or not mounted.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {}
            Err(err) => return Err(io_error("unmount", &shm)(err.into())),
        }
        ignore_missing(std::fs::remove_dir(&shm)).map_err(io_error("remove", &shm))?;
        let socket = self.socket(id);
        ignore_missing(std::fs::remove_file(&socket)).map_err(io_error("remove", &socket))
    }

    pub(super) async fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        self.stop_sandbox(id).await?;
        let containers: Vec<String> = {
            let state = self.lock();
            let ours = state.containers.values().filter(|container| container.status.sandbox == id);
            ours.map(|container| container.status.id.clone()).collect()
        };
        for container in containers {
            self.remove_container(&container).await?;
        }
        self.clear_sandbox(id, &sandbox.cgroup).await?;
        self.lock().sandboxes.remove(id);
        Ok(())
    }

    /// Removes whatever there is of a sandbox, in whatever state.
    pub(super) async fn clear_sandbox(self: &Arc<Self>, id: &str, cgroup: &str) -> Result<(), Error> {
        if self.socket(id).exists()
            && let Err(err) = self.shim(id).order(Request::Shutdown).await
        {
            tracing::debug!(sandbox = id, error = &err as &dyn std::error::Error, "the shim did not answer");
        }
        self.network.disconnect(id).await?;
        let (shared, id, cgroup) = (self.clone(), id.to_owned(), cgroup.to_owned());
        blocking(move || {
            shared.unmount_shm(&id)?;
            shared.cgroups.remove(&cgroup)?;
            let directory = shared.sandbox_directory(&id);
            disk::remove(&directory)
        })
        .await
    }

    /// Marks a sandbox whose shim ended by itself.
    pub(super) fn lose_sandbox(&self, id: &str) {
        self.settle_containers(id);
        let lost = {
            let mut state = self.lock();
            let Some(sandbox) = state.sandboxes.get_mut(id) else { return };
            let was_ready = std::mem::replace(&mut sandbox.status.ready, false);
            sandbox.shim_pid = 0;
            was_ready.then(|| sandbox.clone())
        };
        let Some(sandbox) = lost else { return };
        if let Err(err) = self.save_sandbox(&sandbox) {
            tracing::warn!(sandbox = id, error = &err as &dyn std::error::Error, "failed to save a sandbox");
        }
        self.publish(Event::SandboxExited { sandbox: id.to_owned() });
    }
}

/// The pod's cgroup; a pod that names none gets one of its own.
fn cgroup_path(id: &str, config: &SandboxConfig) -> String {
    let given = config.cgroup_parent.trim_matches('/');
    if given.is_empty() { format!("coracle/{id}") } else { given.to_owned() }
}

/// Refuses user namespaces that would be none, or would have rights over namespaces of the node.
fn check_users(namespaces: NamespaceOptions) -> Result<(), Error> {
    let Some(map) = namespaces.users else { return Ok(()) };
    let refused = |reason: &str| Err(Error::Invalid { field: "hostUsers", reason: reason.to_owned() });
    if namespaces.host_network || namespaces.host_pid || namespaces.host_ipc {
        return refused("a pod with a user namespace shares no namespace of the node");
    }
    if map.host < NODE_IDS || map.length < NODE_IDS || map.host.checked_add(map.length).is_none() {
        return refused("a user namespace needs 65536 ids that are not the node's own");
    }
    Ok(())
}

fn hostname(config: &SandboxConfig) -> &str {
    if config.hostname.is_empty() { &config.name } else { &config.hostname }
}

/// Opens the network namespace that a shim lives in.
fn network_namespace(pid: u32) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{pid}/ns/net");
    File::open(&path).map(OwnedFd::from).map_err(io_error("open", Path::new(&path)))
}

/// Writes what the pod's containers see as `/etc/hostname` and `/etc/resolv.conf`.
fn write_name_files(directory: &Path, config: &SandboxConfig) -> Result<(), Error> {
    let write = |name: &str, text: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(io_error("write", &path))
    };
    write("hostname", format!("{}\n", hostname(config)).as_bytes())?;
    match &config.dns {
        Some(dns) => write("resolv.conf", resolv_conf(dns).as_bytes()),
        None => {
            let host = Path::new("/etc/resolv.conf");
            // A node without one has nothing to say.
            let text = std::fs::read(host).unwrap_or_default();
            write("resolv.conf", &text)
        }
    }
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_has_ids_of_its_own_and_nothing_of_the_node() {
        let pod = |host, length| NamespaceOptions { users: Some(IdMap { host, length }), ..Default::default() };
        assert!(check_users(pod(65_536, 65_536)).is_ok() && check_users(NamespaceOptions::default()).is_ok());
        for (host, length) in [(0, 65_536), (65_535, 65_536), (65_536, 1), (u32::MAX, 65_536)] {
            assert!(check_users(pod(host, length)).is_err(), "{host} {length}");
        }
        let good = pod(65_536, 65_536);
        assert!(check_users(NamespaceOptions { host_network: true, ..good }).is_err());
        assert!(check_users(NamespaceOptions { host_pid: true, ..good }).is_err());
        assert!(check_users(NamespaceOptions { host_ipc: true, ..good }).is_err());
    }

    #[test]
    fn resolv_conf_is_laid_out_as_the_kubelets() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        let dns = DnsConfig { servers: words("10.96.0.10"), searches: words("a.svc svc"), options: words("ndots:5") };
        assert_eq!(resolv_conf(&dns), "search a.svc svc\nnameserver 10.96.0.10\noptions ndots:5\n");
    }
}
