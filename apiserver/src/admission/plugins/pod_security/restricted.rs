//! What a pod must say of itself to be one of those that can do the least.

use serde_json::Value;

use super::baseline::{confines, forbidden_capabilities, names_of, volumes_with};
use super::pod::{Pod, Violation, is_true, named, plural, quoted, set, violation};

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
];

pub(super) fn escalation(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.bad(|context| context.get("allowPrivilegeEscalation") != Some(&Value::Bool(false)));
    if bad.is_empty() {
        return None;
    }
    violation(
        "allowPrivilegeEscalation != false",
        format!("{} must set securityContext.allowPrivilegeEscalation=false", named("container", &bad)),
    )
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let drops_all = |context: &Value| {
        let dropped = context.pointer("/capabilities/drop").and_then(Value::as_array).into_iter().flatten();
        dropped.into_iter().any(|capability| capability == "ALL")
    };
    let bad = pod.bad(|context| !drops_all(context));
    let mut details = Vec::new();
    if !bad.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named("container", &bad)));
    }
    details.extend(forbidden_capabilities(pod, &["NET_BIND_SERVICE"]));
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

pub(super) fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    let kind = |volume: &Value| {
        volume.as_object().and_then(|map| map.keys().find(|key| *key != "name").cloned()).unwrap_or_default()
    };
    let bad = volumes_with(pod, |volume| !VOLUMES.contains(&kind(volume).as_str()));
    if bad.is_empty() {
        return None;
    }
    let kinds = set(bad.iter().map(|volume| kind(volume)));
    let verb = if bad.len() == 1 { "uses" } else { "use" };
    let detail = format!(
        "{} {verb} {} {}",
        named("volume", &names_of(&bad)),
        plural("restricted volume type", kinds.len()),
        quoted(kinds.iter().map(String::as_str))
    );
    violation("restricted volume types", detail)
}

pub(super) fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    const FIELD: &str = "runAsNonRoot";
    let refuses = |value: Option<&Value>| value == Some(&Value::Bool(false));
    let of_pod = pod.context(FIELD);
    let who = Pod::pod_and(refuses(of_pod), &pod.bad(|context| refuses(context.get(FIELD))));
    if !who.is_empty() {
        let who = who.join(" and ");
        return violation("runAsNonRoot != true", format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let bad = pod.bad(|context| !is_true(context.get(FIELD)));
    if is_true(of_pod) || bad.is_empty() {
        return None;
    }
    violation(
        "runAsNonRoot != true",
        format!("pod or {} must set securityContext.runAsNonRoot=true", named("container", &bad)),
    )
}

pub(super) fn root_user(pod: &Pod<'_>) -> Option<Violation> {
    let is_root = |user: Option<&Value>| user.and_then(Value::as_i64) == Some(0);
    let who = Pod::pod_and(is_root(pod.context("runAsUser")), &pod.bad(|context| is_root(context.get("runAsUser"))));
    if who.is_empty() {
        None
    } else {
        violation("runAsUser=0", format!("{} must not set runAsUser=0", who.join(" and ")))
    }
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    const FIELD: &str = "seccompProfile";
    if let Some(explicit) = super::baseline::seccomp(pod) {
        return Some(explicit);
    }
    let bad = pod.bad(|context| !context.get(FIELD).is_some_and(confines));
    if pod.context(FIELD).is_some_and(confines) || bad.is_empty() {
        return None;
    }
    let who = named("container", &bad);
    violation(
        FIELD,
        format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""),
    )
}
