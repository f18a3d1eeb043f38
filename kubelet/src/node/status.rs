//! What the node's status says (upstream: pkg/kubelet/nodestatus).
use std::collections::BTreeMap;
use std::sync::PoisonError;

use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{NodeKeeper, machine};
use crate::resources;

impl NodeKeeper {
    /// The status now; times of unchanged conditions are taken from `old`.
    pub(super) async fn status(&self, old: Option<&NodeStatus>) -> NodeStatus {
        let capacity = self.capacity();
        let images = self.context.runtime.images().await.unwrap_or_default();
        self.context.set_images(images);
        NodeStatus {
            addresses: Some(self.addresses()),
            allocatable: Some(self.allocatable(&capacity)),
            capacity: Some(capacity),
            conditions: Some(self.conditions(old).await),
            daemon_endpoints: (self.registration.port > 0).then_some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: self.registration.port }),
            }),
            images: Some(self.images()),
            node_info: Some(self.info()),
            runtime_handlers: Some(vec![self.handler()]),
            volumes_in_use: self.volumes_in_use(),
            ..NodeStatus::default()
        }
    }

    /// What the one runtime of this node, which is the default one, can do.
    fn handler(&self) -> NodeRuntimeHandler {
        let features = self.context.runtime.features();
        NodeRuntimeHandler {
            name: Some(String::new()),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
        }
    }

    fn volumes_in_use(&self) -> Option<Vec<String>> {
        let names: Vec<String> = self.context.csi.mounts.in_use().borrow().iter().cloned().collect();
        (!names.is_empty()).then_some(names)
    }

    fn addresses(&self) -> Vec<NodeAddress> {
        let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
        let mut addresses: Vec<_> =
            self.context.node_ips.iter().map(|ip| address("InternalIP", ip.to_string())).collect();
        addresses.push(address("Hostname", self.context.node_name.clone()));
        addresses
    }

    fn capacity(&self) -> BTreeMap<String, Quantity> {
        let mut capacity = BTreeMap::new();
        let mut set = |resource: &str, amount: String| {
            capacity.insert(resource.to_owned(), Quantity(amount));
        };
        set("cpu", machine::cores().to_string());
        set("memory", format!("{}Ki", self.context.memory / 1024));
        set("pods", self.registration.max_pods.to_string());
        let disk = machine::disk(&self.context.root_dir).map_or(0, |(size, _)| size);
        set("ephemeral-storage", format!("{}Ki", disk / 1024));
        for (resource, amount) in &self.registration.capacity {
            set(resource, amount.clone());
        }
        capacity
    }

    fn allocatable(&self, capacity: &BTreeMap<String, Quantity>) -> BTreeMap<String, Quantity> {
        let mut allocatable = capacity.clone();
        for (resource, reserved) in &self.registration.reserved {
            let Some(total) = capacity.get(resource).and_then(resources::milli) else { continue };
            let reserved = resources::milli(&Quantity(reserved.clone())).unwrap_or(0);
            let left = (total - reserved).max(0);
            let text = match resource.as_str() {
                "cpu" if left % 1000 != 0 => format!("{left}m"),
                "memory" | "ephemeral-storage" => format!("{}Ki", left / 1000 / 1024),
                _ => (left / 1000).to_string(),
            };
            allocatable.insert(resource.clone(), Quantity(text));
        }
        allocatable
    }

    async fn conditions(&self, old: Option<&NodeStatus>) -> Vec<NodeCondition> {
        let short = *self.context.pressure.borrow();
        let pressure = |kind: &str, word: &str, is: bool| {
            let (reason, message) = match is {
                true => (format!("KubeletHas{word}"), format!("kubelet has {}", spaced(word))),
                false => (format!("KubeletHas{}", calm(word)), format!("kubelet has {}", spaced(&calm(word)))),
            };
            condition(old, kind, is, &reason, &message)
        };
        vec![
            pressure("MemoryPressure", "InsufficientMemory", short.memory),
            pressure("DiskPressure", "DiskPressure", short.disk),
            pressure("PIDPressure", "InsufficientPID", short.pids),
            self.ready(old).await,
        ]
    }

    async fn ready(&self, old: Option<&NodeStatus>) -> NodeCondition {
        let trouble = match self.context.runtime.check().await {
            _ if self.ending.borrow().is_some() => Some("node is shutting down".to_owned()),
            Err(err) => Some(format!("container runtime is down: {}", crate::failure::chain(&err))),
            Ok(()) if self.pod_cidrs.is_none() => {
                let why = self.unconnected.as_deref().unwrap_or("the node has no pod CIDR yet");
                Some(format!("container runtime network not ready: {why}"))
            }
            Ok(()) => None,
        };
        match trouble {
            Some(message) => condition(old, "Ready", false, "KubeletNotReady", &message),
            None => condition(old, "Ready", true, "KubeletReady", "kubelet is posting ready status"),
        }
    }

    fn images(&self) -> Vec<ContainerImage> {
        let known = self.context.known_images.read().unwrap_or_else(PoisonError::into_inner);
        let mut images: Vec<_> = known
            .iter()
            .map(|image| ContainerImage {
                names: Some(image.digests.iter().chain(&image.tags).cloned().collect()),
                size_bytes: i64::try_from(image.size).ok(),
            })
            .collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
        images.truncate(self.context.tuning.max_images.unwrap_or(usize::MAX));
        images
    }

    fn info(&self) -> NodeSystemInfo {
        NodeSystemInfo {
            architecture: machine::architecture().to_owned(),
            boot_id: machine::boot_id(),
            container_runtime_version: self.context.runtime.version(),
            kernel_version: machine::kernel(),
            kube_proxy_version: String::new(),
            kubelet_version: daemon::full_version(),
            machine_id: machine::machine_id(),
            operating_system: "linux".to_owned(),
            os_image: machine::os_image(),
            swap: None,
            system_uuid: machine::system_uuid(),
        }
    }
}

