//! PodGroups (upstream: `pkg/registry/scheduling/podgroup`; KEP-5832).

use super::policy;
use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::gates;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{conditions, union};
use crate::object::Object;
use crate::strategy::WriteContext;

pub(crate) const KIND: Kind = Kind {
    subresources: &[Sub::STATUS],
    has_generation: true,
    gated: gates::POD_GROUP,
    prepare_create: |_, group| set_disruption_mode(group),
    prepare_status,
    validate_new,
    validate_change,
    validate_status,
    status_metadata: &[],
    ..Kind::namespaced("podgroups", "PodGroup")
};

/// How a group may be disrupted. Another mode than the default one is behind a gate that is off
/// (`WorkloadAwarePreemption`).
const DISRUPTION_MODE: &str = "Pod";

fn set_disruption_mode(group: &mut Object) {
    group.set(&["spec", "disruptionMode"], DISRUPTION_MODE);
}

/// Claims of groups are behind a gate that is off (`DRAWorkloadResourceClaims`).
fn prepare_status(_: &WriteContext<'_>, new: &mut Object, _: &Object) {
    new.remove(&["status", "resourceClaimStatuses"]);
}

/// A new `PodGroup`.
fn validate_new(group: &Node<'_, '_>, errors: &mut Errors) {
    let spec = group.field("spec");
    let template = spec.field("podGroupTemplateRef");
    if template.is_set() {
        union::exactly_one(&template, &["workload"], errors);
        let workload = template.field("workload");
        if workload.is_set() {
            policy::subdomain(&workload.field("workloadName"), errors);
            policy::label(&workload.field("podGroupTemplateName"), errors);
        }
    }
    policy::policy(&spec.field("schedulingPolicy"), errors);
}

/// Nothing of the spec of a `PodGroup` changes.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    for field in ["podGroupTemplateRef", "schedulingPolicy"] {
        errors.immutable(&new.field(field), &old.field(field));
    }
    let mode = new.field("disruptionMode");
    if !mode.is_same(&old.field("disruptionMode")) {
        errors.forbidden(&mode, "");
    }
}

fn validate_status(new: &Node<'_, '_>, _: &Node<'_, '_>, errors: &mut Errors) {
    conditions::conditions(&new.field("status").field("conditions"), errors);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::rules::checks::{check_change, check_spec};

    fn check(spec: &Value, want: &[&str]) {
        check_spec(validate_new, spec, want);
    }

    fn gang(least: i64) -> Value {
        json!({"schedulingPolicy": {"gang": {"minCount": least}}})
    }

    #[test]
    fn a_group_has_one_policy() {
        check(&gang(1), &[]);
        check(&json!({"schedulingPolicy": {"basic": {}}}), &[]);
        let none = "spec.schedulingPolicy: Invalid value: \"\": must specify one of: `basic`, `gang`";
        check(&json!({}), &[none]);
        check(&json!({"schedulingPolicy": {}}), &[none]);
        check(&gang(0), &["spec.schedulingPolicy.gang.minCount: Required value"]);
        let why = "spec.schedulingPolicy.gang.minCount: Invalid value: -1: must be greater than or equal to 1";
        check(&gang(-1), &[why]);
    }

    #[test]
    fn the_template_that_a_group_was_made_of_has_a_name() {
        let of = |template: Value| json!({"schedulingPolicy": {"basic": {}}, "podGroupTemplateRef": template});
        check(&of(json!({"workload": {"workloadName": "w.x", "podGroupTemplateName": "t"}})), &[]);
        let none = "spec.podGroupTemplateRef: Invalid value: \"\": must specify one of: `workload`";
        check(&of(json!({})), &[none]);
        let at = "spec.podGroupTemplateRef.workload";
        let want = [
            format!("{at}.workloadName: Required value"),
            format!("{at}.podGroupTemplateName: Invalid value: \"t.x\": {}", crate::names::dns1123_label("t.x")[0]),
        ];
        check(&of(json!({"workload": {"podGroupTemplateName": "t.x"}})), &want.each_ref().map(String::as_str));
    }

    #[test]
    fn a_group_stays_as_it_is() {
        let spec = |spec: &Value| json!({"spec": spec});
        check_change(validate_change, spec(&gang(2)), spec(&gang(2)), &[]);
        let why = "spec.schedulingPolicy: Invalid value: {\"gang\":{\"minCount\":3}}: field is immutable";
        check_change(validate_change, spec(&gang(3)), spec(&gang(2)), &[why]);
        let mode = |mode: &str| json!({"spec": {"disruptionMode": mode}});
        check_change(validate_change, mode("PodGroup"), mode("Pod"), &["spec.disruptionMode: Forbidden"]);
    }
}
