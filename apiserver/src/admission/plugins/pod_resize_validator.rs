//! PodResizeValidator: a bound pod does not ask for more than its whole node has; the kubelet would call that infeasible, later
//! and to nobody in particular. Who resizes pods by program reads the cause (`NodeCapacity`).

use std::sync::Arc;

use api::Object;
use async_trait::async_trait;
use facts::amounts;
use facts::pods::demand::Demand;
use serde_json::Value;

use super::{Phases, Plugin};
use crate::admission::{Attributes, Operation, Outcome, ValidatingAdmission, Warnings};
use crate::watch_cache::ResourceCache;

pub(super) const PLUGIN: Plugin = Plugin::on("PodResizeValidator", |server| {
    Phases::validating(PodResizeValidator { nodes: server.cache.resource("minions")? })
});

struct PodResizeValidator {
    nodes: Arc<ResourceCache>,
}

#[async_trait]
impl ValidatingAdmission for PodResizeValidator {
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, _: &mut Warnings) -> Outcome {
        let resizes = attributes.resource.group.is_empty()
            && attributes.resource.plural == "pods"
            && attributes.subresource == "resize"
            && attributes.operation == Operation::Update;
        let (Some(pod), Some(old)) = (object.filter(|_| resizes), attributes.old) else { return Ok(()) };
        let name = pod.text(&["spec", "nodeName"]);
        if name.is_empty() || pod.get(&["spec"]) == old.get(&["spec"]) {
            return Ok(());
        }
        let Some(node) = self.nodes.find("", name).await? else {
            return Err(attributes.forbidden(&format!("node {name:?} not found")));
        };
        let short = short_of(pod, &node);
        if !short.is_empty() {
            let why = format!("Node didn't have enough allocatable resources: {}", short.join("; "));
            return Err(attributes.forbidden(&why).with_cause("NodeCapacity"));
        }
        match node.text(&["metadata", "labels", "kubernetes.io/os"]) {
            "linux" => Ok(()),
            other => {
                let why = format!("pod resize is only supported on linux nodes, node {name:?} is {other:?}");
                Err(attributes.forbidden(&why).with_cause("UnsupportedPlatform"))
            }
        }
    }
}

/// What the pod asks for beyond all that the node has for pods: CPU in thousandths, memory in bytes.
fn short_of(pod: &Object, node: &Object) -> Vec<String> {
    let Some(spec) = pod.get(&["spec"]).and_then(Value::as_object) else { return Vec::new() };
    let requests = Demand::of_tree(spec, pod.get(&["status"])).requests();
    let allocatable = amounts::read(node.get(&["status", "allocatable"]));
    let mut short = Vec::new();
    for resource in ["cpu", "memory"] {
        let amount = |list: &amounts::Amounts<'_>| {
            let amount = list.get(resource).copied().unwrap_or_default();
            if resource == "cpu" { amount.milli_value() } else { amount.value() }
        };
        let (requested, has) = (amount(&requests), amount(&allocatable));
        if requested > has {
            short.push(format!("{resource}, requested: {requested}, allocatable: {has}"));
        }
    }
    short
}