/// The opposite of a pressure, in upstream's words.
fn calm(word: &str) -> String {
    match word.strip_prefix("Insufficient") {
        Some(rest) => format!("Sufficient{rest}"),
        None => "NoDiskPressure".to_owned(),
    }
}

/// `SufficientMemory` as `sufficient memory`; an abbreviation stays as it is.
fn spaced(word: &str) -> String {
    let mut text = String::new();
    let mut upper_before = true;
    for c in word.chars() {
        if c.is_uppercase() && !upper_before {
            text.push(' ');
        }
        upper_before = c.is_uppercase();
        text.push(c);
    }
    let words = text.split(' ').map(|word| if word == "PID" { word.to_owned() } else { word.to_lowercase() });
    words.collect::<Vec<_>>().join(" ")
}

fn condition(old: Option<&NodeStatus>, kind: &str, is: bool, reason: &str, message: &str) -> NodeCondition {
    let now = Time(client::clock::now());
    let status = if is { "True" } else { "False" };
    let before = old.and_then(|old| old.conditions.iter().flatten().find(|condition| condition.type_ == kind));
    let since = before.filter(|before| before.status == status).and_then(|before| before.last_transition_time.clone());
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: since.or(Some(now)),
    }
}

/// Whether two statuses differ in more than the time they were made.
pub(super) fn same(left: &NodeStatus, right: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
            condition.last_transition_time = None;
        }
        status
    };
    still(left) == still(right)
}

/// Whether the status that the API has shows the conditions that were reported.
pub(super) fn shows(known: &NodeStatus, reported: &NodeStatus) -> bool {
    let shown = known.conditions.as_deref().unwrap_or_default();
    reported.conditions.iter().flatten().all(|ours| {
        let found = shown.iter().find(|shown| shown.type_ == ours.type_);
        found.is_some_and(|found| found.status == ours.status && found.reason == ours.reason)
    })
}

/// The strategic merge patch that writes a status; lists that only this node writes are replaced.
pub(super) fn patch(status: &NodeStatus) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(addresses) = value.get_mut("addresses").and_then(Value::as_array_mut) {
        addresses.insert(0, json!({ "$patch": "replace" }));
    }
    if status.volumes_in_use.is_none() {
        value["volumesInUse"] = Value::Null;
    }
    json!({ "status": value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressures_read_as_upstream() {
        assert_eq!(spaced(&calm("InsufficientMemory")), "sufficient memory");
        assert_eq!(spaced(&calm("InsufficientPID")), "sufficient PID");
        assert_eq!(spaced(&calm("DiskPressure")), "no disk pressure");
    }

    #[test]
    fn a_heartbeat_alone_is_no_change() {
        let with = |reason: &str| NodeStatus {
            conditions: Some(vec![condition(None, "Ready", true, reason, "")]),
            ..NodeStatus::default()
        };
        assert!(same(&with("a"), &with("a")));
        assert!(!same(&with("a"), &with("b")));
    }
}
