//! Making, starting, stopping and removing containers.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast::Receiver;

use super::spec::Place;
use super::{Container, Shared, blocking};
use crate::disk::{self, io_error};
use crate::image::Record;
use crate::shim;
use crate::wire::{CreateRequest, PidNamespace, Request, WatchRequest};
use crate::{ContainerConfig, ContainerState, ContainerStatus, Error, Event, Resources, Stats};

impl Shared {
    /// The image that a name or an id stands for.
    pub(super) fn image(&self, name: &str) -> Result<Arc<Record>, Error> {
        self.images.find(name).ok_or_else(|| Error::NotFound { what: "image", id: name.to_owned() })
    }

    pub(super) async fn create_container(
        self: &Arc<Self>,
        sandbox: &str,
        config: &ContainerConfig,
    ) -> Result<String, Error> {
        let image = self.image(&config.image)?;
        let id = disk::random_id();
        match self.make_container(&id, sandbox, config, &image).await {
            Ok(container) => {
                self.lock().containers.insert(id.clone(), container);
                Ok(id)
            }
            Err(err) => {
                if let Err(err) = self.clear_container(sandbox, &id).await {
                    tracing::warn!(
                        container = id,
                        error = &err as &dyn std::error::Error,
                        "failed to clear a container"
                    );
                }
                Err(err)
            }
        }
    }

    async fn make_container(
        self: &Arc<Self>,
        id: &str,
        sandbox: &str,
        config: &ContainerConfig,
        image: &Arc<Record>,
    ) -> Result<Container, Error> {
        let (shared, name, pod) = (self.clone(), id.to_owned(), sandbox.to_owned());
        let (wanted, image) = (config.clone(), image.clone());
        let prepare = move || shared.prepare_container(&name, &pod, &wanted, &image);
        let (container, request, spec) = blocking(prepare).await?;
        self.shim(sandbox).ask(Request::Create(request), vec![spec]).await?.process_or_done()?;
        Ok(container)
    }

    /// Cgroup, directories and specification. Blocks.
    fn prepare_container(
        &self,
        id: &str,
        sandbox: &str,
        config: &ContainerConfig,
        image: &Record,
    ) -> Result<(Container, CreateRequest, OwnedFd), Error> {
        let pod = self.sandbox(sandbox)?;
        if !pod.status.ready {
            return Err(Error::WrongState { what: "sandbox", id: sandbox.to_owned(), state: "not ready".to_owned() });
        }
        self.restore_sandbox(&pod)?;
        let directory = self.container_directory(sandbox, id);
        for part in ["upper", "work", "rootfs", "mapped"] {
            let path = directory.join(part);
            std::fs::create_dir_all(&path).map_err(io_error("make", &path))?;
        }
        let cgroup = format!("{}/{id}", pod.cgroup);
        let cgroup_directories = self.cgroups.create(&cgroup, &config.resources)?;
        let namespaces = pod.status.config.namespaces;
        let log_path = pod.status.config.log_directory.join(&config.log_path);
        let place = Place { sandbox: pod, directory: directory.clone(), cgroup: cgroup.clone(), cgroup_directories };
        let spec = self.container_spec(place, config, image)?;
        let volumes = spec.mounts.iter().flat_map(|mount| &mount.image);
        let layers = image.layers.iter().chain(volumes).cloned().collect();
        let watch = (!spec.rights.watch.program.is_empty()).then_some(WatchRequest {
            enforce: spec.rights.watch.required,
            quiet: self.config.syscall_quiet,
            capabilities: spec.rights.capabilities,
        });
        let spec = spec.seal().map_err(|err| Error::Shim { reason: format!("seal the specification: {err}") })?;
        let container = Container {
            status: status(id, sandbox, config, image, &log_path),
            stop_signal: stop_signal(config, image)?,
            tty: config.tty,
            stdin: config.stdin,
            layers,
            cgroup: cgroup.clone(),
        };
        self.save_container(&container)?;
        let request = CreateRequest {
            container: id.to_owned(),
            directory,
            log_path,
            log_limits: config.log_limits,
            tty: config.tty,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            pid_namespace: match &config.process_target {
                _ if namespaces.host_pid || namespaces.shared_pid => PidNamespace::Pod,
                Some(target) => PidNamespace::Of(target.clone()),
                None => PidNamespace::Own,
            },
            memory_cgroup: self.cgroups.memory_directory(&cgroup),
            process_cgroup: self.cgroups.process_directory(&cgroup),
            watch,
        };
        Ok((container, request, spec))
    }

