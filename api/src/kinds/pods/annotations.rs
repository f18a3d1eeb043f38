//! Rules for annotations that mean something to pods: mirror pods, the cost of deletion, and what was an annotation
//! before it became a field.

use serde_json::{Value, json};

use crate::kinds::pods::volumes::paths::descending_path;
use crate::kinds::rules::tree::{Errors, Node};

/// Copied by kubelets onto what they run without being told.
const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
pub(crate) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub(crate) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub(crate) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Whether a pod mirrors one that a kubelet runs of its own accord.
pub(crate) fn is_mirror(pod: &Node<'_, '_>) -> bool {
    pod.field("metadata").field("annotations").map().is_some_and(|map| map.contains_key(MIRROR))
}

/// The annotations of a pod or a template.
pub(crate) fn rules(at: &Node<'_, '_>, spec: &Node<'_, '_>, errors: &mut Errors) {
    for (name, value) in at.entries() {
        let text = value.text();
        match name {
            MIRROR if spec.field("nodeName").text().is_empty() => {
                errors.invalid(&value, "must set spec.nodeName if mirror pod annotation is set");
            }
            DELETION_COST if !is_cost(text) => errors.invalid(&value, "must be a 32bit integer"),
            SECCOMP_POD => seccomp(at, name, text, errors),
            _ if name.starts_with(SECCOMP_CONTAINER) => seccomp(at, name, text, errors),
            _ => {
                if let Some(container) = name.strip_prefix(APP_ARMOR) {
                    app_armor(&value, container, spec, errors);
                }
            }
        }
    }
}

/// A number without a plus sign or leading zeros.
fn is_cost(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits == "0" || digits.starts_with(|c: char| ('1'..='9').contains(&c));
    text.is_empty() || (plain && text.parse::<i32>().is_ok())
}

fn seccomp(at: &Node<'_, '_>, name: &str, profile: &str, errors: &mut Errors) {
    let shown = at.field(name);
    match profile.strip_prefix("localhost/") {
        Some(path) => {
            let (place, path) = (shown.path(), Value::from(path));
            descending_path(&Node::at(&place, Some(&path)), errors);
        }
        None if matches!(profile, "runtime/default" | "docker/default" | "unconfined") => {}
        None => errors.invalid_value(&shown, profile, "must be a valid seccomp profile"),
    }
}

fn app_armor(at: &Node<'_, '_>, container: &str, spec: &Node<'_, '_>, errors: &mut Errors) {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let known = lists.iter().any(|list| spec.field(list).items().any(|one| one.field("name").text() == container));
    if !known {
        errors.invalid_value(at, container, "container not found");
    }
    let profile = at.text();
    if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with("localhost/") {
        errors.invalid(at, &format!("invalid AppArmor profile name: {profile:?}"));
    }
}

/// What is said as annotation and as field must be the same.
pub(crate) fn match_fields(at: &Node<'_, '_>, spec: &Node<'_, '_>, errors: &mut Errors) {
    let annotation = |name: &str| at.map().and_then(|map| map.get(name)).and_then(Value::as_str);
    let context = spec.field("securityContext");
    if let Some(text) = annotation(SECCOMP_POD) {
        same(&context.field("seccompProfile"), text, "seccomp", errors);
    }
    let windows = spec.field("os").field("name").text() == "windows";
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.field(list).items() {
            let (name, own) = (container.field("name").text(), container.field("securityContext"));
            if let Some(text) = annotation(&format!("{SECCOMP_CONTAINER}{name}")) {
                same(&own.field("seccompProfile"), text, "seccomp", errors);
            }
            if let Some(text) = annotation(&format!("{APP_ARMOR}{name}")).filter(|_| !windows) {
                let profile = own.field("appArmorProfile");
                let place = profile.path();
                let inherited = context.field("appArmorProfile").value();
                same(&Node::at(&place, profile.value().or(inherited)), text, "apparmor", errors);
            }
        }
    }
}

fn same(profile: &Node<'_, '_>, annotation: &str, what: &str, errors: &mut Errors) {
    let (kind, file) = (profile.field("type"), profile.field("localhostProfile"));
    let docker = what == "seccomp" && annotation == "docker/default";
    let types_match = match kind.text() {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => annotation == "runtime/default" || docker,
        "Localhost" => annotation.starts_with("localhost/"),
        _ => true,
    };
    if !types_match {
        errors.forbidden(&kind, &format!("{what} type in annotation and field must match"));
    } else if kind.text() == "Localhost"
        && (file.is_unset() || annotation.strip_prefix("localhost/") != Some(file.text()))
    {
        errors.forbidden(&file, &format!("{what} profile in annotation and field must match"));
    }
}

/// What an annotation of a container says as a profile; `None` when it says none.
pub(crate) fn app_armor_profile(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        _ => {
            let file = annotation.strip_prefix("localhost/")?;
            let fits = !file.is_empty() && file.trim() == file && file.len() <= 4095;
            fits.then(|| json!({"type": "Localhost", "localhostProfile": file}))
        }
    }
}

/// What may not change: whether a pod is a mirror, and what AppArmor does to it.
pub(crate) fn change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let fixed = |name: &str| match name {
        MIRROR => Some("mirror pod annotation"),
        _ if name.starts_with(APP_ARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    for (name, had) in old.entries() {
        let now = new.map().and_then(|map| map.get(name));
        if let Some(what) = fixed(name).filter(|_| now != had.value()) {
            errors.forbidden(&new.key(name), &format!("may not remove or update {what}"));
        }
    }
    for (name, added) in new.entries().filter(|(name, _)| old.map().is_none_or(|map| !map.contains_key(*name))) {
        if let Some(what) = fixed(name) {
            errors.forbidden(&added, &format!("may not add {what}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&Node<'_, '_>, &Node<'_, '_>, &mut Errors), at: &Value, other: &Value, want: &[&str]) {
        let mut errors = Errors::default();
        let (at, other) = (at.as_object().expect("an object"), other.as_object().expect("an object"));
        let (at, other) = (Node::root(at), Node::root(other));
        rule(&at.field("annotations"), &other, &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn annotations_with_a_meaning_have_values_with_one() {
        let spec = json!({"containers": [{"name": "c"}]});
        for (name, value, want) in [
            (DELETION_COST, "-10", vec![]),
            (
                DELETION_COST,
                "+1",
                vec![
                    "annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+1\": must be a 32bit integer",
                ],
            ),
            (
                SECCOMP_POD,
                "odd",
                vec![
                    "annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: \"odd\": must be a valid seccomp profile",
                ],
            ),
            ("container.apparmor.security.beta.kubernetes.io/c", "localhost/x", vec![]),
            (
                "container.apparmor.security.beta.kubernetes.io/d",
                "unconfined",
                vec![
                    "annotations[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: \"d\": container not found",
                ],
            ),
        ] {
            check(rules, &json!({"annotations": {name: value}}), &spec, &want);
        }
    }

    #[test]
    fn a_field_and_its_annotation_say_the_same() {
        let annotations = json!({"annotations": {SECCOMP_POD: "unconfined"}});
        let spec = json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}});
        check(
            match_fields,
            &annotations,
            &spec,
            &["securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match"],
        );
    }
}
