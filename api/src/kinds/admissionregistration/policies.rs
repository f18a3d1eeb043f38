//! Admission policies: matching, validations, mutations (upstream:
//! `pkg/registry/admissionregistration/*admissionpolicy`).

use std::collections::HashSet;

use cel::{Type, is_identifier};
use serde_json::Value;

use super::webhooks::{self, compiles_trimmed, match_conditions, rule_with_operations};
use crate::expression::admission::{Scope, Wanted};
use crate::field::FieldError;
use crate::jsonpath::JsonPath;
use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::fill::{self, default_pointer, object, object_at};
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, Fields, Node};
use crate::kinds::rules::{conditions, labels, naming};
use crate::object::Object;
use crate::table::cell::Cell::{Age, By, Count, Name};
use crate::table::cell::{UNSET, text};

pub(crate) const MUTATING: Kind = Kind {
    categories: &["api-extensions"],
    has_generation: true,
    hash_version: Some("v1beta1"),
    cells: &[Name, Count(&["spec", "mutations"]), By(parameter_kind), Age],
    default,
    validate_new: mutating_policy,
    validate_change: changed_mutating_policy,
    validation_may_take_long: true,
    rechecks: (1, 0),
    unconditional_update: false,
    ..Kind::cluster("mutatingadmissionpolicies", "MutatingAdmissionPolicy")
};

pub(crate) const VALIDATING: Kind = Kind {
    categories: &["api-extensions"],
    subresources: &[Sub::STATUS],
    has_generation: true,
    cells: &[Name, Count(&["spec", "validations"]), By(parameter_kind), Age],
    default,
    fill_status: Some(|_| {}),
    validate_new: validating_policy,
    validate_change: changed_validating_policy,
    validate_status: policy_status,
    validation_may_take_long: true,
    status_metadata: &[],
    rechecks: (1, 0),
    unconditional_update: false,
    ..Kind::cluster("validatingadmissionpolicies", "ValidatingAdmissionPolicy")
};

/// How many annotations a policy may make.
const ANNOTATIONS: usize = 20;
/// How long the expression of an annotation may be.
const ANNOTATION_LENGTH: usize = 5 * 1024;
/// What can be changed: nothing that is deleted.
const CHANGEABLE: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];

/// A new `ValidatingAdmissionPolicy`.
fn validating_policy(object: &Node<'_, '_>, errors: &mut Errors) {
    validating(object, None, errors);
}

/// A changed `ValidatingAdmissionPolicy`.
fn changed_validating_policy(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    validating(new, Some(old), errors);
}

fn validating(object: &Node<'_, '_>, old: Option<&Node<'_, '_>>, errors: &mut Errors) {
    let spec = object.field("spec");
    let scope = policy_head(&spec, old, false, errors);
    let (validations, audits) = (spec.field("validations"), spec.field("auditAnnotations"));
    if validations.is_empty() && audits.is_empty() {
        for at in [&validations, &audits] {
            errors.required(at, "validations or auditAnnotations must contain at least one item");
        }
        return;
    }
    for validation in validations.items() {
        policy_validation(&validation, &scope, errors);
    }
    if audits.list().len() > ANNOTATIONS {
        let shown = audits.items().map(|audit| {
            let field = |name| audit.field(name).text().into();
            Shown::fields([("Key", field("key")), ("ValueExpression", field("valueExpression"))])
        });
        let why = format!("must not have more than {ANNOTATIONS} auditAnnotations");
        errors.invalid_shown(&audits, &Shown::List(shown.collect()), &why);
    }
    let (metadata, mut keys) = (object.field("metadata"), HashSet::new());
    for audit in audits.items() {
        audit_annotation(&audit, metadata.field("name").text(), &scope, errors);
        if !keys.insert(audit.field("key").text()) {
            errors.duplicate_value(&audit.field("key"), audit.field("key").text());
        }
    }
}

fn audit_annotation(at: &Node<'_, '_>, policy: &str, scope: &Scope, errors: &mut Errors) {
    let (key, expression) = (at.field("key"), at.field("valueExpression"));
    if policy.is_empty() {
        errors.invalid_value(&key, key.text(), "requires metadata.name be non-empty");
    } else {
        let name = format!("{policy}/{}", key.text());
        for why in naming::qualified_name(&name) {
            errors.invalid_value(&key, name.as_str(), &why);
        }
    }
    let text = expression.text().trim();
    if text.is_empty() {
        errors.required(&expression, "valueExpression is not specified");
    } else if text.len() > ANNOTATION_LENGTH {
        errors.required(&expression, &format!("must not exceed {ANNOTATION_LENGTH} bytes in length"));
    } else if let Err(why) = scope.compile(text, Wanted::TextOrNull) {
        errors.invalid(&expression, &why);
    }
}

