//! The node agent: pod workers, probes, volumes, status, node lease and the streaming server (upstream: pkg/kubelet).
//!
//! Invariant: it may be killed and started again at any moment; running containers do not notice.
#![forbid(unsafe_code)]

mod admission;
mod backoff;
pub mod certificates;
mod changes;
mod config;
mod containers;
mod context;
mod csi;
mod ending;
mod exits;
mod failure;
mod files;
pub mod fuzzing;
mod handlers;
mod hollow;
pub mod node;
mod plugins;
mod pod;
mod pods;
mod reclaim;
mod references;
mod resources;
mod rpc;
mod sandbox;
pub mod server;
mod signals;
pub mod volumes;
mod watched_calls;

pub use config::command::Command;
pub use config::evictions::{Rules as EvictionRules, Written as Evictions};
pub use config::tuning::Tuning;
pub use config::{Args, Config};
pub use containers::labels::recorded_grace;
pub use ending::{Ending, Limits, Progress};
pub use sandbox::sysctls::Allowlist;
pub use server::Tls;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use client::{Informers, Recorder};
use k8s_openapi::api::core::v1::Node;
use tokio::sync::{Semaphore, watch};

use context::Context;
use csi::Csi;
use node::{NodeKeeper, machine};
use pods::{Manager, Pods, statics};
use references::Objects;
use sandbox::pod_dns::{self, ClusterDns};
use sandbox::user_ids::UserIds;

/// Why the kubelet ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its directory cannot be made; it says which.
    #[error("create {path}")]
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// Its server cannot start.
    #[error("kubelet server")]
    Server(#[from] server::Error),
    /// One of its tasks ended before it was asked to.
    #[error("{0:#}")]
    Task(anyhow::Error),
}

/// Runs the node agent until `process.shutdown`; containers go on running after that.
pub async fn run(mut config: Config, client: kube::Client, process: daemon::Process) -> Result<(), Error> {
    for path in [&mut config.root_dir, &mut config.log_dir] {
        // Absolute, because containers mount what is below it.
        let made = std::fs::create_dir_all(&*path).and_then(|()| std::path::absolute(&*path));
        *path = made.map_err(|source| Error::Directory { path: path.clone(), source })?;
    }
    // Volumes hold what pods put there, setuid programs too: no other user of the node may reach them.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o750);
    let path = config.root_dir.clone();
    let prepared = std::fs::set_permissions(&path, private)
        .and_then(|()| if config.runtime.needs_mounts() { volumes::shared::share(&path) } else { Ok(()) });
    prepared.map_err(|source| Error::Directory { path, source })?;
    let informers = Informers::new(client.clone());
    let (network, network_ready) = watch::channel(false);
    let context = Arc::new(context(&config, client.clone(), &informers, network_ready));
    let pods = Pods::default();
    let pod_informer = informers.with_fields(&format!("spec.nodeName={}", config.node_name));
    let (static_pods, statics) = watch::channel(BTreeMap::new());
    let server = match config.server {
        Some(server) => Some(server::Server::bind(server, Arc::clone(&context), pods.clone()).await?),
        None => None,
    };
    let mut registration = config.registration;
    registration.port = server.as_ref().map_or(0, |server| i32::from(server.port()));
    let keeper = NodeKeeper::new(Arc::clone(&context), registration.clone(), network, config.ending.asked());
    let manager = Manager::new(Arc::clone(&context), pod_informer, statics, pods.clone(), registration.max_pods);

    let mut tasks = daemon::Supervisor::new(process.shutdown.clone());
    let (registered, mut is_registered) = watch::channel(false);
    tasks.add("informers", move |shutdown| async move { informers.run(shutdown).await });
    let recorder = context.recorder.clone();
    tasks.add("events", move |shutdown| async move { endless(recorder.run(shutdown)).await });
    tasks.add("node", move |shutdown| endless(keeper.run(registered, shutdown)));
    tasks.add("pods", move |shutdown| endless(manager.run(shutdown)));
    let (ending, ended) = (config.ending, pods.clone());
    tasks.add("end of pods", move |shutdown| endless(ending.run(ended, shutdown)));
    let collector = reclaim::Collector::new(Arc::clone(&context), pods.clone());
    tasks.add("garbage collection", move |shutdown| endless(collector.run(shutdown)));
    if !config.hollow {
        watch_machine(&mut tasks, &context, &pods, is_registered.clone());
    }
    if let Some(path) = config.static_pod_path {
        let watcher = statics::Watcher::new(path, Arc::clone(&context), static_pods);
        tasks.add("static pods", move |shutdown| watcher.run(shutdown));
    }
    for (name, keeper) in config.certificates.keepers(&client, &config.node_name, &config.node_ips) {
        tasks.add(name, move |shutdown| keeper.run(shutdown));
    }
    if let Some(server) = server {
        tasks.add("server", move |shutdown| endless(server.run(shutdown)));
    }
    let ready = process.ready.clone();
    tasks.add("readiness", move |shutdown| async move {
        let wait = is_registered.wait_for(|registered| *registered);
        tokio::select! {
            () = shutdown.cancelled() => {}
            Ok(_) = wait => ready.set(),
        }
        shutdown.cancelled().await;
        Ok::<_, Infallible>(())
    });
    tasks.run().await.map_err(Error::Task)
}

