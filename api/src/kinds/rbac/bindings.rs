//! RoleBindings and ClusterRoleBindings (upstream: `pkg/registry/rbac/{role,clusterrole}binding`).

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::{self, default_zero, each, text};
use crate::kinds::rules::naming;
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{self, age, list};

pub(crate) const CLUSTER_ROLE_BINDING: Kind = Kind {
    cells: &[Row(cells)],
    default,
    validate: cluster_role_binding,
    validate_change,
    validate_name: naming::path_segment_name,
    rechecks: (1, 1),
    create_on_update: true,
    ..Kind::cluster("clusterrolebindings", "ClusterRoleBinding")
};

pub(crate) const ROLE_BINDING: Kind = Kind {
    cells: &[Row(cells)],
    default,
    validate: role_binding,
    validate_change,
    validate_name: naming::path_segment_name,
    rechecks: (1, 1),
    create_on_update: true,
    ..Kind::namespaced("rolebindings", "RoleBinding")
};

/// A `RoleBinding`.
fn role_binding(binding: &Node<'_, '_>, errors: &mut Errors) {
    bind(binding, &["Role", "ClusterRole"], errors);
}

/// A `ClusterRoleBinding`.
fn cluster_role_binding(binding: &Node<'_, '_>, errors: &mut Errors) {
    bind(binding, &["ClusterRole"], errors);
}

fn bind(binding: &Node<'_, '_>, kinds: &[&str], errors: &mut Errors) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let reference = binding.field("roleRef");
    if reference.field("apiGroup").text() != GROUP {
        errors.one_of(&reference.field("apiGroup"), &[GROUP]);
    }
    errors.one_of(&reference.field("kind"), kinds);
    let name = reference.field("name");
    if errors.require_text(&name) {
        errors.invalid_all(&name, naming::path_segment_name(name.text(), false));
    }
    for subject in binding.field("subjects").items() {
        subject_rules(&subject, kinds.len() == 2, errors);
    }
}

fn subject_rules(subject: &Node<'_, '_>, namespaced: bool, errors: &mut Errors) {
    let (kind, name, group) = (subject.field("kind"), subject.field("name"), subject.field("apiGroup"));
    errors.require_text(&name);
    match kind.text() {
        "ServiceAccount" => {
            if !name.text().is_empty() {
                errors.invalid_all(&name, naming::subdomain(name.text()));
            }
            if !group.text().is_empty() {
                errors.one_of(&group, &[""]);
            }
            if !namespaced && subject.field("namespace").text().is_empty() {
                errors.required(&subject.field("namespace"), "");
            }
        }
        "User" | "Group" => errors.one_of(&group, &["rbac.authorization.k8s.io"]),
        _ => errors.one_of(&kind, &["ServiceAccount", "User", "Group"]),
    }
}

/// Defaults of a `RoleBinding` or `ClusterRoleBinding`.
fn default(object: &mut Object) {
    const RBAC: &str = "rbac.authorization.k8s.io";
    let root = object.root_mut();
    default_zero(fill::object(root, "roleRef"), "apiGroup", RBAC);
    each(root, "subjects", |subject| {
        let group = if matches!(text(subject, "kind"), "User" | "Group") { RBAC } else { "" };
        if !group.is_empty() {
            default_zero(subject, "apiGroup", group);
        }
    });
}

/// The role of a binding never changes.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("roleRef"), old.field("roleRef"));
    if new.value() != old.value() {
        let text = |key: &str| Value::from(new.field(key).text());
        let shown = Shown::fields([("APIGroup", text("apiGroup")), ("Kind", text("kind")), ("Name", text("name"))]);
        errors.invalid_shown(&new, &shown, "cannot change roleRef");
    }
}

fn cells(binding: &Object, now: Timestamp) -> Vec<Value> {
    let role = |field: &str| binding.text(&["roleRef", field]);
    let subjects = |kind: &str| {
        let found = list(binding, &["subjects"]).iter().filter(|subject| cell::text(subject, "kind") == kind);
        let names = found.map(|subject| match cell::text(subject, "namespace") {
            namespace if kind == "ServiceAccount" => format!("{namespace}/{}", cell::text(subject, "name")),
            _ => cell::text(subject, "name").to_owned(),
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
