//! Rules for core kinds without a file of their own.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::affinity::EFFECTS;
use super::tree::{Errors, IMMUTABLE, Node};
use super::{meta, resources, rules};

/// The most that a ConfigMap or Secret may hold.
const MAX_DATA: usize = 1024 * 1024;
const WHEN_IMMUTABLE: &str = "field is immutable when `immutable` is set";

/// A `ConfigMap`.
pub(crate) fn config_map(map: &Node<'_, '_>, errors: &mut Errors) {
    let (data, binary) = (map.field("data"), map.field("binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        for why in rules::config_map_key(key) {
            errors.invalid_value(&value, key, &why);
        }
        if binary.map().is_some_and(|map| map.contains_key(key)) {
            errors.invalid_value(&value, key, "duplicate of key present in binaryData");
        }
        size += value.text().len();
    }
    for (key, value) in binary.entries() {
        for why in rules::config_map_key(key) {
            errors.invalid_value(&value, key, &why);
        }
        size += decoded_length(value.text());
    }
    too_much_data(size, errors);
}

/// Upstream names no field here, which prints as an empty index.
fn too_much_data(size: usize, errors: &mut Errors) {
    if size > MAX_DATA {
        errors.push(crate::FieldError::too_long(&crate::Path::default().key(""), MAX_DATA));
    }
}

fn decoded_length(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|b| *b == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

/// What may not change in a `ConfigMap`.
pub(crate) fn config_map_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    frozen(new, old, &["data", "binaryData"], errors);
}

fn frozen(new: &Node<'_, '_>, old: &Node<'_, '_>, keys: &[&str], errors: &mut Errors) {
    if !old.field("immutable").is_true() {
        return;
    }
    if !new.field("immutable").is_true() {
        errors.forbidden(&new.field("immutable"), WHEN_IMMUTABLE);
    }
    let empty = Map::new();
    for key in keys {
        let (new, old) = (new.field(key), old.field(key));
        if new.map().unwrap_or(&empty) != old.map().unwrap_or(&empty) {
            errors.forbidden(&new, WHEN_IMMUTABLE);
        }
    }
}

/// A `Secret`.
pub(crate) fn secret(secret: &Node<'_, '_>, errors: &mut Errors) {
    let data = secret.field("data");
    let mut size = 0;
    for (key, value) in data.entries() {
        for why in rules::config_map_key(key) {
            errors.invalid_value(&value, key, &why);
        }
        size += decoded_length(value.text());
    }
    if size > MAX_DATA {
        errors.too_long(&data, MAX_DATA);
    }
    let has = |key: &str| data.map().is_some_and(|map| map.contains_key(key));
    match secret.field("type").text() {
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)) {
                errors.required(&data.key(key), "");
            }
        }
        "kubernetes.io/dockercfg" => registry_credentials(&data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => registry_credentials(&data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.required(&data.key("username"), "");
            errors.required(&data.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if !has("ssh-privatekey") => errors.required(&data.key("ssh-privatekey"), ""),
        "kubernetes.io/service-account-token" => token_account(secret, errors),
        _ => {}
    }
}

fn token_account(secret: &Node<'_, '_>, errors: &mut Errors) {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let metadata = secret.field("metadata");
    let annotations = metadata.field("annotations");
    if annotations.map().and_then(|map| map.get(ACCOUNT)).and_then(Value::as_str).unwrap_or("").is_empty() {
        errors.required(&annotations.key(ACCOUNT), "");
    }
}

fn registry_credentials(data: &Node<'_, '_>, key: &'static str, errors: &mut Errors) {
    use base64::Engine as _;
    let Some(encoded) = data.map().and_then(|map| map.get(key)).and_then(Value::as_str) else {
        errors.required(&data.key(key), "");
        return;
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    if let Err(why) = serde_json::from_slice::<Value>(&bytes) {
        errors.invalid_value(&data.key(key), "<secret contents redacted>", &why.to_string());
    }
}

/// What may not change in a `Secret`.
pub(crate) fn secret_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("type"), &old.field("type"));
    frozen(new, old, &["data"], errors);
}

/// A `Node`.
pub(crate) fn node(node: &Node<'_, '_>, errors: &mut Errors) {
    let spec = node.field("spec");
    taints(&spec.field("taints"), errors);
    let cidrs = spec.field("podCIDRs");
    for cidr in cidrs.items() {
        errors.invalid_all(&cidr, rules::cidr(cidr.text()));
    }
    let ranges: Vec<_> = cidrs.texts().filter_map(rules::parse_cidr).collect();
    let of_family = |v4: bool| ranges.iter().filter(|(address, _)| address.is_ipv4() == v4).count();
    if of_family(true) > 1 || of_family(false) > 1 {
        errors.invalid(&cidrs, "may specify no more than one CIDR for each IP family");
    }
    let status = node.field("status");
    for (name, quantity) in status.field("capacity").entries().chain(status.field("allocatable").entries()) {
        resources::value(name, &quantity, errors);
    }
}

