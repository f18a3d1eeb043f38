//! Pods that are connected by CNI plugins, where the node is told of a directory with a network configuration (upstream: the
//! CNI specification 1.1, containerd's go-cni).
//!
//! ```text
//! connect:    <conf>/10-x.conflist --ADD--> plugin --result--> next plugin ... --> addresses
//! disconnect: <root>/network/cni/<sandbox>.json (what was asked for, and came of it) --DEL--> plugins, last one first
//! ```
//! What is kept on disk is all that a disconnection needs: whoever takes down a pod must not know how the node was set up, and
//! a configuration that has changed meanwhile is not that of pods which are there. A network namespace has a path of its own
//! (`<run>/netns/<sandbox>`) while the pod is connected: after its processes have ended the one in `/proc` would be a stranger's.

mod list;
mod plugin;
mod result;

use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::link;
use crate::disk::{self, io_error};
use crate::{Bandwidth, Error, PortMapping, SandboxConfig};
use list::List;
use plugin::{Call, Verb};

/// Where the node's network configuration and the plugins are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniConfig {
    /// The first file in it by name that is a network configuration counts: `*.conflist`, `*.conf` or `*.json`.
    pub conf_dir: PathBuf,
    /// Searched for plugins in this order.
    pub bin_dirs: Vec<PathBuf>,
}

impl CniConfig {
    /// Where plugins are installed by themselves, and by Debian; the directories are apart by commas.
    pub const USUAL_BIN_DIRS: &str = "/opt/cni/bin,/usr/lib/cni";
}

/// Connects pods by plugins.
#[derive(Debug)]
pub(super) struct Cni {
    config: Option<CniConfig>,
    /// Holds what is known of connected pods.
    records: PathBuf,
    /// Holds the paths of their network namespaces.
    namespaces: PathBuf,
}

/// A pod that is connected, or was about to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    list: List,
    bin_dirs: Vec<PathBuf>,
    /// `CNI_ARGS`.
    arguments: String,
    ports: Vec<PortMapping>,
    bandwidth: Bandwidth,
    /// What the last plugin answered.
    result: Option<Value>,
}

impl Cni {
    pub(super) fn open(config: Option<CniConfig>, directory: &Path, run: &Path) -> Self {
        Self { config, records: directory.join("cni"), namespaces: run.join("netns") }
    }

    /// Whether pods are to be connected by plugins.
    pub(super) fn is_wanted(&self) -> bool {
        self.config.is_some()
    }

    /// Whether there is a configuration to connect pods by.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.list().map(drop)
    }

    fn list(&self) -> Result<(List, Vec<PathBuf>), Error> {
        let Some(config) = &self.config else {
            return Err(Error::Network { reason: "no CNI configuration was asked for".to_owned() });
        };
        Ok((List::first_in(&config.conf_dir)?, config.bin_dirs.clone()))
    }

    /// Has the plugins connect a pod's network namespace; answers its addresses, the first one first.
    pub(super) async fn connect(
        &self,
        sandbox: &str,
        namespace: OwnedFd,
        config: &SandboxConfig,
    ) -> Result<Vec<IpAddr>, Error> {
        let (list, bin_dirs) = self.list()?;
        let ports: Vec<_> = config.port_mappings.iter().filter(|one| one.host_port != 0).cloned().collect();
        list.check_capabilities(&ports, config.bandwidth)?;
        let arguments = arguments(sandbox, config);
        let record = Record { list, bin_dirs, arguments, ports, bandwidth: config.bandwidth, result: None };
        // If this process dies now, the next one knows what to take down.
        disk::make_private(&self.records)?;
        disk::write_json(&self.record(sandbox), &record)?;
        let path = self.name(sandbox, &namespace)?;
        link::start_loopback(namespace).await?;
        let result = record.add(sandbox, &path).await?;
        let addresses = result::addresses(&result)?;
        disk::write_json(&self.record(sandbox), &Record { result: Some(result), ..record })?;
        Ok(addresses)
    }

    /// Has the plugins take a pod off the network, if they connected it.
    pub(super) async fn disconnect(&self, sandbox: &str) -> Result<(), Error> {
        let Some(record) = disk::read_json::<Record>(&self.record(sandbox))? else { return Ok(()) };
        let path = self.namespace(sandbox);
        record.delete(sandbox, path.exists().then_some(&*path)).await?;
        match rustix::mount::unmount(&path, UnmountFlags::DETACH) {
            // Not there, or not mounted.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {}
            Err(err) => return Err(io_error("unmount", &path)(err.into())),
        }
        for file in [&path, &self.record(sandbox)] {
            match std::fs::remove_file(file) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(io_error("remove", file)(err)),
                _ => {}
            }
        }
        Ok(())
    }

    fn record(&self, sandbox: &str) -> PathBuf {
        self.records.join(format!("{sandbox}.json"))
    }

    fn namespace(&self, sandbox: &str) -> PathBuf {
        self.namespaces.join(sandbox)
    }

    /// Gives a network namespace a path.
    fn name(&self, sandbox: &str, namespace: &OwnedFd) -> Result<PathBuf, Error> {
        disk::make_private(&self.namespaces)?;
        let path = self.namespace(sandbox);
        std::fs::File::create(&path).map_err(io_error("make", &path))?;
        let own = format!("/proc/self/fd/{}", namespace.as_fd().as_raw_fd());
        rustix::mount::mount_bind(own, &path).map_err(|err| io_error("mount", &path)(err.into()))?;
        Ok(path)
    }
}