    pub(super) async fn start_container(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        if container.status.state != ContainerState::Created {
            return Err(wrong_state(&container.status));
        }
        let sandbox = container.status.sandbox.clone();
        let mut events = self.events.subscribe();
        let answer = self.shim(&sandbox).ask(Request::Start { container: id.to_owned() }, Vec::new()).await?;
        let pid = match answer.process_or_done() {
            Err(err @ Error::Start { .. }) => {
                self.ended(id, &mut events).await;
                return Err(err);
            }
            answered => answered?,
        };
        let running = {
            let mut state = self.lock();
            let Some(container) = state.containers.get_mut(id) else { return Ok(()) };
            // A short container may have ended before this line.
            if container.status.state == ContainerState::Created {
                container.status.state = ContainerState::Running { pid, started_at: SystemTime::now() };
            }
            container.clone()
        };
        self.save_container(&running)?;
        self.publish(Event::ContainerStarted { sandbox, container: id.to_owned() });
        Ok(())
    }

    pub(super) async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let mut events = self.events.subscribe();
        let Ok(container) = self.container(id) else { return Ok(()) };
        match container.status.state {
            ContainerState::Exited(_) => return Ok(()),
            ContainerState::Created => return self.kill(&container, libc::SIGKILL, &mut events).await,
            ContainerState::Running { .. } => {}
        }
        if !grace.is_zero() {
            let stop = self.kill(&container, container.stop_signal, &mut events);
            if let Ok(stopped) = tokio::time::timeout(grace, stop).await {
                return stopped;
            }
        }
        self.kill(&container, libc::SIGKILL, &mut events).await
    }

    /// Sends a signal and waits for the end.
    async fn kill(&self, container: &Container, signal: i32, events: &mut Receiver<Event>) -> Result<(), Error> {
        let id = &container.status.id;
        match self.shim(&container.status.sandbox).order(Request::Kill { container: id.clone(), signal }).await {
            Ok(()) => {}
            // Without its shim a container has ended, or is about to.
            Err(err) if self.is_running(id) => return Err(err),
            Err(_) => return Ok(()),
        }
        self.ended(id, events).await;
        Ok(())
    }

    /// Waits for the end of a container that is about to end; `events` must be older than the cause.
    async fn ended(&self, id: &str, events: &mut Receiver<Event>) {
        while !self.has_ended(id) {
            // After a lag the state tells.
            if let Err(tokio::sync::broadcast::error::RecvError::Closed) = events.recv().await {
                break;
            }
        }
    }

    fn is_running(&self, id: &str) -> bool {
        self.container(id).is_ok_and(|container| matches!(container.status.state, ContainerState::Running { .. }))
    }

    pub(super) fn has_ended(&self, id: &str) -> bool {
        self.container(id).map_or(true, |container| matches!(container.status.state, ContainerState::Exited(_)))
    }

    pub(super) async fn remove_container(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        if matches!(container.status.state, ContainerState::Running { .. }) {
            return Err(wrong_state(&container.status));
        }
        self.clear_container(&container.status.sandbox, id).await?;
        self.lock().containers.remove(id);
        Ok(())
    }

    /// Removes whatever there is of a container.
    pub(super) async fn clear_container(self: &Arc<Self>, sandbox: &str, id: &str) -> Result<(), Error> {
        let living = self.sandbox(sandbox).is_ok_and(|sandbox| sandbox.shim_pid != 0 && sandbox.status.ready);
        if living {
            self.shim(sandbox).order(Request::Remove { container: id.to_owned() }).await?;
        }
        let cgroup = self.sandbox(sandbox).ok().map(|pod| format!("{}/{id}", pod.cgroup));
        let (shared, directory) = (self.clone(), self.container_directory(sandbox, id));
        blocking(move || {
            if let Some(cgroup) = cgroup {
                shared.cgroups.remove_leaf(&cgroup)?;
            }
            disk::remove(&directory)
        })
        .await
    }

    /// Takes over the end of a container. Says whether that was news.
    pub(super) fn end_container(&self, id: &str, exit: crate::Exit) {
        let ended = {
            let mut state = self.lock();
            let Some(container) = state.containers.get_mut(id) else { return };
            if matches!(container.status.state, ContainerState::Exited(_)) {
                return;
            }
            container.status.state = ContainerState::Exited(exit.clone());
            container.clone()
        };
        // The shim's record is on disk already, so a failure here costs nothing.
        if let Err(err) = self.save_container(&ended) {
            tracing::warn!(container = id, error = &err as &dyn std::error::Error, "failed to save a container");
        }
        let (sandbox, container) = (ended.status.sandbox, id.to_owned());
        self.publish(Event::ContainerExited { sandbox, container, exit });
    }

    /// Takes over the ends of all containers of a sandbox whose shim is gone.
    pub(super) fn settle_containers(&self, sandbox: &str) {
        let open: Vec<ContainerStatus> = {
            let state = self.lock();
            let all = state.containers.values().map(|container| &container.status);
            all.filter(|one| one.sandbox == sandbox && !matches!(one.state, ContainerState::Exited(_)))
                .cloned()
                .collect()
        };
        for status in open {
            let started_at = match status.state {
                ContainerState::Running { started_at, .. } => Some(started_at),
                _ => None,
            };
            let recorded = shim::read_exit(&self.container_directory(sandbox, &status.id));
            let exit =
                recorded.unwrap_or_else(|| super::unknown_exit(started_at, "the shim ended before the container"));
            self.end_container(&status.id, exit);
        }
    }

    pub(super) fn update_container(
        &self,
        id: &str,
        resources: &Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        self.cgroups.limit(&self.container(id)?.cgroup, resources)?;
        let changed = {
            let mut state = self.lock();
            let container = state.containers.get_mut(id);
            let container = container.ok_or_else(|| Error::NotFound { what: "container", id: id.to_owned() })?;
            container.status.annotations.extend(annotations);
            container.clone()
        };
        self.save_container(&changed)
    }

    pub(super) fn container_stats(&self, id: &str) -> Result<Stats, Error> {
        let container = self.container(id)?;
        let ContainerState::Running { .. } = container.status.state else {
            return Err(wrong_state(&container.status));
        };
        self.cgroups.stats(&container.cgroup)
    }

    /// Of a pod on the host's network no traffic is known: it is all the host's.
    pub(super) fn sandbox_stats(&self, id: &str) -> Result<Stats, Error> {
        let sandbox = self.sandbox(id)?;
        let has_network = sandbox.status.ready && !sandbox.status.config.namespaces.host_network;
        let network = Some(sandbox.shim_pid).filter(|pid| has_network && *pid != 0).and_then(crate::network::traffic);
        Ok(Stats { network, ..self.cgroups.stats(&sandbox.cgroup)? })
    }

    pub(super) fn layer_usage(&self, id: &str) -> Result<u64, Error> {
        let container = self.container(id)?;
        let ContainerState::Running { .. } = container.status.state else {
            return Err(wrong_state(&container.status));
        };
        disk::usage(&self.container_directory(&container.status.sandbox, id).join("upper"))
    }
}

