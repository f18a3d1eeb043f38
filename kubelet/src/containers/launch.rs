//! Brings one container from its spec to a running process: image, environment, mounts, create, start, postStart hook
//! (upstream: startContainer of pkg/kubelet/kuberuntime).
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod, VolumeMount};
use runtime::{ContainerConfig, ContainerId, Device, FileKind, Image, LogLimits, Mount, Propagation, SandboxStatus};
use tokio_util::sync::CancellationToken;

use crate::containers::environment::expand::{expand, expand_strict};
use crate::containers::images::Wanted;
use crate::containers::labels::{
    CONTAINER_NAME, GRACE, HASH_LABEL, MESSAGE_FILE, MESSAGE_POLICY, RESOURCES, container_hash, labels,
};
use crate::containers::{environment, images, security};
use crate::context::Context;
use crate::failure::Failure;
use crate::files::blocking;
use crate::handlers::hooks;
use crate::pods::observed;
use crate::references::References;
use crate::sandbox::pod_dns;
use crate::volumes::{Place, Places, subpath};
use crate::{pod, resources};

/// Everything a start needs; moved into its task.
pub(crate) struct Launch {
    /// What the node's workers share.
    pub(crate) context: Arc<Context>,
    /// The pod.
    pub(crate) pod: Arc<Pod>,
    /// The container's spec.
    pub(crate) container: Container,
    /// Where it will run.
    pub(crate) sandbox: SandboxStatus,
    /// Its attempt number: the restart count.
    pub(crate) attempt: u32,
    /// The pod's volumes.
    pub(crate) places: Arc<Places>,
    /// The pod's ConfigMaps and Secrets.
    pub(crate) references: Arc<References>,
    /// The words of the last failed pulls, by image, of those whose next pull waits.
    pub(crate) blocked: BTreeMap<String, String>,
    /// Cancelled when the pod is to stop: what is not created yet will not be.
    pub(crate) cancel: CancellationToken,
}

