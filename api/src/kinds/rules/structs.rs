//! Smaller structs that error texts show whole.

use serde_json::Value;

use super::shown::{Shown, Table};
use super::tree::Node;
use crate::kinds::rules::shown::Shape::{Any, List, Pointer, Text};

const REQUIREMENT: Table = &[("Key", "key", Text), ("Operator", "operator", Text), ("Values", "values", Any)];
pub(crate) const NODE_SELECTOR_TERM: Table =
    &[("MatchExpressions", "matchExpressions", List(REQUIREMENT)), ("MatchFields", "matchFields", List(REQUIREMENT))];

/// What a job makes of pods that fail; `null` for nothing.
pub(crate) fn pod_failure_policy(at: &Node<'_, '_>) -> Shown {
    const EXIT_CODES: Table =
        &[("ContainerName", "containerName", Any), ("Operator", "operator", Text), ("Values", "values", Any)];
    const RULE: Table = &[
        ("Action", "action", Text),
        ("OnExitCodes", "onExitCodes", Pointer(EXIT_CODES)),
        ("OnPodConditions", "onPodConditions", List(&[("Type", "type", Text), ("Status", "status", Text)])),
    ];
    or_null(at, &[("Rules", "rules", List(RULE))])
}

/// When a job is done; `null` for when all of it is.
pub(crate) fn success_policy(at: &Node<'_, '_>) -> Shown {
    const RULE: Table = &[("SucceededIndexes", "succeededIndexes", Any), ("SucceededCount", "succeededCount", Any)];
    or_null(at, &[("Rules", "rules", List(RULE))])
}

/// What a quota is for.
pub(crate) fn scope_selector(at: &Node<'_, '_>) -> Shown {
    const SCOPE: Table = &[("ScopeName", "scopeName", Text), ("Operator", "operator", Text), ("Values", "values", Any)];
    or_null(at, &[("MatchExpressions", "matchExpressions", List(SCOPE))])
}

/// A term of a node selector.
pub(crate) fn node_selector_term(at: &Node<'_, '_>) -> Shown {
    Shown::of(at.value(), NODE_SELECTOR_TERM)
}

/// The terms of a node selector.
pub(crate) fn node_selector_terms(at: &Node<'_, '_>) -> Shown {
    if at.is_unset() {
        Shown::Leaf(Value::Null)
    } else {
        Shown::List(at.items().map(|term| node_selector_term(&term)).collect())
    }
}

/// Where a kubelet of former times found its configuration.
pub(crate) fn node_config_source(at: &Node<'_, '_>) -> Shown {
    const CONFIG_MAP: Table = &[
        ("Namespace", "namespace", Text),
        ("Name", "name", Text),
        ("UID", "uid", Text),
        ("ResourceVersion", "resourceVersion", Text),
        ("KubeletConfigKey", "kubeletConfigKey", Text),
    ];
    or_null(at, &[("ConfigMap", "configMap", Pointer(CONFIG_MAP))])
}

/// What an address was given to.
pub(crate) fn parent_reference(at: &Node<'_, '_>) -> Shown {
    or_null(
        at,
        &[
            ("Group", "group", Text),
            ("Resource", "resource", Text),
            ("Namespace", "namespace", Text),
            ("Name", "name", Text),
        ],
    )
}

/// An object that another one is about.
pub(crate) fn object_reference(at: &Node<'_, '_>) -> Shown {
    const REFERENCE: Table = &[
        ("Kind", "kind", Text),
        ("Namespace", "namespace", Text),
        ("Name", "name", Text),
        ("UID", "uid", Text),
        ("APIVersion", "apiVersion", Text),
        ("ResourceVersion", "resourceVersion", Text),
        ("FieldPath", "fieldPath", Text),
    ];
    Shown::of(at.value(), REFERENCE)
}

/// Where an event was seen.
pub(crate) fn event_source(at: &Node<'_, '_>) -> Shown {
    Shown::of(at.value(), &[("Component", "component", Text), ("Host", "host", Text)])
}

fn or_null(at: &Node<'_, '_>, table: Table) -> Shown {
    if at.is_unset() { Shown::Leaf(Value::Null) } else { Shown::of(at.value(), table) }
}