fn status(
    id: &str,
    sandbox: &str,
    config: &ContainerConfig,
    image: &Record,
    log_path: &std::path::Path,
) -> ContainerStatus {
    ContainerStatus {
        id: id.to_owned(),
        sandbox: sandbox.to_owned(),
        name: config.name.clone(),
        attempt: config.attempt,
        state: ContainerState::Created,
        created_at: SystemTime::now(),
        image: config.image.clone(),
        image_ref: image.image.digests.first().unwrap_or(&image.image.id).clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        log_path: log_path.to_owned(),
    }
}

fn stop_signal(config: &ContainerConfig, image: &Record) -> Result<i32, Error> {
    let Some(name) = config.stop_signal.as_ref().or(image.config.config.stop_signal.as_ref()) else {
        return Ok(libc::SIGTERM);
    };
    signal_number(name)
        .ok_or_else(|| Error::Invalid { field: "lifecycle.stopSignal", reason: format!("unknown signal {name:?}") })
}

fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = match short {
        "HUP" => libc::SIGHUP,
        "INT" => libc::SIGINT,
        "QUIT" => libc::SIGQUIT,
        "ABRT" => libc::SIGABRT,
        "KILL" => libc::SIGKILL,
        "USR1" => libc::SIGUSR1,
        "USR2" => libc::SIGUSR2,
        "PIPE" => libc::SIGPIPE,
        "ALRM" => libc::SIGALRM,
        "TERM" => libc::SIGTERM,
        "CONT" => libc::SIGCONT,
        "STOP" => libc::SIGSTOP,
        "TSTP" => libc::SIGTSTP,
        "WINCH" => libc::SIGWINCH,
        "IO" => libc::SIGIO,
        "PWR" => libc::SIGPWR,
        real_time => {
            let offset = real_time.strip_prefix("RTMIN")?;
            let offset: i32 = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
            return (0..=30).contains(&offset).then(|| 34 + offset);
        }
    };
    Some(number)
}

pub(super) fn wrong_state(status: &ContainerStatus) -> Error {
    let state = match status.state {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited(_) => "exited",
    };
    Error::WrongState { what: "container", id: status.id.clone(), state: state.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals_are_known_by_name_and_number() {
        let numbers = ["SIGTERM", "quit", "9", "SIGRTMIN+3", "SIGFOO", "99"].map(signal_number);
        assert_eq!(numbers, [Some(15), Some(3), Some(9), Some(37), None, None]);
    }
}