/// What both kinds of policies have; answers what their expressions may refer to.
fn policy_head(spec: &Node<'_, '_>, old: Option<&Node<'_, '_>>, patches: bool, errors: &mut Errors) -> Scope {
    let failure = spec.field("failurePolicy");
    if failure.is_unset() {
        errors.required(&failure, "");
    } else {
        errors.one_of(&failure, &["Fail", "Ignore"]);
    }
    let kind = spec.field("paramKind");
    if kind.is_set() {
        param_kind(&kind, errors);
    }
    let constraints = spec.field("matchConstraints");
    if constraints.is_unset() {
        errors.required(&constraints, "");
    } else {
        match_resources(&constraints, errors);
        if constraints.field("resourceRules").is_empty() {
            errors.required(&constraints.field("resourceRules"), "");
        }
        if patches {
            changeable(&constraints, errors);
        }
    }
    let mut scope = Scope::default();
    scope.params = kind.is_set();
    // Conditions that were let in once may stay.
    let unchanged = old.is_some_and(|old| {
        let old = old.field("spec");
        ["paramKind", "matchConditions"].iter().all(|field| old.field(field).is_same(&spec.field(field)))
    });
    if !unchanged {
        match_conditions(&spec.field("matchConditions"), &scope, errors);
    }
    scope.patches = patches;
    for variable in spec.field("variables").items() {
        policy_variable(&variable, &mut scope, errors);
    }
    scope
}

fn param_kind(at: &Node<'_, '_>, errors: &mut Errors) {
    let (version, kind) = (at.field("apiVersion"), at.field("kind"));
    if errors.require_text(&version) {
        let (group, name) = version.text().rsplit_once('/').unwrap_or(("", version.text()));
        if group.contains('/') {
            errors.invalid(&version, &format!("unexpected GroupVersion string: {}", version.text()));
        } else {
            let wrong = if group.is_empty() { Vec::new() } else { naming::subdomain(group) };
            if !wrong.is_empty() {
                errors.invalid_value(&version, group, &wrong.join(","));
            }
            let wrong = naming::dns1035_label(name);
            if name.is_empty() {
                errors.invalid(&version, "version must be specified");
            } else if !wrong.is_empty() {
                errors.invalid_value(&version, name, &wrong.join(","));
            }
        }
    }
    if errors.require_text(&kind) {
        let wrong = naming::dns1035_label(&kind.text().to_lowercase());
        if !wrong.is_empty() {
            errors.invalid(&kind, &format!("may have mixed case, but should otherwise match: {}", wrong.join(",")));
        }
    }
}

fn policy_variable(at: &Node<'_, '_>, scope: &mut Scope, errors: &mut Errors) {
    let (name, expression) = (at.field("name"), at.field("expression"));
    if name.text().trim().is_empty() {
        errors.required(&name, "name is not specified");
    } else if !is_identifier(name.text()) {
        errors.invalid(&name, "must be a valid CEL identifier");
    }
    if expression.text().trim().is_empty() {
        errors.required(&expression, "expression is not specified");
        return;
    }
    match scope.compile(expression.text(), Wanted::Anything) {
        Ok(program) => scope.declare(name.text(), program.result_type()),
        Err(why) => {
            errors.invalid(&expression, &why);
            scope.declare(name.text(), &Type::Dyn);
        }
    }
}

pub(crate) fn match_resources(at: &Node<'_, '_>, errors: &mut Errors) {
    errors.none_or_one_of(&at.field("matchPolicy"), &["Equivalent", "Exact"]);
    labels::selector(&at.field("namespaceSelector"), errors);
    labels::selector(&at.field("objectSelector"), errors);
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in at.field(list).items() {
            let mut names = HashSet::new();
            for name in rule.field("resourceNames").items() {
                errors.invalid_all(&name, naming::path_segment_name(name.text(), false));
                if !names.insert(name.text()) {
                    errors.duplicate(&name);
                }
            }
            rule_with_operations(&rule, errors);
        }
    }
}

