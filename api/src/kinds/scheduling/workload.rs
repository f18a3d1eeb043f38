//! Workloads (upstream: `pkg/registry/scheduling/workload`; KEP-4671).

use std::collections::HashSet;

use super::policy;
use crate::kinds::kind::Kind;
use crate::kinds::pods::gates;
use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};

pub(crate) const KIND: Kind = Kind {
    has_generation: true,
    gated: gates::GROUP_TEMPLATES,
    validate_new,
    validate_change,
    ..Kind::namespaced("workloads", "Workload")
};

/// Upstream's `WorkloadMaxPodGroupTemplates`.
const MOST_TEMPLATES: usize = 8;

/// A new `Workload`.
fn validate_new(workload: &Node<'_, '_>, errors: &mut Errors) {
    let spec = workload.field("spec");
    let controller = spec.field("controllerRef");
    if controller.is_set() {
        let group = controller.field("apiGroup");
        if !group.text().is_empty() {
            errors.invalid_all(&group, naming::subdomain(group.text()));
        }
        policy::path_segment(&controller.field("kind"), errors);
        policy::path_segment(&controller.field("name"), errors);
    }
    templates(&spec.field("podGroupTemplates"), errors);
}

fn templates(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_empty() {
        errors.required(at, "");
        return;
    }
    if at.list().len() > MOST_TEMPLATES {
        errors.too_many(at, at.list().len(), MOST_TEMPLATES);
        return;
    }
    let mut names = HashSet::new();
    for template in at.items() {
        if !names.insert(template.field("name").text()) {
            errors.duplicate(&template);
        }
    }
    for template in at.items() {
        policy::label(&template.field("name"), errors);
        policy::policy(&template.field("schedulingPolicy"), errors);
    }
}

/// Nothing of the spec of a `Workload` changes.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    for field in ["controllerRef", "podGroupTemplates"] {
        errors.immutable(&new.field(field), &old.field(field));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::rules::checks::{check_change, check_spec};

    fn template(name: &str) -> Value {
        json!({"name": name, "schedulingPolicy": {"gang": {"minCount": 2}}})
    }

    fn check(spec: Value, want: &[&str]) {
        check_spec(validate_new, spec, want);
    }

    #[test]
    fn a_workload_has_some_templates_of_different_names() {
        check(json!({"podGroupTemplates": [template("a"), template("b")]}), &[]);
        check(json!({}), &["spec.podGroupTemplates: Required value"]);
        let many: Vec<Value> = (0..9).map(|number| template(&format!("t{number}"))).collect();
        check(json!({"podGroupTemplates": many}), &["spec.podGroupTemplates: Too many: 9: must have at most 8 items"]);
        let twice = "spec.podGroupTemplates[1]: Duplicate value: \
                     {\"name\":\"a\",\"schedulingPolicy\":{\"gang\":{\"minCount\":2}}}";
        check(json!({"podGroupTemplates": [template("a"), template("a")]}), &[twice]);
        check(
            json!({"podGroupTemplates": [{"schedulingPolicy": {}}]}),
            &[
                "spec.podGroupTemplates[0].name: Required value",
                "spec.podGroupTemplates[0].schedulingPolicy: Invalid value: \"\": must specify one of: `basic`, `gang`",
            ],
        );
    }

    #[test]
    fn what_a_workload_refers_to_has_a_kind_and_a_name() {
        let of = |controller: Value| json!({"podGroupTemplates": [template("a")], "controllerRef": controller});
        check(of(json!({"apiGroup": "batch", "kind": "Job", "name": "j"})), &[]);
        check(
            of(json!({"kind": "a/b"})),
            &[
                "spec.controllerRef.kind: Invalid value: \"a/b\": may not contain '/'",
                "spec.controllerRef.name: Required value",
            ],
        );
    }

    #[test]
    fn a_workload_stays_as_it_is() {
        let spec = |name: &str| json!({"spec": {"podGroupTemplates": [template(name)]}});
        check_change(validate_change, spec("a"), spec("a"), &[]);
        let why = "spec.podGroupTemplates: Invalid value: \
                   [{\"name\":\"b\",\"schedulingPolicy\":{\"gang\":{\"minCount\":2}}}]: field is immutable";
        check_change(validate_change, spec("b"), spec("a"), &[why]);
    }
}
