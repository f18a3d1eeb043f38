//! FlowSchemas: which requests are a flow (upstream: `pkg/registry/flowcontrol/flowschema`).

use std::collections::HashSet;

use serde_json::Value;

use super::mandatory;
use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::fill::{self, default_zero};
use crate::kinds::rules::naming;
use crate::kinds::rules::shown::Shape::{Any, Flag, List, Number, Pointer, Struct, Text};
use crate::kinds::rules::shown::{Shown, Table};
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::{Cell, NONE, or, text};

pub(crate) const KIND: Kind = Kind {
    subresources: &[Sub::STATUS],
    has_generation: true,
    cells: &[
        Cell::Name,
        Cell::Text(&["spec", "priorityLevelConfiguration", "name"]),
        Cell::Number(&["spec", "matchingPrecedence"]),
        Cell::TextOr(&["spec", "distinguisherMethod", "type"], NONE),
        Cell::Age,
        Cell::By(dangling),
    ],
    default,
    fill_status: Some(|_| {}),
    validate,
    validate_status,
    status_metadata: &[],
    ..Kind::cluster("flowschemas", "FlowSchema")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    default_zero(spec, "matchingPrecedence", 1000);
    fill::object(spec, "priorityLevelConfiguration");
    fill::object(object.root_mut(), "status");
}

const NAMED: Table = &[("Name", "name", Text)];

const FLOW_SPEC: Table = &[
    ("PriorityLevelConfiguration", "priorityLevelConfiguration", Struct(NAMED)),
    ("MatchingPrecedence", "matchingPrecedence", Number),
    ("DistinguisherMethod", "distinguisherMethod", Pointer(DISTINGUISHER)),
    (
        "Rules",
        "rules",
        List(&[
            (
                "Subjects",
                "subjects",
                List(&[
                    ("Kind", "kind", Text),
                    ("User", "user", Pointer(NAMED)),
                    ("Group", "group", Pointer(NAMED)),
                    (
                        "ServiceAccount",
                        "serviceAccount",
                        Pointer(&[("Namespace", "namespace", Text), ("Name", "name", Text)]),
                    ),
                ]),
            ),
            (
                "ResourceRules",
                "resourceRules",
                List(&[
                    ("Verbs", "verbs", Any),
                    ("APIGroups", "apiGroups", Any),
                    ("Resources", "resources", Any),
                    ("ClusterScope", "clusterScope", Flag),
                    ("Namespaces", "namespaces", Any),
                ]),
            ),
            (
                "NonResourceRules",
                "nonResourceRules",
                List(&[("Verbs", "verbs", Any), ("NonResourceURLs", "nonResourceURLs", Any)]),
            ),
        ]),
    ),
];

const DISTINGUISHER: Table = &[("Type", "type", Text)];

/// The spec of a `FlowSchema`.
fn shown_spec(spec: &Node<'_, '_>) -> Shown {
    Shown::of(spec.value(), FLOW_SPEC)
}

/// How a `FlowSchema` tells its flows apart.
fn shown_distinguisher(method: &Node<'_, '_>) -> Shown {
    Shown::of(method.value(), DISTINGUISHER)
}

const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// A `FlowSchema`.
pub(crate) fn validate(schema: &Node<'_, '_>, errors: &mut Errors) {
    let name = schema.field("metadata").field("name").text();
    let spec = schema.field("spec");
    precedence(&spec.field("matchingPrecedence"), name, errors);
    let method = spec.field("distinguisherMethod");
    if method.is_set() && !matches!(method.field("type").text(), "ByNamespace" | "ByUser") {
        let at = method.field("type");
        errors.not_supported_shown(&at, &shown_distinguisher(&method), &["ByNamespace", "ByUser"]);
    }
    let level = spec.field("priorityLevelConfiguration");
    let level = level.field("name");
    if level.text().is_empty() {
        errors.required(&level, "must reference a priority level");
    } else {
        errors.invalid_all(&level, naming::subdomain(level.text()));
    }
    for rule in spec.field("rules").items() {
        flow_rule(&rule, errors);
    }
    let fixed = mandatory::mandatory_spec("FlowSchema", name);
    if fixed.is_some_and(|fixed| !spec.is_same(&Node::at(&spec.path(), Some(&fixed)))) {
        errors.invalid_shown(&spec, &shown_spec(&spec), &format!("spec of '{name}' must equal the fixed value"));
    }
}

fn precedence(at: &Node<'_, '_>, name: &str, errors: &mut Errors) {
    match at.number() {
        ..=0 => errors.invalid_value(at, at.number(), "must be a positive value"),
        1 if name != "exempt" => errors.invalid(at, "only the schema named 'exempt' may have matchingPrecedence 1"),
        1..=10_000 => {}
        _ => errors.invalid(at, "must not be greater than 10000"),
    }
}