impl Launch {
    /// Starts the container and returns its id.
    pub(crate) async fn run(self) -> Result<String, Failure> {
        let cancelled = || Failure::new("ContainerCreating", "the pod is being stopped");
        let name = self.container.name.clone();
        let prepare = async {
            let image = self.image(Wanted::of(&self.container)).await?;
            for (_, volume) in self.image_volumes() {
                self.image(Wanted::of_volume(&self.container, volume)).await?;
            }
            let config = self.config(&image).await.inspect_err(|failure| self.failed(failure))?;
            Ok::<_, Failure>(config)
        };
        let config = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(cancelled()),
            config = prepare => config?,
        };
        let runtime = &self.context.runtime;
        let created = runtime.create_container(&self.sandbox.id, &config).await;
        let id = created
            .map_err(|err| Failure::by("CreateContainerError", &err))
            .inspect_err(|failure| self.failed(failure))?;
        self.context.container_event(&self.pod, &name, "Normal", "Created", "Container created".to_owned());
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        runtime
            .start_container(&id)
            .await
            .map_err(|err| Failure::by("RunContainerError", &err))
            .inspect_err(|failure| self.failed(failure))?;
        self.context.container_event(&self.pod, &name, "Normal", "Started", "Container started".to_owned());
        self.post_start(&id).await?;
        Ok(id)
    }

    async fn image(&self, wanted: Wanted<'_>) -> Result<Image, Failure> {
        let blocked = self.blocked.get(wanted.name).map(String::as_str);
        images::ensure(&self.context, &self.pod, &wanted, &self.references, blocked).await
    }

    /// The image volumes that the container mounts.
    fn image_volumes(&self) -> impl Iterator<Item = (&str, &ImageVolumeSource)> {
        let mounted = |name: &str| self.container.volume_mounts.iter().flatten().any(|mount| mount.name == name);
        let volumes = self.places.iter().filter_map(|(name, place)| Some((name.as_str(), place.image.as_ref()?)));
        volumes.filter(move |(name, _)| mounted(name))
    }

    fn failed(&self, failure: &Failure) {
        let message = format!("Error: {}", failure.message);
        self.context.container_event(&self.pod, &self.container.name, "Warning", "Failed", message);
    }

    async fn post_start(&self, id: &str) -> Result<(), Failure> {
        let hook = self.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let run = hooks::run(&self.context, &self.container, id, self.sandbox.ips.first().copied(), hook);
        let outcome = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Ok(()),
            outcome = run => outcome,
        };
        let Err(reason) = outcome else { return Ok(()) };
        let message = format!("PostStartHook failed: {reason}");
        self.context.container_event(
            &self.pod,
            &self.container.name,
            "Warning",
            "FailedPostStartHook",
            message.clone(),
        );
        let kill = "FailedPostStartHook".to_owned();
        self.context.container_event(&self.pod, &self.container.name, "Normal", "Killing", kill);
        let stopped = self.context.runtime.stop_container(id, pod::grace(&self.pod)).await;
        stopped.map_err(|err| Failure::new("PostStartHookError", format!("{message}; stopping it failed: {err}")))?;
        Err(Failure::new("PostStartHookError", message))
    }

    /// The runtime's view of the container.
    async fn config(&self, image: &Image) -> Result<ContainerConfig, Failure> {
        let wrong = |err: &dyn std::fmt::Display| Failure::new("CreateContainerConfigError", err);
        let container = &self.container;
        let security =
            security::resolve(&self.pod, container, &image.user, &self.context.root_dir).map_err(|err| wrong(&err))?;
        let env = self.environment().await.map_err(|err| wrong(&err))?;
        let values: BTreeMap<String, String> = env.iter().cloned().collect();
        let expanded =
            |words: &Option<Vec<String>>| words.iter().flatten().map(|word| expand(word, &values)).collect::<Vec<_>>();
        let mut mounts = self.mounts(&values).map_err(|err| wrong(&err))?;
        self.prepare_sub_paths(&mounts).await?;
        let message_file = self.own_files(&mut mounts).await.map_err(|err| wrong(&err))?;
        let process_target = self.process_target().await?;
        let policy = container.termination_message_policy.clone().unwrap_or_else(|| "File".to_owned());
        Ok(ContainerConfig {
            name: container.name.clone(),
            attempt: self.attempt,
            image: container.image.clone().unwrap_or_else(|| image.id.clone()),
            command: expanded(&container.command),
            args: expanded(&container.args),
            working_dir: container.working_dir.clone().unwrap_or_default(),
            env,
            mounts,
            devices: self.devices().map_err(|err| wrong(&err))?,
            labels: labels(&self.pod)
                .into_iter()
                .chain([
                    (CONTAINER_NAME.to_owned(), container.name.clone()),
                    (HASH_LABEL.to_owned(), container_hash(container)),
                ])
                .collect(),
            annotations: BTreeMap::from([
                (MESSAGE_FILE.to_owned(), message_file.to_string_lossy().into_owned()),
                (MESSAGE_POLICY.to_owned(), policy),
                (GRACE.to_owned(), pod::grace(&self.pod).as_secs().to_string()),
                (RESOURCES.to_owned(), serde_json::to_string(&container.resources).map_err(|err| wrong(&err))?),
            ]),
            log_path: PathBuf::from(&container.name).join(format!("{}.log", self.attempt)),
            log_limits: LogLimits { max_bytes: self.context.tuning.max_log, max_files: self.context.tuning.log_files },
            stdin: container.stdin.unwrap_or(false),
            stdin_once: container.stdin_once.unwrap_or(false),
            tty: container.tty.unwrap_or(false),
            resources: resources::container_resources(&self.pod, container, self.context.memory),
            security,
            process_target,
            stop_signal: container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
        })
    }

    /// The container whose processes an ephemeral container shall see.
    async fn process_target(&self) -> Result<Option<ContainerId>, Failure> {
        let Some(target) = pod::debug_target(&self.pod, &self.container.name) else { return Ok(None) };
        let containers = self.context.runtime.containers(Some(&self.sandbox.id)).await;
        let containers = containers.map_err(|err| Failure::by("CreateContainerError", &err))?;
        let found = containers.into_iter().find(|known| known.name == target && observed::is_running(known));
        let missing =
            || Failure::new("CreateContainerConfigError", format!("unable to find target container {target}"));
        found.map(|known| Some(known.id)).ok_or_else(missing)
    }

    async fn environment(&self) -> Result<Vec<(String, String)>, environment::Error> {
        self.context.services.synced().await;
        let services = self.context.services.list();
        let around = self.context.surroundings(self.pod_ips());
        let sources = environment::Sources {
            pod: &self.pod,
            around: &around,
            references: &self.references,
            services: &services,
            master_namespace: "default",
            volume: &|name: &str| self.places.get(name).map(|place| place.path.clone()),
        };
        environment::environment(&sources, &self.container).await
    }

    fn pod_ips(&self) -> Vec<IpAddr> {
        if pod::is_host_network(&self.pod) { self.context.node_ips.clone() } else { self.sandbox.ips.clone() }
    }

    fn mounts(&self, env: &BTreeMap<String, String>) -> std::io::Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for mount in self.container.volume_mounts.iter().flatten() {
            let invalid = |why: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
            let place = self
                .places
                .get(&mount.name)
                .ok_or_else(|| invalid(format!("cannot find volume {:?} to mount into container", mount.name)))?;
            if place.device {
                return Err(invalid(format!(
                    "volume {:?} has volumeMode Block, but is specified in volumeMounts",
                    mount.name
                )));
            }
            let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
                (_, Some(text)) if !text.is_empty() => Some(
                    expand_strict(text, env)
                        .map_err(|name| invalid(format!("subPathExpr refers to unset variable {name:?}")))?,
                ),
                (Some(text), _) if !text.is_empty() => Some(text.clone()),
                _ => None,
            };
            let sub_path = sub_path.as_deref().map(subpath::parse).transpose()?.flatten();
            mounts.push(as_mount(mount, place, sub_path));
        }
        Ok(mounts)
    }

    /// Makes what is missing of the sub-paths that are mounted. As upstream, a pod is not told what is wrong with one: that
    /// may tell what there is on the node.
    async fn prepare_sub_paths(&self, mounts: &[Mount]) -> Result<(), Failure> {
        for (named, mount) in self.container.volume_mounts.iter().flatten().zip(mounts) {
            let Some(sub_path) = mount.sub_path.clone().filter(|_| mount.image.is_none()) else { continue };
            let volume = mount.host_path.clone();
            if let Err(err) = blocking(move || subpath::prepare(&volume, &sub_path)).await {
                let (volume, container) = (&named.name, &self.container.name);
                tracing::warn!(pod = pod::uid(&self.pod), container, volume, error = %err, "a subPath cannot be mounted");
                let message =
                    format!("failed to prepare subPath for volumeMount {volume:?} of container {container:?}");
                return Err(Failure::new("CreateContainerConfigError", message));
            }
        }
        Ok(())
    }

    /// The block devices of the container.
    fn devices(&self) -> std::io::Result<Vec<Device>> {
        let devices = self.container.volume_devices.iter().flatten().map(|device| {
            let place = self.places.get(&device.name).filter(|place| place.device);
            let place = place.ok_or_else(|| {
                let why = format!("volume {:?} is specified in volumeDevices, but is no block device", device.name);
                std::io::Error::new(std::io::ErrorKind::InvalidInput, why)
            })?;
            Ok(Device {
                container_path: PathBuf::from(&device.device_path),
                host_path: place.path.clone(),
                permissions: if place.read_only { "rm" } else { "rwm" }.to_owned(),
            })
        });
        devices.collect()
    }

    /// `/etc/hosts` and the termination message file; returns the latter.
    async fn own_files(&self, mounts: &mut Vec<Mount>) -> std::io::Result<PathBuf> {
        let directory = self.context.pod_dir(pod::uid(&self.pod));
        let hosts = directory.join("etc-hosts");
        let message = directory.join("containers").join(&self.container.name).join(self.attempt.to_string());
        let domain = &self.context.dns.domain;
        let (hostname, qualified) = pod_dns::hostname(&self.pod, domain, &self.context.node_name);
        let (pod, ips) = (Arc::clone(&self.pod), self.sandbox.ips.clone());
        let (hosts_path, message_path) = (hosts.clone(), message.clone());
        blocking(move || {
            let node_hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            let text = pod_dns::hosts_file(&pod, &ips, &hostname, qualified.as_deref(), &node_hosts);
            for parent in [hosts_path.parent(), message_path.parent()].into_iter().flatten() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&hosts_path, text)?;
            std::fs::write(&message_path, [])?;
            let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            std::fs::set_permissions(&message_path, everyone)
        })
        .await?;
        let mounted = |path: &str| mounts.iter().any(|mount| mount.container_path.as_os_str() == path);
        let mut own = Vec::new();
        if !mounted("/etc/hosts") {
            own.push(plain_mount("/etc/hosts", hosts));
        }
        let target = self.container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        if !mounted(target) {
            own.push(plain_mount(target, message.clone()));
        }
        mounts.extend(own);
        Ok(message)
    }
}

