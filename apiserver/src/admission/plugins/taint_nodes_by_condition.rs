//! TaintNodesByCondition: a new node takes no pods before it is known to be ready.

use api::{ApiError, Object};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::admission::{Attributes, MutatingAdmission, Operation, Warnings};

/// The plugin.
pub struct TaintNodesByCondition;

#[async_trait]
impl MutatingAdmission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let Some(node) = object.filter(|_| attributes.is("", "nodes") && attributes.operation == Operation::Create)
        else {
            return Ok(());
        };
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