/// Upstream says `metadata.taints` though they are in the spec.
fn taints(taints: &Node<'_, '_>, errors: &mut Errors) {
    let path = crate::Path::new("metadata").child("taints");
    let taints = Node::at(&path, taints.value());
    let mut seen = HashSet::new();
    for taint in taints.items() {
        let (key, value, effect) = (taint.field("key"), taint.field("value"), taint.field("effect"));
        for why in rules::qualified_name(key.text()) {
            errors.invalid_value(&key, key.text(), &why);
        }
        if !value.text().is_empty() {
            errors.invalid_all(&value, rules::label_value(value.text()));
        }
        if effect.text().is_empty() {
            errors.required(&effect, "");
        } else {
            errors.one_of(&effect, &EFFECTS);
        }
        if !seen.insert((key.text(), effect.text())) {
            errors.duplicate(&taint);
        }
    }
}

/// What may not change in a `Node`.
pub(crate) fn node_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    let (cidrs, had) = (new.field("podCIDRs"), old.field("podCIDRs"));
    if !had.is_empty() && cidrs.list() != had.list() {
        errors.forbidden(&cidrs, "node updates may not change podCIDR except from \"\" to valid");
    }
    let (provider, had) = (new.field("providerID"), old.field("providerID"));
    if !had.text().is_empty() && provider.text() != had.text() {
        errors.forbidden(&provider, "node updates may not change providerID except from \"\" to valid");
    }
}

/// A `LimitRange`.
pub(crate) fn limit_range(range: &Node<'_, '_>, errors: &mut Errors) {
    let mut types = HashSet::new();
    let spec = range.field("spec");
    for limit in spec.field("limits").items() {
        let kind = limit.field("type");
        errors.invalid_all(&kind, limit_type(kind.text()));
        if !types.insert(kind.text()) {
            errors.duplicate(&kind);
        }
        limit_keys(&limit, kind.text(), errors);
        if kind.text() == "Pod" {
            for key in ["default", "defaultRequest"] {
                let field = limit.field(key);
                if !field.is_empty() {
                    errors.forbidden(&field, "may not be specified when `type` is 'Pod'");
                }
            }
        }
        if kind.text() == "PersistentVolumeClaim" {
            let has = |list: &str| limit.field(list).field("storage").is_set();
            if !has("min") && !has("max") {
                errors.required(
                    &limit.field("limits"),
                    "either minimum or maximum storage value is required, but neither was provided",
                );
            }
        }
        limit_order(&limit, errors);
    }
}

fn limit_type(kind: &str) -> Vec<String> {
    let mut wrong = rules::qualified_name(kind);
    if wrong.is_empty() && !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
        wrong.push("must be a standard limit type or fully qualified".to_owned());
    }
    wrong
}

fn limit_keys(limit: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let quantities = limit.field(list);
        for (name, at) in quantities.entries() {
            for why in rules::qualified_name(name) {
                errors.invalid_value(&at, name, &why);
            }
            if name.contains('/') {
                continue;
            }
            if !resources::is_standard(name) {
                errors.invalid_value(&at, name, "must be a standard resource type or fully qualified");
            }
            if matches!(kind, "Pod" | "Container") && !resources::is_standard_for_containers(name) {
                errors.invalid_value(&at, name, "must be a standard resource for containers");
            }
        }
    }
}

/// min <= default request <= default <= max, as far as they are given.
fn limit_order(limit: &Node<'_, '_>, errors: &mut Errors) {
    let lists = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let mut names = BTreeSet::new();
    for list in lists {
        names.extend(limit.field(list).map().into_iter().flatten().map(|(name, _)| name.as_str()));
    }
    for name in names {
        let quantity = |list: &str| resources::parse(&limit.field(list).field(name));
        let (max, min, default, request) =
            (quantity("max"), quantity("min"), quantity("default"), quantity("defaultRequest"));
        for (low, low_name, high, high_name, list) in [
            (min, "min", max, "max", "min"),
            (min, "min", request, "default request", "defaultRequest"),
            (request, "default request", max, "max", "defaultRequest"),
            (request, "default request", default, "default", "defaultRequest"),
            (min, "min", default, "default", "default"),
            (default, "default", max, "max", "default"),
        ] {
            let (Some(low), Some(high)) = (low, high) else { continue };
            if low > high {
                let quantities = limit.field(list);
                let at = quantities.key(name);
                // Upstream shows the minimum where a default is below it.
                let shown = if list == "default" && low_name == "min" { low.to_string().into() } else { at.shown() };
                errors.invalid_value(
                    &at,
                    shown,
                    &format!("{low_name} value {low} is greater than {high_name} value {high}"),
                );
            }
        }
    }
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// A `ResourceQuota`.
pub(crate) fn resource_quota(quota: &Node<'_, '_>, errors: &mut Errors) {
    let spec = quota.field("spec");
    quota_resources(&spec.field("hard"), errors);
    let scopes = spec.field("scopes");
    let mut seen = HashSet::new();
    for scope in scopes.texts() {
        if !SCOPES.contains(&scope) {
            errors.invalid(&scopes, "unsupported scope");
        }
        seen.insert(scope);
    }
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if seen.contains(one) && seen.contains(other) {
            errors.invalid(&scopes, "conflicting scopes");
        }
    }
}

