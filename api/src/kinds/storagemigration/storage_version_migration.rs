//! StorageVersionMigrations (upstream: `pkg/registry/storagemigration`; KEP-4192).

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::shown::Shape::{Struct, Text};
use crate::kinds::rules::shown::{Shown, Table};
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::kinds::rules::{conditions, naming};
use crate::names;

pub(crate) const KIND: Kind = Kind {
    subresources: &[Sub::STATUS],
    validate,
    validate_change,
    validate_status,
    unconditional_update: false,
    ..Kind::cluster("storageversionmigrations", "StorageVersionMigration")
};

fn validate(migration: &Node<'_, '_>, errors: &mut Errors) {
    let spec = migration.field("spec");
    let what = spec.field("resource");
    let (group, resource) = (what.field("group"), what.field("resource"));
    if resource.text().is_empty() {
        errors.required(&resource, "resource is required to be set");
    } else {
        joined(&resource, names::dns1035_label(resource.text()), errors);
    }
    if !group.text().is_empty() {
        joined(&group, naming::subdomain(group.text()), errors);
    }
}

fn joined(at: &Node<'_, '_>, wrong: Vec<String>, errors: &mut Errors) {
    if !wrong.is_empty() {
        errors.invalid(at, &wrong.join(","));
    }
}

/// What is migrated stays.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    if !new.is_same(&old) {
        errors.invalid_shown(&new, &shown_spec(&new), IMMUTABLE);
    }
}

/// How a migration goes: it ends once, well or not.
fn validate_status(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (status, before) = (new.field("status"), old.field("status"));
    let (version, conditions) = (status.field("resourceVersion"), status.field("conditions"));
    let is_number = version.text().bytes().all(|byte| byte.is_ascii_digit()) && !version.text().starts_with('0');
    if version.text().is_empty() {
        errors.invalid_value(&version, "", "resource version is not well formed: cannot be empty");
    } else if !is_number {
        errors.invalid(&version, &format!("resource version is not well formed: {}", version.text()));
    }
    conditions::conditions(&conditions, errors);
    let had = before.field("resourceVersion");
    if !had.text().is_empty() && had.text() != version.text() {
        errors.invalid_value(&version, version.text(), IMMUTABLE);
    }
    let is =
        |list: &Node<'_, '_>, kind: &str| list.list().iter().any(|one| one["type"] == kind && one["status"] == "True");
    let then = before.field("conditions");
    let (succeeded, failed, running) =
        (is(&conditions, "Succeeded"), is(&conditions, "Failed"), is(&conditions, "Running"));
    let rules = [
        (succeeded && failed, "Both success and failed conditions cannot be true at the same time"),
        (succeeded && running, "Running condition cannot be true when success condition is true"),
        (failed && running, "Running condition cannot be true when failed condition is true"),
        (is(&then, "Succeeded") && !succeeded, "Success condition cannot be set to false once it is true"),
        (is(&then, "Failed") && !failed, "Failed condition cannot be set to false once it is true"),
    ];
    for (_, why) in rules.into_iter().filter(|(broken, _)| *broken) {
        errors.invalid(&conditions, why);
    }
}

/// The spec of a `StorageVersionMigration`.
fn shown_spec(spec: &Node<'_, '_>) -> Shown {
    const RESOURCE: Table = &[("Group", "group", Text), ("Resource", "resource", Text)];
    Shown::of(spec.value(), &[("Resource", "resource", Struct(RESOURCE))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_change;
    use serde_json::{Value, json};

    #[test]
    fn a_migration_ends_once() {
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status = |version: &str, conditions: Value| json!({"status": {"resourceVersion": version, "conditions": conditions}});
        check_change(validate_status, status("7", json!([condition("Running", "True")])), json!({}), &[]);
        let done = status("7", json!([condition("Succeeded", "True")]));
        let mut errors = Errors::default();
        let again = status("8", json!([condition("Succeeded", "False")]));
        let root = |tree: &Value| tree.as_object().expect("an object").clone();
        validate_status(&Node::root(&root(&again)), &Node::root(&root(&done)), &mut errors);
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(texts[0], "status.resourceVersion: Invalid value: \"8\": field is immutable");
        assert!(texts[1].ends_with("Success condition cannot be set to false once it is true"), "{texts:?}");
    }
}
