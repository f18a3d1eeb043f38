//! DefaultTolerationSeconds: pods stay for a while on a node that is not ready or not reachable.

use api::Object;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Phases, Plugin};
use crate::admission::{Attributes, MutatingAdmission, Operation, Outcome, Warnings};

pub(super) const PLUGIN: Plugin =
    Plugin::on("DefaultTolerationSeconds", |server| Phases::mutating(server.toleration_seconds.clone()));

/// The plugin is what its flags say.
#[derive(Clone, Debug, clap::Args)]
pub struct DefaultTolerationSeconds {
    /// Seconds that a pod stays on a node that is not ready, if it says nothing itself.
    #[arg(long, default_value_t = 300)]
    pub default_not_ready_toleration_seconds: i64,
    /// Seconds that a pod stays on a node that is not reachable, if it says nothing itself.
    #[arg(long, default_value_t = 300)]
    pub default_unreachable_toleration_seconds: i64,
}

impl Default for DefaultTolerationSeconds {
    fn default() -> Self {
        daemon::pflag::defaults()
    }
}

#[async_trait]
impl MutatingAdmission for DefaultTolerationSeconds {
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        let is_written = matches!(attributes.operation, Operation::Create | Operation::Update);
        let Some(pod) = object.filter(|_| attributes.is("", "pods") && is_written) else { return Ok(()) };
        let mut tolerations = pod.get(&["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
        let taints = [
            ("node.kubernetes.io/not-ready", self.default_not_ready_toleration_seconds),
            ("node.kubernetes.io/unreachable", self.default_unreachable_toleration_seconds),
        ];
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
