//! PodGroupWorkloadExists: a group that says of which template it was made says so of one that is there.

use std::sync::Arc;

use api::Object;
use async_trait::async_trait;
use serde_json::Value;

use super::{Phases, Plugin};
use crate::admission::{Attributes, Outcome, ValidatingAdmission, Warnings};
use crate::watch_cache::ResourceCache;

pub(super) const PLUGIN: Plugin = Plugin::on("PodGroupWorkloadExists", |server| {
    Phases::validating(PodGroupWorkloadExists { workloads: server.cache.resource("workloads")? })
});

struct PodGroupWorkloadExists {
    workloads: Arc<ResourceCache>,
}

#[async_trait]
impl ValidatingAdmission for PodGroupWorkloadExists {
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, _: &mut Warnings) -> Outcome {
        let Some(group) = object.filter(|_| attributes.creates("scheduling.k8s.io", "podgroups")) else {
            return Ok(());
        };
        let of = ["spec", "podGroupTemplateRef", "workload"];
        if group.get(&of).is_none_or(Value::is_null) {
            return Ok(());
        }
        let named = |field| group.text(&[of[0], of[1], of[2], field]);
        let (name, template) = (named("workloadName"), named("podGroupTemplateName"));
        let Some(workload) = self.workloads.find(attributes.namespace, name).await? else {
            return Err(attributes.forbidden(&format!("PodGroup rejected: Workload {name:?} not found")));
        };
        let templates = workload.get(&["spec", "podGroupTemplates"]).and_then(Value::as_array);
        if templates.into_iter().flatten().any(|known| known.get("name").and_then(Value::as_str) == Some(template)) {
            return Ok(());
        }
        let why = format!("PodGroup rejected: PodGroupTemplate {template:?} not found in Workload {name:?}");
        Err(attributes.forbidden(&why))
    }
}
