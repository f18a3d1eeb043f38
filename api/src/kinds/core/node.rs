//! Nodes (upstream: `pkg/registry/core/node`).

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::kind::{Kind, Sub, field};
use crate::kinds::pods::affinity::EFFECTS;
use crate::kinds::pods::resources;
use crate::kinds::rules::fill::{self, default_pointer, each, is_zero, object, text};
use crate::kinds::rules::shown::Shape::{Any, Pointer, Text};
use crate::kinds::rules::shown::{Shown, Table};
use crate::kinds::rules::tree::{Errors, Fields, Node};
use crate::kinds::rules::{addresses, labels, naming};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{self, NONE, UNKNOWN, age, list, or};

pub(crate) const KIND: Kind = Kind {
    short_names: &["no"],
    subresources: &[Sub::proxy("NodeProxyOptions"), Sub::STATUS],
    prefix: Some("minions"),
    fields: &[field("spec.unschedulable").or("false")],
    cells: &[Row(cells)],
    default,
    fill_status: Some(fill_status),
    validate,
    validate_change,
    validate_status: validate_change,
    warn,
    rechecks: (1, 1),
    keeps_status_on_create: true,
    ..Kind::cluster("nodes", "Node")
};

/// Defaults of a `Node`; `podCIDR` is the first of `podCIDRs`.
fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    let first = spec.get("podCIDRs").and_then(Value::as_array).and_then(|list| list.first()).cloned();
    match (text(spec, "podCIDR").to_owned(), first) {
        (_, Some(first)) => {
            spec.insert("podCIDR".to_owned(), first);
        }
        (single, None) if !single.is_empty() => {
            spec.insert("podCIDRs".to_owned(), json!([single]));
        }
        _ => {}
    }
}

/// The parts of a node's status that are always shown.
fn fill_status(status: &mut Fields) {
    let endpoint = object(object(status, "daemonEndpoints"), "kubeletEndpoint");
    default_pointer(endpoint, "Port", 0);
    let info = object(status, "nodeInfo");
    for key in [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ] {
        default_pointer(info, key, "");
    }
    each(status, "conditions", |condition| {
        default_pointer(condition, "lastHeartbeatTime", Value::Null);
        default_pointer(condition, "lastTransitionTime", Value::Null);
    });
    if is_zero(status, "allocatable")
        && let Some(capacity) = status.get("capacity").filter(|c| c.is_object()).cloned()
    {
        status.insert("allocatable".to_owned(), capacity);
    }
}

/// A taint of a node.
fn shown_taint(at: &Node<'_, '_>) -> Shown {
    const TAINT: Table =
        &[("Key", "key", Text), ("Value", "value", Text), ("Effect", "effect", Text), ("TimeAdded", "timeAdded", Any)];
    Shown::of(at.value(), TAINT)
}

/// Where a kubelet of former times found its configuration.
fn shown_config_source(at: &Node<'_, '_>) -> Shown {
    const CONFIG_MAP: Table = &[
        ("Namespace", "namespace", Text),
        ("Name", "name", Text),
        ("UID", "uid", Text),
        ("ResourceVersion", "resourceVersion", Text),
        ("KubeletConfigKey", "kubeletConfigKey", Text),
    ];
    Shown::or_null(at.value(), &[("ConfigMap", "configMap", Pointer(CONFIG_MAP))])
}

fn validate(node: &Node<'_, '_>, errors: &mut Errors) {
    let spec = node.field("spec");
    taints(&spec.field("taints"), errors);
    quantities(node, errors);
    let cidrs = spec.field("podCIDRs");
    for cidr in cidrs.items() {
        errors.invalid_all(&cidr, addresses::cidr(cidr.text()));
    }
    if cidrs.list().len() > 1 {
        several_ranges(&cidrs, errors);
    }
}