/// Rules of what changes objects: there must be objects.
pub(crate) fn changeable(at: &Node<'_, '_>, errors: &mut Errors) {
    let rules = at.field("resourceRules");
    let path = rules.field("operations").path();
    for rule in rules.items() {
        for operation in rule.field("operations").texts().filter(|one| !CHANGEABLE.contains(one)) {
            errors.push(FieldError::not_supported(&path, operation, &CHANGEABLE));
        }
    }
}

fn policy_validation(at: &Node<'_, '_>, scope: &Scope, errors: &mut Errors) {
    let (expression, message) = (at.field("expression"), at.field("message"));
    if expression.text().trim().is_empty() {
        errors.required(&expression, "expression is not specified");
    } else {
        compiles(&expression, scope, Wanted::Bool, errors);
    }
    let by_expression = at.field("messageExpression");
    if !by_expression.text().trim().is_empty() {
        compiles(&by_expression, scope, Wanted::Text, errors);
    } else if !by_expression.text().is_empty() {
        errors.invalid(&by_expression, "must be non-empty if specified");
    }
    if !message.text().is_empty() && message.text().trim().is_empty() {
        errors.invalid(&message, "must be non-empty if specified");
    } else if message.text().trim().contains(['\n', '\r']) {
        errors.invalid(&message, "must not contain line breaks");
    }
    errors.none_or_one_of(&at.field("reason"), &REASONS);
}

/// An expression that must compile to what is wanted.
fn compiles(at: &Node<'_, '_>, scope: &Scope, wanted: Wanted, errors: &mut Errors) {
    if let Err(why) = scope.compile(at.text(), wanted) {
        errors.invalid(at, &why);
    }
}

/// The status of a `ValidatingAdmissionPolicy`.
fn policy_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    let checking = status.field("typeChecking");
    for warning in checking.field("expressionWarnings").items() {
        errors.require_text(&warning.field("warning"));
        let field = warning.field("fieldRef");
        let text = field.text().trim();
        if text.is_empty() {
            errors.required(&field, "");
        } else if let Err(why) = JsonPath::parse(text) {
            errors.invalid_value(&field, text, &format!("invalid JSONPath: {why}"));
        }
    }
    conditions::conditions(&status.field("conditions"), errors);
}

/// A new `MutatingAdmissionPolicy`.
fn mutating_policy(object: &Node<'_, '_>, errors: &mut Errors) {
    mutating(object, None, errors);
}

/// A changed `MutatingAdmissionPolicy`.
fn changed_mutating_policy(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    mutating(new, Some(old), errors);
}

fn mutating(object: &Node<'_, '_>, old: Option<&Node<'_, '_>>, errors: &mut Errors) {
    let spec = object.field("spec");
    let scope = policy_head(&spec, old, true, errors);
    let mutations = spec.field("mutations");
    if mutations.is_empty() {
        errors.required(&mutations, "mutations must contain at least one item");
    }
    for mutation in mutations.items() {
        policy_mutation(&mutation, &scope, errors);
    }
    let reinvocation = spec.field("reinvocationPolicy");
    if reinvocation.text().is_empty() {
        errors.required(&reinvocation, "");
    } else {
        errors.one_of(&reinvocation, &["IfNeeded", "Never"]);
    }
}

fn policy_mutation(at: &Node<'_, '_>, scope: &Scope, errors: &mut Errors) {
    let kind = at.field("patchType");
    let (field, wanted, other) = match kind.text() {
        "ApplyConfiguration" => ("applyConfiguration", Wanted::Configuration, "jsonPatch"),
        "JSONPatch" => ("jsonPatch", Wanted::Patch, "applyConfiguration"),
        _ => {
            if errors.require_text(&kind) {
                errors.one_of(&kind, &["ApplyConfiguration", "JSONPatch"]);
            }
            return;
        }
    };
    let (body, other) = (at.field(field), at.field(other));
    let expression = body.field("expression");
    if body.is_unset() {
        errors.required(&body, &format!("must be specified when patchType is {}", kind.text()));
    } else if expression.text().trim().is_empty() {
        errors.required(&expression, "");
    } else {
        compiles_trimmed(&expression, scope, wanted, errors);
    }
    if other.is_set() {
        let shown = format!("{{{}}}", if field == "jsonPatch" { "applyConfiguration" } else { "jsonPatch" });
        errors.invalid_value(&other, shown, &format!("must not be specified when patchType is {}", kind.text()));
    }
}

pub(crate) fn default_match_resources(resources: &mut Fields) {
    default_pointer(resources, "matchPolicy", "Equivalent");
    object(resources, "namespaceSelector");
    object(resources, "objectSelector");
    webhooks::default_rules(resources, "resourceRules");
    webhooks::default_rules(resources, "excludeResourceRules");
}

