//! RuntimeClass: a pod costs and is placed as its runtime demands.

use std::sync::Arc;

use api::Object;
use async_trait::async_trait;
use facts::quantity::Quantity;
use serde_json::Value;

use super::{Phases, Plugin};
use crate::admission::{Attributes, MutatingAdmission, Outcome, Warnings};
use crate::watch_cache::ResourceCache;

pub(super) const PLUGIN: Plugin = Plugin::on("RuntimeClass", |server| {
    Phases::mutating(RuntimeClass { classes: server.cache.resource("runtimeclasses")? })
});

struct RuntimeClass {
    classes: Arc<ResourceCache>,
}

#[async_trait]
impl MutatingAdmission for RuntimeClass {
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        let Some(pod) = object.filter(|_| attributes.creates("", "pods")) else { return Ok(()) };
        let refuse = |why: String| Err(attributes.forbidden(&why));
        let name = pod.text(&["spec", "runtimeClassName"]).to_owned();
        let given = pod
            .get(&["spec", "overhead"])
            .filter(|overhead| overhead.as_object().is_some_and(|map| !map.is_empty()))
            .cloned();
        let class = if name.is_empty() {
            None
        } else {
            // One that was made or deleted a moment ago is known to be.
            self.classes.settle().await?;
            self.classes.get(&self.classes.key("", &name)).map(|cached| cached.object())
        };
        if !name.is_empty() && class.is_none() {
            return refuse(format!("pod rejected: RuntimeClass {name:?} not found"));
        }
        let fixed = class.as_ref().and_then(|class| class.get(&["overhead", "podFixed"]).cloned());
        match (given, fixed) {
            (Some(given), Some(fixed)) if !equal_quantities(&given, &fixed) => {
                return refuse("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
            }
            (Some(_), None) => {
                return refuse(
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".into(),
                );
            }
            (None, Some(fixed)) => pod.set(&["spec", "overhead"], fixed),
            _ => {}
        }
        match class {
            Some(class) => place(&class, pod).or_else(refuse),
            None => Ok(()),
        }
    }
}

/// Merges the class's node selector and tolerations into the pod's.
fn place(class: &Object, pod: &mut Object) -> Result<(), String> {
    let selector = class.get(&["scheduling", "nodeSelector"]).and_then(Value::as_object);
    for (key, wanted) in selector.into_iter().flatten() {
        if let Some(known) = pod.get(&["spec", "nodeSelector", key]).filter(|known| *known != wanted) {
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(wanted),
                text(known)
            ));
        }
        pod.set(&["spec", "nodeSelector", key], wanted.clone());
    }
    let wanted = class.get(&["scheduling", "tolerations"]).and_then(Value::as_array).into_iter().flatten();
    let mut tolerations = pod.get(&["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let before = tolerations.len();
    for toleration in wanted {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    if tolerations.len() > before {
        pod.set(&["spec", "tolerations"], tolerations);
    }
    Ok(())
}

/// Whether two maps of quantities mean the same.
fn equal_quantities(one: &Value, other: &Value) -> bool {
    let read = |tree: &Value| -> Option<Vec<(String, Quantity)>> {
        let mut all: Vec<(String, Quantity)> = tree
            .as_object()?
            .iter()
            .map(|(key, value)| Some((key.clone(), Quantity::of_value(value)?)))
            .collect::<Option<_>>()?;
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Some(all)
    };
    read(one).is_some_and(|one| read(other).is_some_and(|other| one == other))
}