/// One range of each family.
fn several_ranges(cidrs: &Node<'_, '_>, errors: &mut Errors) {
    let first = |text: &str| addresses::parse_cidr(text).map(|(address, _)| address);
    let dual = addresses::is_dual(cidrs.texts(), first);
    if let (None, Some(wrong)) = (dual, cidrs.texts().find(|text| addresses::parse_cidr(text).is_none())) {
        let why = format!("invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR address: {wrong}");
        errors.push(crate::FieldError::internal(&cidrs.path(), &why));
    }
    if dual != Some(true) || cidrs.list().len() > 2 {
        errors.invalid(cidrs, "may specify no more than one CIDR for each IP family");
    }
    let mut seen = HashSet::new();
    for cidr in cidrs.items().filter(|cidr| !seen.insert(cidr.text())) {
        errors.duplicate(&cidr);
    }
}

fn quantities(node: &Node<'_, '_>, errors: &mut Errors) {
    let status = node.field("status");
    for list in ["capacity", "allocatable"] {
        let list = status.field(list);
        // Upstream writes the names as fields.
        for (name, _) in list.entries() {
            resources::value(name, &list.field(name), errors);
        }
    }
}

/// Upstream says `metadata.taints` though they are in the spec.
fn taints(taints: &Node<'_, '_>, errors: &mut Errors) {
    let path = crate::Path::new("metadata").child("taints");
    let taints = Node::at(&path, taints.value());
    let mut seen = HashSet::new();
    for taint in taints.items() {
        let (key, value, effect) = (taint.field("key"), taint.field("value"), taint.field("effect"));
        labels::label_name(&key, errors);
        let wrong = naming::label_value(value.text());
        if !wrong.is_empty() {
            errors.invalid(&value, &wrong.join(";"));
        }
        if errors.require_text(&effect) {
            errors.one_of(&effect, &EFFECTS);
        }
        if !seen.insert((key.text(), effect.text())) {
            errors.duplicate_shown(&taint, &shown_taint(&taint), "taints must be unique by key and effect pair");
        }
    }
}

/// What may not change in a `Node`, and what its status is held to.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    quantities(new, errors);
    let status = new.field("status");
    let mut seen = HashSet::new();
    for address in status.field("addresses").items() {
        let (kind, text) = (address.field("type").text(), address.field("address").text());
        if !seen.insert((kind, text)) {
            let shown = Shown::fields([("Type", kind.into()), ("Address", text.into())]);
            errors.duplicate_shown(&address, &shown, "");
        }
    }
    let (spec, before) = (new.field("spec"), old.field("spec"));
    once(&spec.field("podCIDRs"), &before.field("podCIDRs"), errors);
    let (provider, had) = (spec.field("providerID"), before.field("providerID"));
    if !had.text().is_empty() && provider.text() != had.text() {
        errors.forbidden(&provider, "node updates may not change providerID except from \"\" to valid");
    }
    wanted_config(&spec.field("configSource"), errors);
    let found = status.field("config");
    for key in ["assigned", "active", "lastKnownGood"] {
        found_config(&found.field(key), errors);
    }
    taints(&spec.field("taints"), errors);
    if spec.field("externalID").text() != before.field("externalID").text() {
        errors.forbidden(&spec.field("externalID"), "may not be updated");
    }
}

/// The ranges of a node are given once. Upstream reports each that differs.
fn once(now: &Node<'_, '_>, had: &Node<'_, '_>, errors: &mut Errors) {
    if had.is_empty() {
        return;
    }
    let same_length = now.list().len() == had.list().len();
    let differing = now.list().iter().zip(had.list()).filter(|(now, had)| now != had).count();
    for _ in 0..(if same_length { differing } else { 1 }) {
        errors.forbidden(now, "node updates may not change podCIDR except from \"\" to valid");
    }
}

/// Where kubelets of former times found their configuration: as it should be, without what only a server knows.
fn wanted_config(at: &Node<'_, '_>, errors: &mut Errors) {
    let map = at.field("configMap");
    for key in ["uid", "resourceVersion"] {
        if !map.field(key).text().is_empty() {
            errors.forbidden(&map.field(key), &format!("{key} must not be set in spec"));
        }
    }
    config_source(at, errors);
}