fn flow_rule(rule: &Node<'_, '_>, errors: &mut Errors) {
    let subjects = rule.field("subjects");
    if subjects.is_empty() {
        errors.required(&subjects, "subjects must contain at least one value");
    }
    for one in subjects.items() {
        subject(&one, errors);
    }
    let (resources, paths) = (rule.field("resourceRules"), rule.field("nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        errors.required(rule, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for resource in resources.items() {
        resource_rule(&resource, errors);
    }
    for path in paths.items() {
        path_rule(&path, errors);
    }
}

fn subject(at: &Node<'_, '_>, errors: &mut Errors) {
    const KINDS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = at.field("kind");
    let Some((name, field)) = KINDS.into_iter().find(|(name, _)| *name == kind.text()) else {
        errors.one_of(&kind, &["Group", "ServiceAccount", "User"]);
        return;
    };
    let named = at.field(field);
    if named.is_unset() {
        errors.required(&named, &format!("{field} is required when subject kind is '{name}'"));
    } else if name == "ServiceAccount" {
        service_account(&named, errors);
    } else {
        errors.require_text(&named.field("name"));
    }
    for (other, field) in KINDS.into_iter().filter(|(other, _)| *other != name) {
        if at.field(field).is_set() {
            let why = format!("{field} is forbidden when subject kind is not '{other}'");
            errors.forbidden(&at.field(field), &why);
        }
    }
}

fn service_account(at: &Node<'_, '_>, errors: &mut Errors) {
    let (name, namespace) = (at.field("name"), at.field("namespace"));
    if errors.require_text(&name) && name.text() != "*" {
        errors.invalid_all(&name, naming::subdomain(name.text()));
    }
    if namespace.text().is_empty() {
        errors.required(&namespace, "must specify namespace for service account");
    } else {
        errors.invalid_all(&namespace, naming::label(namespace.text()));
    }
}

fn is_any(list: &Node<'_, '_>) -> bool {
    list.texts().any(|text| text == "*")
}

/// A list that stands alone when it says "all of them".
fn all_or_some(list: &Node<'_, '_>, what: &str, errors: &mut Errors) {
    if list.list().len() > 1 && is_any(list) {
        errors.invalid(list, &format!("if '*' is present, must not specify other {what}"));
    }
}

fn verbs(rule: &Node<'_, '_>, errors: &mut Errors) {
    let verbs = rule.field("verbs");
    if verbs.is_empty() {
        errors.required(&verbs, "verbs must contain at least one value");
    } else if is_any(&verbs) {
        all_or_some(&verbs, "verbs", errors);
    } else if verbs.texts().any(|verb| !VERBS.contains(&verb)) {
        errors.not_supported(&verbs, &VERBS);
    }
}

fn resource_rule(rule: &Node<'_, '_>, errors: &mut Errors) {
    verbs(rule, errors);
    for (field, one, many) in [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")] {
        let list = rule.field(field);
        if list.is_empty() {
            errors.required(&list, &format!("resource rules must supply at least one {one}"));
        }
        all_or_some(&list, many, errors);
    }
    let namespaces = rule.field("namespaces");
    if namespaces.is_empty() && !rule.field("clusterScope").is_true() {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&namespaces, why);
    } else if is_any(&namespaces) {
        all_or_some(&namespaces, "namespaces", errors);
    } else {
        for namespace in namespaces.items() {
            for why in naming::label(namespace.text()) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.invalid(&namespace, &why);
            }
        }
    }
}

fn path_rule(rule: &Node<'_, '_>, errors: &mut Errors) {
    verbs(rule, errors);
    let paths = rule.field("nonResourceURLs");
    if paths.is_empty() {
        errors.required(&paths, "nonResourceURLs must contain at least one value");
    } else if is_any(&paths) {
        all_or_some(&paths, "non-resource URLs", errors);
    } else {
        for path in paths.items() {
            if let Some(why) = not_a_path(path.text()) {
                errors.invalid(&path, why);
            }
        }
    }
}

fn not_a_path(path: &str) -> Option<&'static str> {
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ => match path.matches('*').count() {
            0 => None,
            1 if path.ends_with("/*") => None,
            _ => Some("wildcard can only do suffix matching"),
        },
    }
}

/// The status of either kind: each condition once.
pub(crate) fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    let mut seen = HashSet::new();
    for condition in status.field("conditions").items() {
        let kind = condition.field("type");
        if !seen.insert(kind.text()) {
            errors.duplicate(&kind);
        }
        if kind.text().is_empty() {
            errors.required(&kind, "must not be empty");
        }
    }
}

/// Whether the priority level is missing.
fn dangling(schema: &Object) -> Value {
    or(schema.condition("Dangling").map_or("", |dangling| text(dangling, "status")), "?").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_named_spec;
    use serde_json::json;

    #[test]
    fn a_rule_says_all_or_some() {
        let rule = json!({
            "subjects": [{"kind": "User", "user": {"name": "u"}, "group": {"name": "g"}}, {"kind": "Thing"}],
            "resourceRules": [{"verbs": ["get", "fly"], "apiGroups": ["*", "a"], "resources": ["x"], "namespaces": ["A"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/a*", "b", "/*"]}],
        });
        let spec = json!({"matchingPrecedence": 1, "priorityLevelConfiguration": {"name": "l"}, "rules": [rule], "distinguisherMethod": {}});
        let verbs = VERBS.map(|verb| format!("{verb:?}")).join(", ");
        let label = naming::label("A").remove(0);
        check_named_spec(
            validate,
            "x",
            spec,
            &[
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                "spec.distinguisherMethod.type: Unsupported value: {\"Type\":\"\"}: supported values: \"ByNamespace\", \"ByUser\"",
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[0].subjects[1].kind: Unsupported value: \"Thing\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
                &format!(
                    "spec.rules[0].resourceRules[0].verbs: Unsupported value: [\"get\",\"fly\"]: supported values: {verbs}"
                ),
                "spec.rules[0].resourceRules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other api groups",
                &format!(
                    "spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: \"A\": each member of this list must be '*' or a DNS-1123 label; {label}"
                ),
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do suffix matching",
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"b\": must start with slash",
            ],
        );
    }
}
