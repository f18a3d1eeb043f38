//! Rows of the other groups: access, admission, scheduling, flow control, certificates, the API itself.

use jiff::Timestamp;
use serde_json::Value;

use super::Printer;
use super::duration::human_duration;
use super::text::{NONE, UNSET, age, list, number, or, selector_or_none, text};
use crate::object::Object;

pub(super) fn printer(group: &str, plural: &str) -> Option<Printer> {
    Some(match (group, plural) {
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => mutating_policy,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => validating_policy,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings" | "validatingadmissionpolicybindings") => {
            policy_binding
        }
        ("admissionregistration.k8s.io", _) => webhooks,
        ("apiregistration.k8s.io", "apiservices") => api_service,
        ("certificates.k8s.io", "certificatesigningrequests") => signing_request,
        ("coordination.k8s.io", "leases") => lease,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flow_schema,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => priority_level,
        ("node.k8s.io", "runtimeclasses") => runtime_class,
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings") => role_binding,
        ("scheduling.k8s.io", "priorityclasses") => priority_class,
        _ => return None,
    })
}

fn role_binding(binding: &Object, now: Timestamp) -> Vec<Value> {
    let role = |field: &str| binding.text(&["roleRef", field]);
    let subjects = |kind: &str| {
        let found = list(binding, &["subjects"]).iter().filter(|subject| text(subject, "kind") == kind);
        let names = found.map(|subject| match text(subject, "namespace") {
            namespace if kind == "ServiceAccount" => format!("{namespace}/{}", text(subject, "name")),
            _ => text(subject, "name").to_owned(),
        });
        Value::from(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        binding.name().into(),
        format!("{}/{}", role("kind"), role("name")).into(),
        age(binding, now).into(),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn webhooks(configuration: &Object, now: Timestamp) -> Vec<Value> {
    vec![configuration.name().into(), list(configuration, &["webhooks"]).len().into(), age(configuration, now).into()]
}

fn mutating_policy(policy: &Object, now: Timestamp) -> Vec<Value> {
    let mutations = list(policy, &["spec", "mutations"]).len();
    vec![policy.name().into(), mutations.into(), parameter_kind(policy).into(), age(policy, now).into()]
}

fn validating_policy(policy: &Object, now: Timestamp) -> Vec<Value> {
    let validations = list(policy, &["spec", "validations"]).len();
    vec![policy.name().into(), validations.into(), parameter_kind(policy).into(), age(policy, now).into()]
}

fn parameter_kind(policy: &Object) -> String {
    match policy.get(&["spec", "paramKind"]).filter(|kind| !kind.is_null()) {
        Some(kind) => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")),
        None => UNSET.to_owned(),
    }
}

fn policy_binding(binding: &Object, now: Timestamp) -> Vec<Value> {
    let reference = binding.get(&["spec", "paramRef"]).filter(|reference| !reference.is_null());
    let reference = reference.map_or_else(
        || UNSET.to_owned(),
        |reference| match text(reference, "name") {
            "" => selector_or_none(reference.get("selector")),
            name => format!("{}/{name}", or(text(reference, "namespace"), "*")),
        },
    );
    vec![
        binding.name().into(),
        binding.text(&["spec", "policyName"]).into(),
        reference.into(),
        age(binding, now).into(),
    ]
}

fn api_service(service: &Object, now: Timestamp) -> Vec<Value> {
    let target = match service.get(&["spec", "service"]).filter(|target| !target.is_null()) {
        Some(target) => format!("{}/{}", text(target, "namespace"), text(target, "name")),
        None => "Local".to_owned(),
    };
    let available =
        list(service, &["status", "conditions"]).iter().find(|condition| text(condition, "type") == "Available");
    let available = match available {
        Some(condition) if text(condition, "status") == "True" => "True".to_owned(),
        Some(condition) => format!("{} ({})", text(condition, "status"), text(condition, "reason")),
        None => "Unknown".to_owned(),
    };
    vec![service.name().into(), target.into(), available.into(), age(service, now).into()]
}

fn signing_request(request: &Object, now: Timestamp) -> Vec<Value> {
    let duration = request.integer(&["spec", "expirationSeconds"]).map_or_else(|| NONE.to_owned(), human_duration);
    vec![
        request.name().into(),
        age(request, now).into(),
        or(request.text(&["spec", "signerName"]), NONE).into(),
        request.text(&["spec", "username"]).into(),
        duration.into(),
        signing_status(request).into(),
    ]
}

fn signing_status(request: &Object) -> String {
    let has =
        |type_: &str| list(request, &["status", "conditions"]).iter().any(|condition| text(condition, "type") == type_);
    let mut status = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !request.text(&["status", "certificate"]).is_empty() {
        status.push_str(",Issued");
    }
    status
}

fn lease(lease: &Object, now: Timestamp) -> Vec<Value> {
    vec![lease.name().into(), lease.text(&["spec", "holderIdentity"]).into(), age(lease, now).into()]
}

fn runtime_class(class: &Object, now: Timestamp) -> Vec<Value> {
    vec![class.name().into(), class.text(&["handler"]).into(), age(class, now).into()]
}

fn priority_class(class: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        class.name().into(),
        number(class, &["value"]).into(),
        class.get(&["globalDefault"]).and_then(Value::as_bool).unwrap_or(false).into(),
        age(class, now).into(),
        class.text(&["preemptionPolicy"]).into(),
    ]
}

fn flow_schema(schema: &Object, now: Timestamp) -> Vec<Value> {
    let dangling =
        list(schema, &["status", "conditions"]).iter().find(|condition| text(condition, "type") == "Dangling");
    vec![
        schema.name().into(),
        schema.text(&["spec", "priorityLevelConfiguration", "name"]).into(),
        number(schema, &["spec", "matchingPrecedence"]).into(),
        or(schema.text(&["spec", "distinguisherMethod", "type"]), NONE).into(),
        age(schema, now).into(),
        or(dangling.map_or("", |condition| text(condition, "status")), "?").into(),
    ]
}

fn priority_level(level: &Object, now: Timestamp) -> Vec<Value> {
    let either =
        |path: &[&str]| level.get(path).filter(|value| !value.is_null()).cloned().unwrap_or_else(|| NONE.into());
    let queuing = |field: &str| either(&["spec", "limited", "limitResponse", "queuing", field]);
    vec![
        level.name().into(),
        level.text(&["spec", "type"]).into(),
        either(&["spec", "limited", "nominalConcurrencyShares"]),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        age(level, now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_limited_levels_show_shares() {
        let shown = |spec: Value| {
            let level = json!({"metadata": {"name": "l"}, "spec": spec});
            priority_level(&Object::from_value(level).expect("an object"), Timestamp::UNIX_EPOCH)[1..6].to_vec()
        };
        let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
        assert_eq!(shown(exempt), ["Exempt", NONE, NONE, NONE, NONE].map(Value::from));
        let limited = json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}}}});
        assert_eq!(shown(limited), [json!("Limited"), json!(5), json!(64), json!(6), json!(50)]);
    }
}
