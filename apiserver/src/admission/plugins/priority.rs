//! What pods are given where they say nothing: tolerations, a priority, a runtime's overhead.

use std::sync::Arc;

use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::admission::{Attributes, MutatingAdmission, Operation, Warnings, equal_quantities};
use crate::watch_cache::{ResourceCache, WatchCache};

/// DefaultTolerationSeconds: pods stay for a while on a node that is not ready or not reachable.
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

/// Priority: the number behind a pod's priority class.
pub struct Priority {
    classes: Arc<ResourceCache>,
}

impl Priority {
    /// Reads classes from the cache.
    pub fn new(cache: &WatchCache) -> Option<Self> {
        Some(Self { classes: cache.resource("priorityclasses")? })
    }

    /// A class by its name. One that is not there may have been made a moment ago.
    async fn class(&self, name: &str) -> Result<Option<Object>, ApiError> {
        let key = self.classes.key("", name);
        let known = || self.classes.get(&key).map(|cached| cached.object());
        if let Some(class) = known() {
            return Ok(Some(class));
        }
        self.classes.settle().await?;
        Ok(known())
    }

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
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
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
        let refuse = |why: String| ApiError::forbidden(attributes.resource.qualified(), attributes.name, &why);
        let named = pod.text(&["spec", "priorityClassName"]).to_owned();
        let class = if named.is_empty() {
            self.default_class()
        } else {
            let found = self.class(&named).await?;
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

/// RuntimeClass: a pod costs and is placed as its runtime demands.
pub struct RuntimeClass {
    classes: Arc<ResourceCache>,
}

impl RuntimeClass {
    /// Reads classes from the cache.
    pub fn new(cache: &WatchCache) -> Option<Self> {
        Some(Self { classes: cache.resource("runtimeclasses")? })
    }
}

#[async_trait]
impl MutatingAdmission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let Some(pod) = object.filter(|_| attributes.is("", "pods") && attributes.operation == Operation::Create)
        else {
            return Ok(());
        };
        let refuse = |why: String| Err(ApiError::forbidden(attributes.resource.qualified(), attributes.name, &why));
        let name = pod.text(&["spec", "runtimeClassName"]).to_owned();
        let given = pod
            .get(&["spec", "overhead"])
            .filter(|overhead| overhead.as_object().is_some_and(|map| !map.is_empty()))
            .cloned();
        let class = if name.is_empty() {
            None
        } else {
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
/// Where a workload keeps the spec of its pods' template.
pub(super) fn template_path(resource: &Resource) -> Option<&'static [&'static str]> {
    match (resource.group.as_ref(), resource.plural.as_ref()) {
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("", "replicationcontrollers")
        | ("batch", "jobs") => Some(&["spec", "template", "spec"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template", "spec"]),
        ("", "podtemplates") => Some(&["template", "spec"]),
        _ => None,
    }
}
