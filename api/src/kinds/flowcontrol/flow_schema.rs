//! Rules for flow control: which requests are a flow, and how much a priority level may do at once.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{naming, shown};

const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// The spec that the object of this kind and name always has, if it is one of those that the server cannot do without.
pub fn mandatory_spec(kind: &str, name: &str) -> Option<Value> {
    let resources = json!([{
        "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
    }]);
    let paths = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    Some(match (kind, name) {
        ("FlowSchema", "exempt") => json!({
            "priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 1,
            "rules": [{
                "subjects": [group("system:masters")], "resourceRules": resources, "nonResourceRules": paths,
            }],
        }),
        ("FlowSchema", "catch-all") => json!({
            "priorityLevelConfiguration": {"name": "catch-all"}, "matchingPrecedence": 10_000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [group("system:unauthenticated"), group("system:authenticated")],
                "resourceRules": resources, "nonResourceRules": paths,
            }],
        }),
        ("PriorityLevelConfiguration", "exempt") => {
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})
        }
        ("PriorityLevelConfiguration", "catch-all") => json!({
            "type": "Limited",
            "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0},
        }),
        _ => return None,
    })
}

/// A `FlowSchema`.
pub(crate) fn schema(schema: &Node<'_, '_>, errors: &mut Errors) {
    let name = schema.field("metadata").field("name").text();
    let spec = schema.field("spec");
    precedence(&spec.field("matchingPrecedence"), name, errors);
    let method = spec.field("distinguisherMethod");
    if method.is_set() && !matches!(method.field("type").text(), "ByNamespace" | "ByUser") {
        let at = method.field("type");
        errors.not_supported_shown(&at, &shown::distinguisher(&method), &["ByNamespace", "ByUser"]);
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
    let fixed = mandatory_spec("FlowSchema", name);
    if fixed.is_some_and(|fixed| !spec.is_same(&Node::at(&spec.path(), Some(&fixed)))) {
        errors.invalid_shown(&spec, &shown::flow_spec(&spec), &format!("spec of '{name}' must equal the fixed value"));
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

/// A `PriorityLevelConfiguration`.
pub(crate) fn level(level: &Node<'_, '_>, errors: &mut Errors) {
    const FORBIDDEN: &str = "flowcontrol.k8s.io/preserve-zero-concurrency-shares";
    let metadata = level.field("metadata");
    let annotations = metadata.field("annotations");
    if annotations.field(FORBIDDEN).is_set() {
        errors.forbidden(&annotations, &format!("annotation '{FORBIDDEN}' is forbidden"));
    }
    let name = metadata.field("name").text();
    let spec = level.field("spec");
    let (kind, limited, exempt) = (spec.field("type"), spec.field("limited"), spec.field("exempt"));
    if (name == "exempt") != (kind.text() == "Exempt") {
        errors.invalid_value(&kind, kind.text(), "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                errors.forbidden(&limited, "must be nil if the type is not Limited");
            }
            shares(&exempt, errors);
            lendable(&exempt, errors);
        }
        "Limited" => {
            if exempt.is_set() {
                errors.forbidden(&exempt, "must be nil if the type is Limited");
            }
            if limited.is_unset() {
                errors.required(&limited, "must not be empty when type is Limited");
            } else {
                limits(&limited, errors);
            }
        }
        _ => errors.one_of(&kind, &["Exempt", "Limited"]),
    }
    fixed_level(&spec, name, errors);
}

/// Of the level for what is never held up, only the shares that others count on may change.
fn fixed_level(spec: &Node<'_, '_>, name: &str, errors: &mut Errors) {
    let Some(mut fixed) = mandatory_spec("PriorityLevelConfiguration", name) else { return };
    let mut except = "";
    if name == "exempt" {
        fixed["exempt"] = spec.field("exempt").shown();
        except = " except the 'spec.exempt' field";
    }
    if !spec.is_same(&Node::at(&spec.path(), Some(&fixed))) {
        let why = format!("spec of '{name}'{except} must equal the fixed value");
        errors.invalid_shown(spec, &shown::level_spec(spec), &why);
    }
}

fn shares(at: &Node<'_, '_>, errors: &mut Errors) {
    let nominal = at.field("nominalConcurrencyShares");
    if nominal.number() < 0 {
        errors.invalid(&nominal, "must be a non-negative integer");
    }
}

fn lendable(at: &Node<'_, '_>, errors: &mut Errors) {
    let lendable = at.field("lendablePercent");
    if !(0..=100).contains(&lendable.number()) {
        errors.invalid(&lendable, "must be between 0 and 100, inclusive");
    }
}

fn limits(limited: &Node<'_, '_>, errors: &mut Errors) {
    shares(limited, errors);
    let response = limited.field("limitResponse");
    let (kind, queuing) = (response.field("type"), response.field("queuing"));
    match (kind.text(), queuing.is_set()) {
        ("Reject", true) => {
            errors.forbidden(&queuing, "must be nil if limited.limitResponse.type is not Limited");
        }
        ("Queue", false) => {
            errors.required(&queuing, "must not be empty if limited.limitResponse.type is Limited");
        }
        ("Queue", true) => queues(&queuing, errors),
        ("Reject", false) => {}
        _ => errors.one_of(&kind, &["Queue", "Reject"]),
    }
    lendable(limited, errors);
    let borrowing = limited.field("borrowingLimitPercent");
    if borrowing.number() < 0 {
        errors.invalid(&borrowing, "if specified, must be a non-negative integer");
    }
}

/// Requests are dealt to the queues of a hand, which a hash of this many bits decides.
const HASH_BITS: i64 = 60;

fn queues(at: &Node<'_, '_>, errors: &mut Errors) {
    const MOST: i64 = 10_000_000;
    let (length, queues, hand) = (at.field("queueLengthLimit"), at.field("queues"), at.field("handSize"));
    if length.number() <= 0 {
        errors.invalid_value(&length, length.number(), "must be positive");
    }
    if queues.number() <= 0 {
        errors.invalid_value(&queues, queues.number(), "must be positive");
    } else if queues.number() > MOST {
        errors.invalid(&queues, &format!("must not be greater than {MOST}"));
    }
    let bits = (queues.number() as f64).log2() * hand.number() as f64;
    if hand.number() <= 0 {
        errors.invalid_value(&hand, hand.number(), "must be positive");
    } else if hand.number() > queues.number() {
        errors.invalid(&hand, &format!("should not be greater than queues ({})", queues.number()));
    } else if bits.ceil() as i64 > HASH_BITS {
        let (deck, hand_size) = (queues.number(), hand.number());
        let why = format!(
            "required entropy bits of deckSize {deck} and handSize {hand_size} should not be greater than {HASH_BITS}"
        );
        errors.invalid(&hand, &why);
    }
}

/// The status of either kind: each condition once.
pub(crate) fn status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&Node<'_, '_>, &mut Errors), name: &str, spec: Value, want: &[&str]) {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        let mut errors = Errors::default();
        rule(&Node::root(object.as_object().expect("an object")), &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn what_the_server_cannot_do_without_keeps_its_spec() {
        for name in ["exempt", "catch-all"] {
            check(schema, name, mandatory_spec("FlowSchema", name).unwrap(), &[]);
            check(level, name, mandatory_spec("PriorityLevelConfiguration", name).unwrap(), &[]);
        }
        let mut spec = mandatory_spec("PriorityLevelConfiguration", "exempt").unwrap();
        spec["exempt"]["lendablePercent"] = 10.into();
        check(level, "exempt", spec, &[]);
        let mut spec = mandatory_spec("PriorityLevelConfiguration", "catch-all").unwrap();
        spec["limited"]["lendablePercent"] = 10.into();
        check(
            level,
            "catch-all",
            spec,
            &[
                "spec: Invalid value: {\"Type\":\"Limited\",\"Limited\":{\"NominalConcurrencyShares\":5,\"LimitResponse\":{\"Type\":\"Reject\",\"Queuing\":null},\"LendablePercent\":10,\"BorrowingLimitPercent\":null},\"Exempt\":null}: spec of 'catch-all' must equal the fixed value",
            ],
        );
    }

    #[test]
    fn only_one_level_is_exempt() {
        let want = ["spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'"];
        check(level, "other", json!({"type": "Exempt"}), &want);
    }

    #[test]
    fn a_hand_fits_its_deck() {
        let spec = |queues: i64, hand: i64| {
            let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 1});
            json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}})
        };
        check(level, "x", spec(64, 8), &[]);
        check(level, "x", spec(10_000_000, 2), &[]);
        let at = "spec.limited.limitResponse.queuing";
        let bits = format!(
            "{at}.handSize: Invalid value: 8: required entropy bits of deckSize 512 and handSize 8 should not be greater than 60"
        );
        check(level, "x", spec(512, 8), &[&bits]);
        let large = format!("{at}.handSize: Invalid value: 8: should not be greater than queues (7)");
        check(level, "x", spec(7, 8), &[&large]);
    }

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
        check(
            schema,
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