/// Defaults of an admission policy.
fn default(object: &mut Object) {
    let mutating = object.kind() == "MutatingAdmissionPolicy";
    let spec = fill::object(object.root_mut(), "spec");
    default_pointer(spec, "failurePolicy", "Fail");
    if let Some(constraints) = object_at(spec, "matchConstraints") {
        default_match_resources(constraints);
    }
    if !mutating {
        fill::object(object.root_mut(), "status");
    }
}

fn parameter_kind(policy: &Object) -> Value {
    match policy.get(&["spec", "paramKind"]).filter(|kind| !kind.is_null()) {
        Some(kind) => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into(),
        None => UNSET.into(),
    }
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

    /// What is wrong with a policy that has these fields beside those that it must have.
    fn validating_errors(fields: &Value) -> Vec<String> {
        let mut spec = json!({"failurePolicy": "Fail", "matchConstraints": constraints(&["CREATE"])});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        found(validating_policy, &json!({"metadata": {"name": "p"}, "spec": spec}))
    }

    #[test]
    fn a_policy_says_where_it_is_wrong() {
        let validation = |fields: Value| {
            let mut all = json!({"expression": "true"});
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            json!({ "validations": [all] })
        };
        for (fields, why) in [
            (
                validation(json!({"message": " "})),
                "spec.validations[0].message: Invalid value: \" \": must be non-empty if specified",
            ),
            (
                validation(json!({"messageExpression": " "})),
                "spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified",
            ),
            (
                validation(json!({"reason": "Unauthorized"})),
                "spec.validations[0].reason: Unsupported value: \"Unauthorized\": supported values: \"Forbidden\", \
                 \"Invalid\", \"RequestEntityTooLarge\"",
            ),
            (
                json!({"validations": [{"expression": "true"}], "paramKind": {"apiVersion": "a/b/c", "kind": "K"}}),
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            ),
            (
                json!({"validations": [{"expression": "true"}], "paramKind": {"apiVersion": "a/", "kind": "K"}}),
                "spec.paramKind.apiVersion: Invalid value: \"a/\": version must be specified",
            ),
            (
                json!({"validations": [{"expression": "variables.a == 1"}], "variables": [{"name": "a", "expression": "x"}]}),
                "spec.variables[0].expression: Invalid value: \"x\": compilation failed: ERROR: <input>:1:1: undeclared \
                 reference to 'x' (in container '')\n | x\n | ^",
            ),
            (
                json!({"validations": [{"expression": "true"}], "variables": [{"name": "for", "expression": "1"}]}),
                "spec.variables[0].name: Invalid value: \"for\": must be a valid CEL identifier",
            ),
            (
                json!({"auditAnnotations": [{"key": "a", "valueExpression": "1"}]}),
                "spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type]",
            ),
            (
                json!({"auditAnnotations": [{"key": "a", "valueExpression": "'x'"}, {"key": "a", "valueExpression": "null"}]}),
                "spec.auditAnnotations[1].key: Duplicate value: \"a\"",
            ),
        ] {
            assert_eq!(validating_errors(&fields), [why]);
        }
        assert_eq!(
            validating_errors(&json!({"auditAnnotations": [{"key": "a b", "valueExpression": "null"}]})).len(),
            1
        );
    }

    #[test]
    fn nothing_that_is_deleted_can_be_changed() {
        let mutation = |kind: &str, fields: Value| {
            let mut all = json!({"patchType": kind});
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let spec = json!({
                "failurePolicy": "Fail", "matchConstraints": constraints(&["CREATE", "DELETE"]),
                "reinvocationPolicy": "Never", "mutations": [all],
            });
            found(mutating_policy, &json!({"metadata": {"name": "p"}, "spec": spec}))
        };
        let deleted = "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \
                       \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"";
        let both = json!({"jsonPatch": {"expression": "[]"}, "applyConfiguration": {"expression": " Object{} "}});
        let one = "spec.mutations[0].jsonPatch: Invalid value: \"{jsonPatch}\": must not be specified when patchType is \
                   ApplyConfiguration";
        assert_eq!(mutation("ApplyConfiguration", both), [deleted, one]);
        let blank = mutation("JSONPatch", json!({"jsonPatch": {"expression": " "}}));
        assert_eq!(blank, [deleted, "spec.mutations[0].jsonPatch.expression: Required value"]);
    }
}
