//! Bindings of admission policies (upstream: `pkg/registry/admissionregistration/*admissionpolicybinding`).

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use super::policies;
use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::{self, object_at};
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{labels, naming};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{UNSET, age, or, selector_or_none, text};

pub(crate) const MUTATING: Kind = Kind {
    categories: &["api-extensions"],
    has_generation: true,
    hash_version: Some("v1beta1"),
    cells: &[Row(cells)],
    default,
    validate: mutating_policy_binding,
    rechecks: (1, 0),
    unconditional_update: false,
    ..Kind::cluster("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding")
};

pub(crate) const VALIDATING: Kind = Kind {
    categories: &["api-extensions"],
    has_generation: true,
    cells: &[Row(cells)],
    default,
    validate: validating_policy_binding,
    rechecks: (1, 0),
    unconditional_update: false,
    ..Kind::cluster("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding")
};

/// A `ValidatingAdmissionPolicyBinding`.
fn validating_policy_binding(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    policy_binding(&spec, errors);
    let actions = spec.field("validationActions");
    let mut seen = HashSet::new();
    for action in actions.items() {
        errors.one_of(&action, &["Audit", "Deny", "Warn"]);
        if !seen.insert(action.text()) {
            errors.duplicate(&action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errors.invalid(&actions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
    }
    if actions.is_empty() {
        errors.required(&actions, "at least one validation action is required");
    }
}

/// A `MutatingAdmissionPolicyBinding`.
fn mutating_policy_binding(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    policy_binding(&spec, errors);
    policies::changeable(&spec.field("matchResources"), errors);
}

fn policy_binding(spec: &Node<'_, '_>, errors: &mut Errors) {
    let name = spec.field("policyName");
    if errors.require_text(&name) {
        errors.invalid_all(&name, naming::subdomain(name.text()));
    }
    let parameters = spec.field("paramRef");
    if parameters.is_set() {
        param_ref(&parameters, errors);
    }
    let resources = spec.field("matchResources");
    if resources.is_set() {
        policies::match_resources(&resources, errors);
    }
}

fn param_ref(at: &Node<'_, '_>, errors: &mut Errors) {
    const EITHER: &str = "name and selector are mutually exclusive";
    let (name, selector) = (at.field("name"), at.field("selector"));
    let both = !name.text().is_empty() && selector.is_set();
    errors.invalid_all(&name, naming::path_segment_name(name.text(), false));
    if both {
        errors.forbidden(&name, EITHER);
    }
    labels::selector(&selector, errors);
    if both {
        errors.forbidden(&selector, EITHER);
    }
    if name.text().is_empty() && selector.is_unset() {
        errors.required(at, "one of name or selector must be specified");
    }
    let missing = at.field("parameterNotFoundAction");
    if missing.text().is_empty() {
        errors.required(&missing, "");
    } else {
        errors.one_of(&missing, &["Deny", "Allow"]);
    }
}

/// Defaults of the binding of an admission policy.
fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    if let Some(resources) = object_at(spec, "matchResources") {
        policies::default_match_resources(resources);
    }
}

fn cells(binding: &Object, now: Timestamp) -> Vec<Value> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::found;
    use serde_json::json;

    fn constraints(operations: &[&str]) -> Value {
        json!({"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": operations, "resources": ["configmaps"]},
        ]})
    }

    #[test]
    fn a_binding_has_one_kind_of_parameters() {
        let reference = json!({"name": "a/b", "selector": {}, "parameterNotFoundAction": "Other"});
        let spec = json!({"policyName": "p", "paramRef": reference, "validationActions": ["Deny"]});
        let want = [
            "spec.paramRef.name: Invalid value: \"a/b\": may not contain '/'",
            "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
            "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
            "spec.paramRef.parameterNotFoundAction: Unsupported value: \"Other\": supported values: \"Deny\", \"Allow\"",
        ];
        assert_eq!(found(validating_policy_binding, &json!({ "spec": spec })), want);
        let spec = json!({"policyName": "p", "matchResources": constraints(&["DELETE"])});
        assert_eq!(found(mutating_policy_binding, &json!({ "spec": spec })).len(), 1);
    }
}
