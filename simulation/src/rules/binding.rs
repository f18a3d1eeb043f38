//! A pod is bound once, to a node that has room for it and took pods lately.

use serde_json::Value;

use super::Rule;
use super::lately::Lately;
use crate::objects::{self, Change};

#[derive(Default)]
pub(super) struct Binding {
    cordoned: Lately<bool>,
}

impl Rule for Binding {
    fn name(&self) -> &'static str {
        "binding"
    }

    fn see(&mut self, change: &Change<'_>) -> Result<(), String> {
        let Some(new) = change.new else { return Ok(()) };
        if change.kind() == "minions" {
            self.cordoned.set(
                objects::name(new),
                change.at,
                new.pointer("/spec/unschedulable") == Some(&Value::Bool(true)),
            );
        }
        if change.kind() != "pods" {
            return Ok(());
        }
        let was = change.old.map(|old| objects::text(old, "/spec/nodeName")).unwrap_or_default();
        let node = objects::text(new, "/spec/nodeName");
        if !was.is_empty() && was != node {
            return Err(format!("{} moves from {was} to {node:?}", change.key));
        }
        if node.is_empty() || !was.is_empty() {
            return Ok(());
        }
        let tolerates = new
            .pointer("/spec/tolerations")
            .and_then(Value::as_array)
            .is_some_and(|all| all.iter().any(|one| objects::text(one, "/key") == "node.kubernetes.io/unschedulable"));
        let mut cordoned = self.cordoned.of(node, change.at).peekable();
        if !tolerates && cordoned.peek().is_some() && cordoned.all(|cordoned| cordoned) {
            return Err(format!("{} is bound to {node}, which takes no pods", change.key));
        }
        has_room(change, node)
    }
}

fn has_room(change: &Change<'_>, name: &str) -> Result<(), String> {
    let Some(node) = change.objects.get(&format!("minions/{name}")) else { return Ok(()) };
    let on_node = |pod: &Value| objects::text(pod, "/spec/nodeName") == name && !objects::is_over(pod);
    let pods: Vec<_> = objects::of(change.objects, "pods").filter(|(_, pod)| on_node(pod)).collect();
    for resource in ["cpu", "memory"] {
        let wanted: i64 = pods.iter().map(|(_, pod)| objects::requests(pod, resource)).sum();
        let room = node.pointer("/status/allocatable").and_then(|all| all.get(resource)).map_or(0, objects::amount);
        if wanted > room {
            return Err(format!("{} does not fit on {name}: {wanted} of {room} m{resource}", change.key));
        }
    }
    Ok(())
}
