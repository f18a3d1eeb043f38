//! The trait, over the parts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio_stream::wrappers::BroadcastStream;

use super::{LocalRuntime, blocking};
use crate::wire::Request;
use crate::{
    ContainerConfig, ContainerId, ContainerStatus, Error, Event, ExecOutput, ExecRequest, Features, Image, ImageAuth,
    PullProgress, Reader, Resources, Runtime, SandboxConfig, SandboxStatus, Session, Stats, Unlinked, Writer,
};

impl LocalRuntime {
    /// Removes every sandbox, the bridge and the nftables table. Images stay.
    pub async fn tear_down(&self) -> Result<(), Error> {
        for sandbox in self.sandboxes().await? {
            self.remove_sandbox(&sandbox.id).await?;
        }
        self.take_down_network().await
    }

    /// The sandboxes that are up, at once.
    pub fn ready_sandboxes(&self) -> Vec<SandboxStatus> {
        let state = self.shared.lock();
        state.sandboxes.values().map(|sandbox| &sandbox.status).filter(|status| status.ready).cloned().collect()
    }

    /// Removes the bridge and the nftables table of a node whose pods are stopped; `set_pod_cidrs` makes them again.
    pub async fn take_down_network(&self) -> Result<(), Error> {
        self.shared.network.tear_down().await
    }
}

#[async_trait]
impl Runtime for LocalRuntime {
    fn version(&self) -> String {
        concat!("coracle://", env!("CARGO_PKG_VERSION")).to_owned()
    }

    fn features(&self) -> Features {
        // Id-mapped mounts come with mount_setattr(2), which every container needs.
        let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
        let user_namespaces = most.trim().parse().is_ok_and(|most: u64| most > 0);
        Features { recursive_read_only_mounts: true, user_namespaces }
    }

    async fn check(&self) -> Result<(), Error> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::Unsupported { reason: "running containers without root".to_owned() });
        }
        Ok(())
    }

    fn needs_pod_cidrs(&self) -> bool {
        !self.shared.network.has_own_addresses()
    }

    async fn set_pod_cidrs(&self, cidrs: &[String]) -> Result<(), Error> {
        let subnets = cidrs.iter().map(|cidr| cidr.parse()).collect::<Result<Vec<_>, _>>()?;
        self.shared.network.set_subnets(&subnets).await
    }

    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<SandboxStatus, Error> {
        self.shared.run_sandbox(config).await
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        self.shared.stop_sandbox(id).await
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        self.shared.remove_sandbox(id).await
    }

    async fn update_sandbox(&self, id: &str, resources: &Resources) -> Result<(), Error> {
        let (shared, id, resources) = (self.shared.clone(), id.to_owned(), resources.clone());
        blocking(move || shared.update_sandbox(&id, &resources)).await
    }

    async fn sandboxes(&self) -> Result<Vec<SandboxStatus>, Error> {
        Ok(self.shared.lock().sandboxes.values().map(|sandbox| sandbox.status.clone()).collect())
    }

    async fn sandboxes_of(&self, pod: &str) -> Result<Vec<SandboxStatus>, Error> {
        let state = self.shared.lock();
        let all = state.sandboxes.values().map(|sandbox| &sandbox.status);
        Ok(all.filter(|status| status.config.uid == pod).cloned().collect())
    }

    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<ContainerId, Error> {
        self.shared.create_container(sandbox, config).await
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        self.shared.start_container(id).await
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        self.shared.stop_container(id, grace).await
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        self.shared.remove_container(id).await
    }

    async fn containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>, Error> {
        let state = self.shared.lock();
        let wanted = |status: &&ContainerStatus| sandbox.is_none_or(|sandbox| status.sandbox == sandbox);
        Ok(state.containers.values().map(|container| &container.status).filter(wanted).cloned().collect())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error> {
        Ok(self.shared.container(id)?.status)
    }

    async fn update_container(
        &self,
        id: &str,
        resources: &Resources,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let (shared, id) = (self.shared.clone(), id.to_owned());
        let (resources, annotations) = (resources.clone(), annotations.clone());
        blocking(move || shared.update_container(&id, &resources, annotations)).await
    }

    async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        let container = self.shared.container(id)?;
        self.shared.shim(&container.status.sandbox).order(Request::ReopenLog { container: id.to_owned() }).await
    }

    async fn container_stats(&self, id: &str) -> Result<Stats, Error> {
        let (shared, id) = (self.shared.clone(), id.to_owned());
        blocking(move || shared.container_stats(&id)).await
    }

    async fn sandbox_stats(&self, id: &str) -> Result<Stats, Error> {
        let (shared, id) = (self.shared.clone(), id.to_owned());
        blocking(move || shared.sandbox_stats(&id)).await
    }

    async fn layer_usage(&self, id: &str) -> Result<u64, Error> {
        let (shared, id) = (self.shared.clone(), id.to_owned());
        blocking(move || shared.layer_usage(&id)).await
    }

    async fn unlinked_files(&self, id: &str) -> Result<Vec<Unlinked>, Error> {
        let (shared, id) = (self.shared.clone(), id.to_owned());
        blocking(move || shared.unlinked_files(&id)).await
    }

    async fn exec(&self, container: &str, request: &ExecRequest) -> Result<Session, Error> {
        self.shared.exec(container, request).await
    }

    async fn exec_sync(&self, container: &str, command: &[String], timeout: Duration) -> Result<ExecOutput, Error> {
        self.shared.exec_sync(container, command, timeout).await
    }

    async fn attach(&self, container: &str) -> Result<Session, Error> {
        self.shared.attach(container).await
    }

    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<(Reader, Writer), Error> {
        self.shared.port_forward(sandbox, port).await
    }

    async fn pull_image(&self, image: &str, auth: Option<&ImageAuth>) -> Result<Image, Error> {
        self.shared.registry.pull(&self.shared.images, image, auth).await
    }

    fn pull_progress(&self, image: &str) -> Option<PullProgress> {
        self.shared.registry.progress(image)
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error> {
        Ok(self.shared.images.find(image).map(|record| record.image.clone()))
    }

    async fn images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.shared.images.list())
    }

    async fn remove_image(&self, image: &str) -> Result<(), Error> {
        let used: BTreeSet<String> =
            self.shared.lock().containers.values().flat_map(|container| container.layers.clone()).collect();
        let (images, image) = (self.shared.images.clone(), image.to_owned());
        blocking(move || images.remove(&image, &used)).await
    }

    async fn import_images(&self, tar: PathBuf) -> Result<Vec<Image>, Error> {
        let images = self.shared.images.clone();
        blocking(move || images.import(&tar)).await
    }

    fn events(&self) -> BoxStream<'static, Event> {
        let events = BroadcastStream::new(self.shared.events.subscribe());
        events.map(|event| event.unwrap_or(Event::Resync)).boxed()
    }
}
