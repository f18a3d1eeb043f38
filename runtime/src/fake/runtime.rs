//! The trait, over the fake's state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio_stream::wrappers::BroadcastStream;

use super::{Behavior, FakeRuntime, Script, exit, out_of_memory};
use crate::{
    ContainerConfig, ContainerId, ContainerStatus, Error, Event, ExecOutput, ExecRequest, Features, Image, ImageAuth,
    PullProgress, Reader, Resources, Runtime, SandboxConfig, SandboxStatus, Session, Stats, Writer,
};

#[async_trait]
impl Runtime for FakeRuntime {
    fn version(&self) -> String {
        concat!("coracle-fake://", env!("CARGO_PKG_VERSION")).to_owned()
    }

    fn features(&self) -> Features {
        Features { recursive_read_only_mounts: true, user_namespaces: true }
    }

    fn needs_mounts(&self) -> bool {
        false
    }

    async fn check(&self) -> Result<(), Error> {
        match &self.state().check_failure {
            Some(reason) => Err(Error::Shim { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    async fn set_pod_cidrs(&self, cidrs: &[String]) -> Result<(), Error> {
        let invalid = || Error::Invalid { field: "podCIDR", reason: format!("{cidrs:?} are no networks") };
        let network = |cidr: &String| cidr.split('/').next().and_then(|address| address.parse().ok());
        let networks: Vec<_> = cidrs.iter().map(network).collect::<Option<_>>().ok_or_else(invalid)?;
        self.state().networks = networks;
        self.record(format!("set_pod_cidrs {}", cidrs.join(",")));
        Ok(())
    }

    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<SandboxStatus, Error> {
        self.record(format!("run_sandbox {}/{}", config.namespace, config.name));
        self.state().add_sandbox(config)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        self.record(format!("stop_sandbox {id}"));
        let ended = self.state().end_sandbox(id);
        match ended {
            Ok(events) => {
                // A sandbox stopped on request did not die by itself.
                self.publish(
                    events.into_iter().filter(|event| !matches!(event, Event::SandboxExited { .. })).collect(),
                );
                Ok(())
            }
            Err(Error::NotFound { .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        self.stop_sandbox(id).await?;
        self.record(format!("remove_sandbox {id}"));
        let mut state = self.state();
        state.sandboxes.remove(id);
        state.containers.retain(|_, container| container.status.sandbox != id);
        Ok(())
    }

    async fn sandboxes(&self) -> Result<Vec<SandboxStatus>, Error> {
        Ok(self.state().sandboxes.values().cloned().collect())
    }

    async fn sandboxes_of(&self, pod: &str) -> Result<Vec<SandboxStatus>, Error> {
        Ok(self.state().sandboxes.values().filter(|status| status.config.uid == pod).cloned().collect())
    }

    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<ContainerId, Error> {
        self.record(format!("create_container {}", config.name));
        self.state().add_container(sandbox, config)
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        let name = self.state().container(id)?.config.name.clone();
        self.record(format!("start_container {name}"));
        let Script { delay, behavior } = self.state().script(id)?;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let started = self.state().start(id, behavior.clone())?;
        self.publish(vec![started]);
        match behavior {
            Behavior::Exit { after, code } => self.end_later(id, after, move || exit(code)),
            Behavior::OutOfMemory { after } => self.end_later(id, after, out_of_memory),
            Behavior::Run | Behavior::IgnoreStop | Behavior::FailStart(_) => {}
        }
        Ok(())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let mut events = self.shared.events.subscribe();
        let (name, behavior, running) = {
            let mut state = self.state();
            let Ok(container) = state.container(id) else { return Ok(()) };
            (container.config.name.clone(), container.behavior.clone(), container.is_running())
        };
        self.record(format!("stop_container {name} {}s", grace.as_secs()));
        if !running {
            return Ok(());
        }
        if behavior != Behavior::IgnoreStop && !grace.is_zero() {
            return self.end(id, exit(0));
        }
        if tokio::time::timeout(grace, self.ended(id, &mut events)).await.is_err() {
            // It may have ended by itself just now.
            let _ = self.end(id, exit(137));
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state();
        let Ok(container) = state.container(id) else { return Ok(()) };
        if container.is_running() {
            return Err(super::state::wrong_state(container));
        }
        let name = container.config.name.clone();
        state.containers.remove(id);
        drop(state);
        self.record(format!("remove_container {name}"));
        Ok(())
    }

    async fn containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>, Error> {
        let state = self.state();
        let wanted = |status: &&ContainerStatus| sandbox.is_none_or(|sandbox| status.sandbox == sandbox);
        Ok(state.containers.values().map(|container| &container.status).filter(wanted).cloned().collect())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error> {
        Ok(self.state().container(id)?.status.clone())
    }

    async fn update_sandbox(&self, id: &str, resources: &Resources) -> Result<(), Error> {
        self.state().sandbox(id)?.config.resources.update(resources);
        self.record(format!("update_sandbox {id}"));
        Ok(())
    }

    async fn update_container(
        &self,
        id: &str,
        resources: &Resources,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let name = {
            let mut state = self.state();
            let container = state.container(id)?;
            container.resources.update(resources);
            container.status.annotations.extend(annotations.clone());
            container.config.name.clone()
        };
        self.record(format!("update_container {name}"));
        Ok(())
    }

    async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        let name = self.state().running(id)?.config.name.clone();
        self.record(format!("reopen_log {name}"));
        Ok(())
    }

    async fn container_stats(&self, id: &str) -> Result<Stats, Error> {
        let mut state = self.state();
        let name = state.running(id)?.config.name.clone();
        Ok(state.stats.get(&name).cloned().unwrap_or_default())
    }

    async fn sandbox_stats(&self, id: &str) -> Result<Stats, Error> {
        let state = self.state();
        let sandbox = state.sandboxes.get(id).cloned();
        let sandbox = sandbox.ok_or_else(|| Error::NotFound { what: "sandbox", id: id.to_owned() })?;
        Ok(state.stats.get(&sandbox.config.name).cloned().unwrap_or_default())
    }

    async fn layer_usage(&self, id: &str) -> Result<u64, Error> {
        self.state().running(id).map(|_| 0)
    }

    async fn exec(&self, container: &str, request: &ExecRequest) -> Result<Session, Error> {
        self.exec_session(container, request)
    }

    async fn exec_sync(&self, container: &str, command: &[String], timeout: Duration) -> Result<ExecOutput, Error> {
        let (output, delay) = self.exec_output(container, command)?;
        if !timeout.is_zero() && delay > timeout {
            tokio::time::sleep(timeout).await;
            return Err(Error::Timeout { after: timeout });
        }
        tokio::time::sleep(delay).await;
        Ok(output)
    }

    async fn attach(&self, container: &str) -> Result<Session, Error> {
        self.attach_session(container)
    }

    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<(Reader, Writer), Error> {
        self.connect(sandbox, port).await
    }

    async fn pull_image(&self, image: &str, _auth: Option<&ImageAuth>) -> Result<Image, Error> {
        self.record(format!("pull_image {image}"));
        let (delay, failure) = {
            let state = self.state();
            (state.pull_delay, state.pull_failures.get(image).cloned())
        };
        self.state().pulling.insert(image.to_owned(), PullProgress { loaded: 1, total: 2 });
        tokio::time::sleep(delay).await;
        self.state().pulling.remove(image);
        match failure {
            Some(reason) => Err(Error::Pull { image: image.to_owned(), reason }),
            None => Ok(self.state().add_image(image, "")),
        }
    }

    fn pull_progress(&self, image: &str) -> Option<PullProgress> {
        self.state().pulling.get(image).copied()
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error> {
        Ok(self.state().image(image).cloned())
    }

    async fn images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.state().images.values().cloned().collect())
    }

    async fn remove_image(&self, image: &str) -> Result<(), Error> {
        self.record(format!("remove_image {image}"));
        let mut state = self.state();
        if let Some(id) = state.image(image).map(|image| image.id.clone()) {
            state.images.remove(&id);
        }
        Ok(())
    }

    async fn import_images(&self, tar: PathBuf) -> Result<Vec<Image>, Error> {
        std::fs::metadata(&tar).map_err(|source| Error::Io { operation: "open", path: tar.clone(), source })?;
        let name = tar.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        self.record(format!("import_images {}", tar.display()));
        Ok(vec![self.state().add_image(&format!("docker.io/library/{name}:latest"), "")])
    }

    fn events(&self) -> BoxStream<'static, Event> {
        let events = BroadcastStream::new(self.shared.events.subscribe());
        events.map(|event| event.unwrap_or(Event::Resync)).boxed()
    }
}