impl Record {
    /// Each plugin gets what the one before it answered.
    async fn add(&self, sandbox: &str, namespace: &Path) -> Result<Value, Error> {
        let mut result = None;
        for one in &self.list.plugins {
            let input = self.input(one, result.as_ref());
            result = Some(self.call(Verb::Add, sandbox, Some(namespace), one, &input).await?);
        }
        result.ok_or_else(|| Error::Network { reason: format!("network {:?} has no plugins", self.list.name) })
    }

    /// The last plugin first, each with what all of them together had answered.
    async fn delete(&self, sandbox: &str, namespace: Option<&Path>) -> Result<(), Error> {
        for one in self.list.plugins.iter().rev() {
            let input = self.input(one, self.result.as_ref());
            self.call(Verb::Delete, sandbox, namespace, one, &input).await?;
        }
        Ok(())
    }

    async fn call(
        &self,
        verb: Verb,
        sandbox: &str,
        namespace: Option<&Path>,
        plugin: &Value,
        input: &Value,
    ) -> Result<Value, Error> {
        let name = plugin["type"].as_str().unwrap_or_default();
        let call = Call { verb, sandbox, namespace, arguments: &self.arguments, bin_dirs: &self.bin_dirs };
        call.run(name, input).await
    }

    /// A plugin's configuration with what the runtime adds to it.
    fn input(&self, plugin: &Value, previous: Option<&Value>) -> Value {
        let mut input = plugin.clone();
        input["cniVersion"] = json!(self.list.cni_version);
        input["name"] = json!(self.list.name);
        if let Some(previous) = previous {
            input["prevResult"] = previous.clone();
        }
        let mut given = serde_json::Map::new();
        if list::is_capable(plugin, list::PORT_MAPPINGS) && !self.ports.is_empty() {
            given.insert(list::PORT_MAPPINGS.to_owned(), self.ports.iter().map(port).collect());
        }
        if list::is_capable(plugin, list::BANDWIDTH) && self.bandwidth != Bandwidth::default() {
            given.insert(list::BANDWIDTH.to_owned(), bandwidth(self.bandwidth));
        }
        if !given.is_empty() {
            input["runtimeConfig"] = Value::Object(given);
        }
        input
    }
}

fn port(mapping: &PortMapping) -> Value {
    let protocol = mapping.protocol.to_lowercase();
    let mut port = json!({
        "hostPort": mapping.host_port, "containerPort": mapping.container_port,
        "protocol": if protocol.is_empty() { "tcp" } else { &protocol },
    });
    if !mapping.host_ip.is_empty() {
        port["hostIP"] = json!(mapping.host_ip);
    }
    port
}

/// In bits a second; how much may come at once is upstream's.
fn bandwidth(limits: Bandwidth) -> Value {
    let mut bandwidth = json!({});
    for (name, rate) in [("ingress", limits.ingress), ("egress", limits.egress)] {
        if let Some(rate) = rate {
            bandwidth[format!("{name}Rate")] = json!(rate);
            bandwidth[format!("{name}Burst")] = json!(u32::MAX);
        }
    }
    bandwidth
}

/// What plugins are told of the pod; names of Kubernetes have none of the separators.
fn arguments(sandbox: &str, config: &SandboxConfig) -> String {
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={sandbox};K8S_POD_UID={}",
        config.namespace, config.name, config.uid
    )
}

#[cfg(test)]
mod tests;