/// What a node has to do with the machine that it is: its disks and memory, and the drivers that run on it.
fn watch_machine(
    tasks: &mut daemon::Supervisor,
    context: &Arc<Context>,
    pods: &Pods,
    is_registered: watch::Receiver<bool>,
) {
    let monitor = reclaim::Monitor::new(Arc::clone(context), pods.clone());
    tasks.add("storage limits", move |shutdown| endless(monitor.run(shutdown)));
    let pressure = reclaim::Pressure::new(Arc::clone(context), pods.clone());
    tasks.add("evictions", move |shutdown| endless(pressure.run(shutdown)));
    let registrar = plugins::Registrar::new(&context.root_dir, Arc::clone(&context.csi));
    tasks.add("plugins", move |shutdown| registrar.run(is_registered, shutdown));
    let csi = Arc::clone(&context.csi);
    tasks.add("volumes of drivers", move |shutdown| endless(csi.keep_tidy(shutdown)));
}

async fn endless(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    Ok(())
}

fn context(config: &Config, client: kube::Client, informers: &Informers, network: watch::Receiver<bool>) -> Context {
    let host = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
    let node = informers.with_fields(&format!("metadata.name={}", config.node_name));
    let node_changed = watch::Sender::new(());
    let changed = node_changed.clone();
    node.on_event(move |_: &client::Event<Node>| changed.send_modify(|()| {}));
    Context {
        node_name: config.node_name.clone(),
        hollow: config.hollow,
        node_ips: config.node_ips.clone(),
        root_dir: config.root_dir.clone(),
        log_dir: config.log_dir.clone(),
        dns: ClusterDns {
            servers: config.cluster_dns.clone(),
            domain: config.cluster_domain.clone(),
            host: pod_dns::parse_resolv_conf(&host),
        },
        memory: machine::memory(),
        cgroup_root: config.cgroup_root.clone(),
        pids_limit: config.pod_pids_limit,
        node_pids_limit: resources::node_pids_limit(machine::most_processes(), &config.registration.reserved),
        allowed_sysctls: config.allowed_sysctls.clone(),
        runtime: Arc::clone(&config.runtime),
        recorder: Recorder::new(client.clone(), "kubelet").on_host(&config.node_name),
        objects: Arc::new(Objects::new(client.clone())),
        csi: Arc::new(Csi::new(client.clone(), &config.node_name, &config.root_dir)),
        node,
        node_changed,
        services: informers.of(),
        pull_turns: config.max_parallel_image_pulls.map(|number| Semaphore::new(number.max(1))),
        tuning: config.tuning.clone(),
        user_ids: Arc::new(UserIds::new(config.root_dir.join("pods"), config.registration.max_pods)),
        network,
        pressure: watch::Sender::default(),
        known_images: std::sync::RwLock::default(),
        watched: watched_calls::Counts::default(),
        exits: exits::Counts::default(),
        probed: Default::default(),
        client,
    }
}
