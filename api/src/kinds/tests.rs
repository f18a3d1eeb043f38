use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use crate::Object;
use crate::catalog::Catalog;
use crate::strategy::{DefaultDeletion, Strategy};

/// The kinds of the catalog for which `test` holds.
fn kinds_where(test: impl Fn(&dyn Strategy) -> bool) -> BTreeSet<String> {
    let catalog = Catalog::builtin();
    catalog.iter().filter(|row| test(&*row.strategy)).map(|row| row.kind.to_string()).collect()
}

fn strategy(group: &str, kind: &str) -> Arc<dyn Strategy> {
    Catalog::builtin().kind(group, "v1", kind).expect("served").strategy.clone()
}

fn set(kinds: &[&str]) -> BTreeSet<String> {
    kinds.iter().map(|kind| (*kind).to_owned()).collect()
}

fn object(tree: serde_json::Value) -> Object {
    Object::from_value(tree).expect("an object")
}

#[test]
fn put_creates_what_upstream_lets_it_create() {
    let want = [
        "ClusterRole",
        "ClusterRoleBinding",
        "Endpoints",
        "Event",
        "Lease",
        "LimitRange",
        "Role",
        "RoleBinding",
        "RuntimeClass",
        "Service",
    ];
    assert_eq!(kinds_where(|strategy| strategy.allow_create_on_update()), set(&want));
}

#[test]
fn the_oldest_kinds_leave_orphans_by_default() {
    let orphans = kinds_where(|strategy| strategy.default_deletion() == DefaultDeletion::Orphan);
    assert_eq!(orphans, set(&["Job", "ReplicationController"]));
}

#[test]
fn every_built_in_kind_survives_an_empty_and_a_wrong_object() {
    let user = crate::strategy::User::default();
    let now = "2026-01-02T03:04:05Z".parse().expect("a time");
    let context = crate::strategy::WriteContext { now, user: &user, subresource: "" };
    for row in Catalog::everything().iter() {
        for tree in [json!({}), json!({"metadata": 1, "spec": [], "status": "x", "webhooks": {}, "subsets": [1]})] {
            let mut new = object(tree);
            row.strategy.default(&mut new);
            let once = new.clone();
            row.strategy.default(&mut new);
            assert_eq!(new, once, "defaulting {} twice", row.kind);
            row.strategy.prepare_create(&context, &mut new);
            row.strategy.validate_create(&context, &new);
            row.strategy.validate_update(&context, &new, &once);
            row.strategy.validate_status_update(&context, &new, &once);
            row.strategy.warnings(&new, Some(&once));
        }
    }
}

#[test]
fn doubtful_pods_and_names_warn() {
    let warn = |kind: &str, group: &str, tree| strategy(group, kind).warnings(&object(tree), None);
    let spread = json!({"metadata": {"name": "p"}, "spec": {"topologySpreadConstraints": [{}]}});
    assert_eq!(
        warn("Pod", "", spread),
        ["spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"]
    );
    let dotted = json!({"metadata": {"name": "a.b"}});
    assert_eq!(
        warn("Deployment", "apps", dotted),
        ["metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; \
          a DNS label is recommended: [must not contain dots]"]
    );
    let long = json!({"metadata": {"name": "n".repeat(64)}});
    assert!(warn("Deployment", "apps", long)[0].ends_with("[must be no more than 63 characters]"));
}

#[test]
fn a_namespace_stays_while_its_spec_has_finalizers() {
    let strategy = strategy("", "Namespace");
    assert!(strategy.holds_deletion(&object(json!({"spec": {"finalizers": ["kubernetes"]}}))));
    assert!(!strategy.holds_deletion(&object(json!({"spec": {}}))));
}
