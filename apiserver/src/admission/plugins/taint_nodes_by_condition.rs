//! TaintNodesByCondition: a new node takes no pods before it is known to be ready.

use api::Object;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Phases, Plugin};
use crate::admission::{Attributes, MutatingAdmission, Outcome, Warnings};

pub(super) const PLUGIN: Plugin = Plugin::on("TaintNodesByCondition", |_| Phases::mutating(TaintNodesByCondition));

struct TaintNodesByCondition;

#[async_trait]
impl MutatingAdmission for TaintNodesByCondition {
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        let Some(node) = object.filter(|_| attributes.creates("", "nodes")) else { return Ok(()) };
        let mut taints = node.get(&["spec", "taints"]).and_then(Value::as_array).cloned().unwrap_or_default();
        let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
        if !taints
            .iter()
            .any(|taint| taint.get("key") == not_ready.get("key") && taint.get("effect") == not_ready.get("effect"))
        {
            taints.push(not_ready);
            node.set(&["spec", "taints"], taints);
        }
        Ok(())
    }
}
