//! DefaultTolerationSeconds: pods stay for a while on a node that is not ready or not reachable.

use api::{ApiError, Object};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::admission::{Attributes, MutatingAdmission, Operation, Warnings};

/// The plugin.
pub struct DefaultTolerationSeconds {
    /// Seconds on a node that is not ready.
    pub not_ready: i64,
    /// Seconds on a node that is not reachable.
    pub unreachable: i64,
}

#[async_trait]
impl MutatingAdmission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let is_written = matches!(attributes.operation, Operation::Create | Operation::Update);
        let Some(pod) = object.filter(|_| attributes.is("", "pods") && is_written) else { return Ok(()) };
        let mut tolerations = pod.get(&["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
        let taints =
            [("node.kubernetes.io/not-ready", self.not_ready), ("node.kubernetes.io/unreachable", self.unreachable)];
        for (key, seconds) in taints {
            let covers = |toleration: &Value| {
                let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or("");
                matches!(text("key"), known if known.is_empty() || known == key)
                    && matches!(text("effect"), "" | "NoExecute")
            };
            if !tolerations.iter().any(covers) {
                tolerations.push(
                    json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}),
                );
            }
        }
        pod.set(&["spec", "tolerations"], tolerations);
        Ok(())
    }
}