/// The `status` of a `ResourceQuota`.
pub(crate) fn resource_quota_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    quota_resources(&status.field("hard"), errors);
    quota_resources(&status.field("used"), errors);
}

fn quota_resources(list: &Node<'_, '_>, errors: &mut Errors) {
    for (name, at) in list.entries() {
        for why in rules::qualified_name(name) {
            errors.invalid_value(&at, name, &why);
        }
        if !name.contains('/') && !resources::is_standard(name) {
            errors.invalid_value(&at, name, "must be a standard resource type or fully qualified");
            errors.invalid_value(&at, name, "must be a standard resource for quota");
        }
        resources::value(name, &at, errors);
    }
}

/// The scopes of a quota never change.
pub(crate) fn resource_quota_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    let sorted = |at: &Node<'_, '_>| {
        let mut texts: Vec<String> = at.field("scopes").texts().map(str::to_owned).collect();
        texts.sort_unstable();
        texts
    };
    if sorted(&new) != sorted(&old) {
        errors.invalid(&new.field("scopes"), IMMUTABLE);
    }
}

/// `Endpoints`.
pub(crate) fn endpoints(endpoints: &Node<'_, '_>, errors: &mut Errors) {
    let subsets = endpoints.field("subsets");
    for subset in subsets.items() {
        let (ready, waiting) = (subset.field("addresses"), subset.field("notReadyAddresses"));
        if ready.is_empty() && waiting.is_empty() {
            errors.required(&subset, "must specify `addresses` or `notReadyAddresses`");
        }
        for address in ready.items().chain(waiting.items()) {
            endpoint_address(&address, errors);
        }
        let ports = subset.field("ports");
        let several = ports.list().len() > 1;
        for port in ports.items() {
            endpoint_port(&port, several, errors);
        }
    }
}

fn endpoint_address(address: &Node<'_, '_>, errors: &mut Errors) {
    let ip = address.field("ip");
    for why in rules::ip(ip.text()) {
        errors.invalid_value(&ip, ip.text(), &why);
    }
    for key in ["hostname", "nodeName"] {
        let name = address.field(key);
        if name.is_set() && !(key == "hostname" && name.text().is_empty()) {
            let wrong = if key == "hostname" { rules::label(name.text()) } else { rules::subdomain(name.text()) };
            errors.invalid_all(&name, wrong);
        }
    }
    ordinary_address(&ip, errors);
}

/// Addresses that traffic can be sent to: neither unspecified, nor this machine, nor this link.
pub(crate) fn ordinary_address(at: &Node<'_, '_>, errors: &mut Errors) {
    let Ok(address) = at.text().parse::<IpAddr>() else {
        errors.invalid_value(at, at.text(), "must be a valid IP address");
        return;
    };
    if address.is_unspecified() {
        errors.invalid(at, &format!("may not be unspecified ({})", at.text()));
    }
    if address.is_loopback() {
        errors.invalid(at, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[0] == 224 && v4.octets()[1] == 0 && v4.octets()[2] == 0),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if unicast {
        errors.invalid(at, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errors.invalid(at, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn endpoint_port(port: &Node<'_, '_>, needs_name: bool, errors: &mut Errors) {
    let (name, protocol) = (port.field("name"), port.field("protocol"));
    if name.text().is_empty() {
        if needs_name {
            errors.required(&name, "");
        }
    } else {
        errors.invalid_all(&name, rules::label(name.text()));
    }
    meta::port_number(&port.field("port"), errors);
    if errors.require_text(&protocol) {
        errors.one_of(&protocol, &["SCTP", "TCP", "UDP"]);
    }
}

/// A `Namespace`'s finalizers have names like labels.
pub(crate) fn namespace(namespace: &Node<'_, '_>, errors: &mut Errors) {
    let spec = namespace.field("spec");
    for finalizer in spec.field("finalizers").items() {
        if finalizer.text() != "kubernetes" {
            errors.invalid_all(&finalizer, rules::qualified_name(finalizer.text()));
        }
    }
}

/// The phase of a `Namespace` follows from its deletion. Upstream spells the path with a capital letter.
pub(crate) fn namespace_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, status) = (new.field("metadata"), new.field("status"));
    let phase = status.field("phase").text();
    let shown = status.field("Phase");
    if metadata.field("deletionTimestamp").is_unset() {
        if phase != "Active" {
            errors.invalid_value(&shown, phase, "may only be 'Active' if `deletionTimestamp` is empty");
        }
    } else if phase != "Terminating" {
        errors.invalid_value(&shown, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
    }
}
