//! PodSecurity (upstream's `k8s.io/pod-security-admission`): a namespace's labels say how much its pods may do, or else the plugin's settings. `enforce` refuses,
//! `warn` tells the client, `audit` the audit log.

mod baseline;
mod checks;
mod pod;
mod restricted;
mod settings;

use std::sync::Arc;

use api::field::{FieldError, Path};
use api::status::Qualified;
use api::{ApiError, Object};
use async_trait::async_trait;
use serde_json::Value;

use self::checks::violations;
use self::pod::Violation;
use self::settings::{Level, Standard};
use super::pods::template_path;
use super::{Phases, Plugin, in_namespace};
use crate::admission::{Attributes, Operation, Outcome, ValidatingAdmission, Warnings};
use crate::audit;
use crate::watch_cache::ResourceCache;

pub(in crate::admission) use self::settings::{Exemptions, Settings, Standards};

const LABEL: &str = "pod-security.kubernetes.io/";
/// Existing pods that are looked at when a namespace becomes stricter.
const MAX_PODS: usize = 3000;

pub(super) const PLUGIN: Plugin = Plugin::on("PodSecurity", |server| {
    let (namespaces, pods) = (server.cache.resource("namespaces")?, server.cache.resource("pods")?);
    Phases::validating(PodSecurity { namespaces, pods, settings: server.configuration.pod_security.clone() })
});

struct PodSecurity {
    namespaces: Arc<ResourceCache>,
    pods: Arc<ResourceCache>,
    settings: Settings,
}

impl PodSecurity {
    /// Whether the configuration takes a request out.
    fn is_exempt(&self, attributes: &Attributes<'_>, spec: Option<&Value>) -> bool {
        let exempt = &self.settings.exempt;
        let class = spec.and_then(|spec| spec.get("runtimeClassName")).and_then(Value::as_str);
        exempt.namespaces.iter().any(|name| name == attributes.namespace_name())
            || exempt.usernames.contains(&attributes.user.name)
            || class.is_some_and(|class| exempt.runtime_classes.iter().any(|name| name == class))
    }

    fn pod(
        &self,
        attributes: &Attributes<'_>,
        pod: &Object,
        namespace: &Object,
        warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        if !attributes.subresource.is_empty() && attributes.subresource != "ephemeralcontainers" {
            return Ok(());
        }
        if attributes.old.is_some_and(|old| !is_significant(old, pod)) {
            return Ok(());
        }
        let Some(spec) = pod.get(&["spec"]).filter(|spec| !self.is_exempt(attributes, Some(spec))) else {
            return Ok(());
        };
        let enforced = self.settings.standard(namespace, "enforce");
        let pod_is = (pod.get(&["metadata"]), spec);
        note(pod_is, self.settings.standard(namespace, "audit"));
        if let Some(standard) = &enforced {
            let found = violations(pod_is.0, spec, standard);
            if !found.is_empty() {
                let why = format!("violates PodSecurity {:?}: {}", standard.shown, show(&found));
                return Err(ApiError::forbidden(attributes.resource.qualified(), pod.name(), &why));
            }
        }
        let warned = self.settings.standard(namespace, "warn").filter(|warned| enforced.as_ref() != Some(warned));
        warn(pod_is, warned, warnings);
        Ok(())
    }

    /// Tells which pods a stricter namespace would not take any more.
    fn existing(&self, attributes: &Attributes<'_>, old: &Object, new: &Object, warnings: &mut Warnings) {
        let Some(standard) = self.settings.standard(new, "enforce") else { return };
        let before = self.settings.standard(old, "enforce");
        if before.as_ref() == Some(&standard)
            || before.is_some_and(|before| before.level >= standard.level)
            || standard.level == Level::Privileged
        {
            return;
        }
        let mut lines: Vec<(String, String, usize)> = Vec::new();
        let snapshot = self.pods.snapshot();
        for pod in in_namespace(&self.pods, &snapshot, attributes.name).take(MAX_PODS) {
            let pod = pod.object();
            let metadata = pod.get(&["metadata"]);
            let found = pod.get(&["spec"]).map(|spec| violations(metadata, spec, &standard)).unwrap_or_default();
            if found.is_empty() {
                continue;
            }
            let reasons = found.iter().map(|violation| violation.reason.as_str()).collect::<Vec<_>>().join(", ");
            match lines.iter_mut().find(|(_, known, _)| *known == reasons) {
                Some((_, _, count)) => *count += 1,
                None => lines.push((pod.name().to_owned(), reasons, 1)),
            }
        }
        if lines.is_empty() {
            return;
        }
        warnings.push(format!(
            "existing pods in namespace {:?} violate the new PodSecurity enforce level {:?}",
            attributes.name, standard.shown
        ));
        warnings.extend(lines.into_iter().map(|(name, reasons, count)| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            _ => format!("{name} (and {} other pods): {reasons}", count - 1),
        }));
    }
}

