//! Priority: the number behind a pod's priority class.

use std::sync::Arc;

use api::{ApiError, Object};
use async_trait::async_trait;
use serde_json::Value;

use super::{Phases, Plugin};
use crate::admission::{Attributes, MutatingAdmission, Operation, Outcome, Warnings};
use crate::watch_cache::ResourceCache;

pub(super) const PLUGIN: Plugin =
    Plugin::on("Priority", |server| Phases::mutating(Priority { classes: server.cache.resource("priorityclasses")? }));

struct Priority {
    classes: Arc<ResourceCache>,
}

impl Priority {
    /// The class for pods that name none: the lowest of those that are marked so.
    fn default_class(&self) -> Option<Object> {
        let classes = self.classes.snapshot();
        let classes = classes.objects.values().map(|cached| cached.tree());
        classes
            .filter(|class| class.get(&["globalDefault"]) == Some(&Value::Bool(true)))
            .min_by_key(|class| class.integer(&["value"]))
            .cloned()
    }
}

#[async_trait]
impl MutatingAdmission for Priority {
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        let Some(pod) = object else { return Ok(()) };
        if attributes.is("scheduling.k8s.io", "priorityclasses") {
            return self.only_default(attributes, pod);
        }
        if !attributes.is("", "pods") {
            return Ok(());
        }
        if attributes.operation == Operation::Update {
            for field in ["priority", "preemptionPolicy"] {
                let kept = attributes.old.and_then(|old| old.get(&["spec", field]).cloned());
                if let Some(kept) = kept.filter(|_| pod.get(&["spec", field]).is_none()) {
                    pod.set(&["spec", field], kept);
                }
            }
            return Ok(());
        }
        if attributes.operation != Operation::Create {
            return Ok(());
        }
        let refuse = |why: String| attributes.forbidden(&why);
        let named = pod.text(&["spec", "priorityClassName"]).to_owned();
        let class = if named.is_empty() {
            self.default_class()
        } else {
            let found = self.classes.find("", &named).await?;
            Some(found.ok_or_else(|| refuse(format!("no PriorityClass with name {named} was found")))?)
        };
        let value = class.as_ref().and_then(|class| class.integer(&["value"])).unwrap_or(0);
        let policy = class.as_ref().map_or("", |class| class.text(&["preemptionPolicy"]));
        let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy }.to_owned();
        if let Some(given) = pod.integer(&["spec", "priority"]).filter(|given| *given != value) {
            return Err(refuse(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; \
                 priority admission controller computed {value} from the given PriorityClass name"
            )));
        }
        let given = pod.text(&["spec", "preemptionPolicy"]);
        if !given.is_empty() && given != policy {
            return Err(refuse(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
                 priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        if let Some(class) = class.filter(|_| named.is_empty()) {
            pod.set(&["spec", "priorityClassName"], class.name());
        }
        pod.set(&["spec", "priority"], value);
        pod.set(&["spec", "preemptionPolicy"], policy);
        Ok(())
    }
}

impl Priority {
    fn only_default(&self, attributes: &Attributes<'_>, class: &Object) -> Result<(), ApiError> {
        if class.get(&["globalDefault"]) != Some(&Value::Bool(true)) || attributes.operation == Operation::Delete {
            return Ok(());
        }
        match self.default_class().filter(|known| known.name() != class.name()) {
            None => Ok(()),
            Some(known) => {
                let why =
                    format!("PriorityClass {} is already marked as default. Only one default can exist", known.name());
                Err(ApiError::forbidden(attributes.resource.qualified(), class.name(), &why))
            }
        }
    }
}