/// A mount of a file that the kubelet made.
fn plain_mount(container_path: &str, host_path: PathBuf) -> Mount {
    let kind = Some(FileKind::File);
    Mount { container_path: container_path.into(), host_path, kind, ..Mount::default() }
}

fn as_mount(mount: &VolumeMount, place: &Place, sub_path: Option<PathBuf>) -> Mount {
    let read_only = place.read_only || mount.read_only.unwrap_or(false);
    Mount {
        container_path: PathBuf::from("/").join(&mount.mount_path),
        host_path: place.path.clone(),
        image: place.image.as_ref().and_then(|image| image.reference.clone()),
        sub_path,
        kind: place.kind,
        read_only,
        recursive_read_only: matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
    }
}

/// Stops a container as its pod asked: preStop hook within the grace period, then the stop signal, then the kill.
pub(crate) async fn stop(
    context: &Context,
    pod: &Pod,
    container: Option<&Container>,
    id: &str,
    pod_ip: Option<IpAddr>,
    grace: Duration,
) -> Result<(), runtime::Error> {
    const LEAST: Duration = Duration::from_secs(2);
    let hook = container.and_then(|container| Some((container, container.lifecycle.as_ref()?.pre_stop.as_ref()?)));
    let mut left = grace;
    if let Some((container, hook)) = hook.filter(|_| grace > Duration::ZERO) {
        let started = tokio::time::Instant::now();
        let run = hooks::run(context, container, id, pod_ip, hook);
        let outcome = tokio::time::timeout(grace, run).await.unwrap_or_else(|_| Err("timed out".to_owned()));
        if let Err(reason) = outcome {
            let message = format!("PreStopHook failed: {reason}");
            context.container_event(pod, &container.name, "Warning", "FailedPreStopHook", message);
        }
        left = grace.saturating_sub(started.elapsed()).max(LEAST);
    }
    context.runtime.stop_container(id, left).await
}