/// Where such a kubelet found it: as it was then.
fn found_config(at: &Node<'_, '_>, errors: &mut Errors) {
    let map = at.field("configMap");
    for key in ["uid", "resourceVersion"] {
        if map.is_set() && map.field(key).text().is_empty() {
            errors.required(&map.field(key), &format!("{key} must be set in status"));
        }
    }
    config_source(at, errors);
}

fn config_source(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    let map = at.field("configMap");
    if map.is_unset() {
        let why = "exactly one reference subfield must be non-nil";
        errors.invalid_shown(at, &shown_config_source(at), why);
        return;
    }
    type Rule = fn(&str) -> Vec<String>;
    let rule: [(&str, Rule); 3] =
        [("namespace", naming::label), ("name", naming::subdomain), ("kubeletConfigKey", naming::config_map_key)];
    for (key, rule) in rule {
        let field = map.field(key);
        if field.text().is_empty() {
            errors.required(&field, &format!("{key} must be set"));
        } else {
            errors.invalid_all(&field, rule(field.text()));
        }
    }
}

/// Texts on fields of a node that do nothing any more.
fn warn(node: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    const GONE: [(&str, &str); 2] = [
        ("configSource", "the feature is removed"),
        ("externalID", "this field is deprecated, and is unused by Kubernetes"),
    ];
    let spec = node.field("spec");
    for (key, text) in GONE {
        let field = spec.field(key);
        if field.is_set() && !(key == "externalID" && field.text().is_empty()) {
            texts.push(format!("{}: {text}", field.path()));
        }
    }
    for cidr in spec.field("podCIDRs").items() {
        texts.extend(addresses::cidr_warnings(&cidr.path(), cidr.text()));
    }
}

fn cells(node: &Object, now: Timestamp) -> Vec<Value> {
    let ready = node.condition("Ready");
    let mut status = match ready {
        Some(condition) if cell::text(condition, "status") == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.get(&["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let address = |type_: &str| {
        let found = list(node, &["status", "addresses"]).iter().find(|address| cell::text(address, "type") == type_);
        or(found.map_or("", |address| cell::text(address, "address")), NONE)
    };
    let info = |field: &str| or(node.text(&["status", "nodeInfo", field]), UNKNOWN);
    let kernel = match (info("kernelVersion"), node.text(&["status", "nodeInfo", "architecture"])) {
        (UNKNOWN, _) => UNKNOWN.to_owned(),
        (kernel, "") => kernel.to_owned(),
        (kernel, architecture) => format!("{kernel} ({architecture})"),
    };
    vec![
        node.name().into(),
        status.into(),
        or(&roles(node).join(","), NONE).into(),
        age(node, now).into(),
        node.text(&["status", "nodeInfo", "kubeletVersion"]).into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        info("osImage").into(),
        kernel.into(),
        info("containerRuntimeVersion").into(),
    ]
}

fn roles(node: &Object) -> Vec<&str> {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in node.labels().into_iter().flatten() {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.as_str().unwrap_or(""),
            None => "",
        };
        roles.extend((!role.is_empty()).then_some(role));
    }
    roles.sort_unstable();
    roles.dedup();
    roles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(new: &Value, old: &Value, want: &[&str]) {
        let mut errors = Errors::default();
        let (new, old) = (new.as_object().expect("an object"), old.as_object().expect("an object"));
        validate_change(&Node::root(new), &Node::root(old), &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn what_names_a_node_is_given_once() {
        check(
            &json!({"spec": {"podCIDRs": ["10.0.1.0/24"], "providerID": "b", "taints": [
                {"key": "k", "effect": "NoSchedule"}, {"key": "k", "value": "v", "effect": "NoSchedule"}]}}),
            &json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}}),
            &[
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
                "metadata.taints[1]: Duplicate value: {\"Key\":\"k\",\"Value\":\"v\",\"Effect\":\"NoSchedule\",\"TimeAdded\":null}: \
               taints must be unique by key and effect pair",
            ],
        );
    }
}
