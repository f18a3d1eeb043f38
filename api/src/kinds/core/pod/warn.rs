//! What warns the authors of pods (upstream: `GetWarningsForPod`).

use crate::kinds::pods::{annotations, warn};
use crate::kinds::rules::addresses;
use crate::kinds::rules::tree::Node;

/// A new `Pod`. Changes of pods are by machines, which read no texts.
pub(crate) fn pod(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if old.is_some() {
        return;
    }
    let metadata = new.field("metadata");
    warn::pod_name(&metadata, "the Pod's hostname", texts);
    warn::all(new, false, texts);
}

/// The addresses of a pod's status.
pub(crate) fn status(new: &Node<'_, '_>, texts: &mut Vec<String>) {
    let status = new.field("status");
    for list in ["podIPs", "hostIPs"] {
        for one in status.field(list).items() {
            let ip = one.field("ip");
            texts.extend(addresses::ip_warning(&ip.path(), ip.text()));
        }
    }
}

/// Annotations that had no field beside them, or say nothing that a field could.
pub(crate) fn app_armor(pod: &Node<'_, '_>, texts: &mut Vec<String>) {
    const TEXT: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
    let (metadata, spec) = (pod.field("metadata"), pod.field("spec"));
    if spec.field("os").field("name").text() == "windows" {
        return;
    }
    let (annotations, context) = (metadata.field("annotations"), spec.field("securityContext"));
    for list in ["initContainers", "containers"] {
        for container in spec.field(list).items() {
            let name = format!("{}{}", annotations::APP_ARMOR, container.field("name").text());
            let Some((name, annotation)) = annotations.entries().find(|(known, _)| *known == name) else { continue };
            let profile = annotations::app_armor_profile(annotation.text());
            let own = container.field("securityContext");
            let own = own.field("appArmorProfile");
            let became = profile.is_some() && own.value() == profile.as_ref();
            if became || (own.is_unset() && profile.as_ref() != context.field("appArmorProfile").value()) {
                texts.push(format!("{}: {TEXT}", annotations.key(name).path()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::rules::checks::check_warnings;

    #[test]
    fn names_of_pods_are_names_of_hosts() {
        let pod = json!({"metadata": {"name": "a.b"}});
        check_warnings(
            super::pod,
            &pod,
            None,
            &[
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
            ],
        );
        check_warnings(super::pod, &pod, Some(&pod), &[]);
    }

    #[test]
    fn an_annotation_without_its_field_is_told() {
        let name = "container.apparmor.security.beta.kubernetes.io/c";
        let text = "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \"appArmorProfile\" field instead";
        let pod = |profile: Value| {
            json!({"metadata": {"name": "p", "annotations": {name: "unconfined"}}, "spec": {
                "securityContext": profile, "containers": [{"name": "c"}]}})
        };
        let told = |pod: Value| {
            let mut texts = Vec::new();
            app_armor(&Node::root(pod.as_object().expect("an object")), &mut texts);
            texts
        };
        assert_eq!(told(pod(json!({}))), [text]);
        assert_eq!(told(pod(json!({"appArmorProfile": {"type": "Unconfined"}}))), Vec::<String>::new());
    }
}