fn show(found: &[Violation]) -> String {
    found.iter().map(|violation| format!("{} ({})", violation.reason, violation.detail)).collect::<Vec<_>>().join(", ")
}

/// A pod that is or may be: its metadata and its spec.
type Judged<'a> = (Option<&'a Value>, &'a Value);

fn warn((metadata, spec): Judged<'_>, standard: Option<Standard>, warnings: &mut Warnings) {
    let Some(standard) = standard else { return };
    let found = violations(metadata, spec, &standard);
    if !found.is_empty() {
        warnings.push(format!("would violate PodSecurity {:?}: {}", standard.shown, show(&found)));
    }
}

/// Notes in the audit log what the namespace wants to know of.
fn note((metadata, spec): Judged<'_>, standard: Option<Standard>) {
    let Some(standard) = standard.filter(|_| audit::is_recorded()) else { return };
    let found = violations(metadata, spec, &standard);
    if !found.is_empty() {
        let why = || format!("would violate PodSecurity {:?}: {}", standard.shown, show(&found));
        audit::annotate("pod-security.kubernetes.io/audit-violations", why);
    }
}

/// Whether an update changes what is checked: of a running pod, only its containers and their images.
fn is_significant(old: &Object, new: &Object) -> bool {
    let images = |pod: &Object| -> Vec<Vec<String>> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let of = |list: &str| {
            let containers = pod.get(&["spec", list]).and_then(Value::as_array).into_iter().flatten();
            containers
                .map(|container| container.get("image").and_then(Value::as_str).unwrap_or("").to_owned())
                .collect()
        };
        lists.into_iter().map(of).collect()
    };
    images(old) != images(new)
}

/// The pod template of a workload.
fn template<'a>(attributes: &Attributes<'_>, object: &'a Object) -> Option<Judged<'a>> {
    let (_, template) = template_path(attributes.resource)?.split_last()?;
    let template = object.get(template)?;
    Some((template.get("metadata"), template.get("spec")?))
}

/// The minor version that labels and settings name; the latest one is the greatest of all.
fn minor_version(text: &str) -> Option<u32> {
    if text == "latest" { Some(u32::MAX) } else { text.strip_prefix("v1.")?.parse().ok() }
}

/// What is wrong with the labels of a namespace.
fn label_errors(namespace: &Object) -> Vec<FieldError> {
    let at = Path::new("metadata").child("labels");
    let mut errors = Vec::new();
    for mode in ["enforce", "audit", "warn"] {
        let (level, version) = (format!("{LABEL}{mode}"), format!("{LABEL}{mode}-version"));
        if let Some(text) = namespace.label(&level).filter(|text| Level::parse(text).is_none()) {
            errors.push(FieldError::invalid(&at.key(&level), text, "must be one of privileged, baseline, restricted"));
        }
        if let Some(text) = namespace.label(&version).filter(|text| minor_version(text).is_none()) {
            errors.push(FieldError::invalid(&at.key(&version), text, "must be \"latest\" or \"v1.x\""));
        }
    }
    errors
}

#[async_trait]
impl ValidatingAdmission for PodSecurity {
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, warnings: &mut Warnings) -> Outcome {
        let Some(object) = object.filter(|_| matches!(attributes.operation, Operation::Create | Operation::Update))
        else {
            return Ok(());
        };
        if attributes.is("", "namespaces") {
            let errors = label_errors(object);
            if !errors.is_empty() && attributes.old.is_none_or(|old| label_errors(old) != errors) {
                return Err(ApiError::invalid(Qualified { group: "", resource: "Namespace" }, object.name(), &errors));
            }
            if let Some(old) = attributes.old.filter(|_| !self.is_exempt(attributes, None)) {
                self.pods.settle().await?;
                self.existing(attributes, old, object, warnings);
            }
            return Ok(());
        }
        let is_pod = attributes.resource.group.is_empty() && attributes.resource.plural == "pods";
        let template = if attributes.subresource.is_empty() { template(attributes, object) } else { None };
        if !is_pod && template.is_none() {
            return Ok(());
        }
        self.namespaces.settle().await?;
        let key = self.namespaces.key("", attributes.namespace);
        let Some(namespace) = self
            .namespaces
            .get(&key)
            .filter(|cached| self.settings.has_defaults() || cached.labels.any(|key| key.starts_with(LABEL)))
            .map(|cached| cached.object())
        else {
            return Ok(());
        };
        if is_pod {
            return self.pod(attributes, object, &namespace, warnings);
        }
        if let Some(pod) = template.filter(|(_, spec)| !self.is_exempt(attributes, Some(spec))) {
            let standard = |mode: &str| self.settings.standard(&namespace, mode);
            note(pod, standard("audit"));
            warn(pod, standard("warn").or_else(|| standard("enforce")), warnings);
        }
        Ok(())
    }
}
