//! Rules for Services.

use std::collections::HashSet;

use serde_json::Value;

use super::core_rules::ordinary_address;
use super::dump::Shown;
use super::tree::{Errors, Node};
use super::{meta, rules};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// A `Service`.
pub(crate) fn service(service: &Node<'_, '_>, errors: &mut Errors) {
    let spec = service.field("spec");
    let kind = spec.field("type");
    let headless = spec.field("clusterIP").text() == "None";
    if !headless && kind.text() != "ExternalName" && spec.field("ports").is_empty() {
        errors.required(&spec.field("ports"), "");
    }
    by_type(&spec, kind.text(), errors);
    ports(&spec.field("ports"), errors);
    meta::labels(&spec.field("selector"), errors);
    session_affinity(&spec, errors);
    cluster_ips(&spec, errors);
    for address in spec.field("externalIPs").items() {
        let wrong = rules::ip(address.text());
        if wrong.is_empty() {
            ordinary_address(&address, errors);
        }
        errors.invalid_all(&address, wrong);
    }
    if errors.require_text(&kind) {
        errors.one_of(&kind, &TYPES);
    }
    node_ports(&spec, kind.text(), errors);
    traffic_policies(&spec, kind.text(), errors);
    load_balancer(&spec, kind.text(), errors);
}

fn by_type(spec: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    match kind {
        "LoadBalancer" | "NodePort" if spec.field("clusterIP").text() == "None" => {
            let list = spec.field("clusterIPs");
            errors.invalid_value(&list.index(0), "None", &format!("may not be set to 'None' for {kind} services"));
        }
        "ExternalName" => {
            let name = spec.field("externalName");
            let bare = name.text().strip_suffix('.').unwrap_or(name.text());
            if bare.is_empty() {
                errors.required(&name, "");
            } else {
                for why in rules::subdomain(bare) {
                    errors.invalid(&name, &why);
                }
            }
            if !spec.field("clusterIPs").is_empty() && !spec.field("clusterIPs").index(0).text().is_empty() {
                errors.forbidden(&spec.field("clusterIPs"), "may not be set for ExternalName services");
            }
            for key in ["ipFamilies", "ipFamilyPolicy"] {
                if spec.field(key).is_set() && !(key == "ipFamilies" && spec.field(key).is_empty()) {
                    errors.forbidden(&spec.field(key), "may not be set for ExternalName services");
                }
            }
        }
        _ => {}
    }
}

fn ports(list: &Node<'_, '_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    let several = list.list().len() > 1;
    for port in list.items() {
        one_port(&port, several, &mut names, errors);
    }
    let mut taken = HashSet::new();
    for port in list.items() {
        let key = (port.field("protocol").text(), port.field("port").number());
        if !taken.insert(key) {
            duplicate_port(&port, errors);
        }
    }
}

/// Upstream shows just what makes the port a duplicate.
fn duplicate_port(port: &Node<'_, '_>, errors: &mut Errors) {
    let shown = Shown::fields([
        ("Name", "".into()),
        ("Protocol", port.field("protocol").text().into()),
        ("AppProtocol", Value::Null),
        ("Port", port.field("port").number().into()),
        ("TargetPort", 0.into()),
        ("NodePort", 0.into()),
    ]);
    let message = format!("Duplicate value: {}", shown.compact());
    errors.push(crate::FieldError { path: port.path(), kind: crate::field::Kind::Duplicate, message });
}

fn one_port<'v>(port: &Node<'_, 'v>, several: bool, names: &mut HashSet<&'v str>, errors: &mut Errors) {
    let (name, target, protocol) = (port.field("name"), port.field("targetPort"), port.field("protocol"));
    if name.text().is_empty() {
        if several {
            errors.required(&name, "");
        }
    } else {
        errors.invalid_all(&name, rules::label(name.text()));
        if !names.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
    meta::port_number(&port.field("port"), errors);
    if errors.require_text(&protocol) {
        errors.one_of(&protocol, &PROTOCOLS);
    }
    meta::port_number_or_name(&target, errors);
    let application = port.field("appProtocol");
    if application.is_set() {
        errors.invalid_all(&application, rules::qualified_name(application.text()));
    }
}

fn session_affinity(spec: &Node<'_, '_>, errors: &mut Errors) {
    let (affinity, config) = (spec.field("sessionAffinity"), spec.field("sessionAffinityConfig"));
    if errors.require_text(&affinity) {
        errors.one_of(&affinity, &["ClientIP", "None"]);
    }
    match affinity.text() {
        "ClientIP" => {
            let client = config.field("clientIP");
            let seconds = client.field("timeoutSeconds");
            if seconds.is_unset() {
                errors.required(&config, "must be set when session affinity is ClientIP");
            } else if !(1..=86_400).contains(&seconds.number()) {
                errors.invalid(&seconds, "must be greater than 0 and less than or equal to 86400");
            }
        }
        "None" if config.is_set() => {
            errors.forbidden(&config, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn cluster_ips(spec: &Node<'_, '_>, errors: &mut Errors) {
    let (single, list) = (spec.field("clusterIP"), spec.field("clusterIPs"));
    // `clusterIPs` follows `clusterIP` where only that is given.
    let given: Vec<&str> = if list.is_empty() {
        Some(single.text()).into_iter().filter(|ip| !ip.is_empty()).collect()
    } else {
        list.texts().collect()
    };
    for (index, ip) in given.iter().enumerate() {
        if *ip == "None" {
            if given.len() > 1 {
                errors.invalid_value(&list.index(index), *ip, "'None' must be the first and only value");
            }
            continue;
        }
        for why in rules::ip(ip) {
            errors.invalid_value(&list.index(index), *ip, &why);
        }
    }
    if given.len() > 2 {
        errors.invalid(&list, "may only hold up to 2 values");
    }
    let families = spec.field("ipFamilies");
    let mut seen = HashSet::new();
    for family in families.items() {
        errors.one_of(&family, &FAMILIES);
        if !seen.insert(family.text()) {
            errors.duplicate(&family);
        }
    }
    errors.none_or_one_of(&spec.field("ipFamilyPolicy"), &["PreferDualStack", "RequireDualStack", "SingleStack"]);
}

fn node_ports(spec: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    let list = spec.field("ports");
    let mut taken = HashSet::new();
    for port in list.items() {
        let node_port = port.field("nodePort");
        if node_port.number() == 0 {
            continue;
        }
        if kind == "ClusterIP" {
            errors.forbidden(&node_port, "may not be used when `type` is 'ClusterIP'");
        }
        if !taken.insert((port.field("protocol").text(), node_port.number())) {
            errors.duplicate(&node_port);
        }
    }
}

fn traffic_policies(spec: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    let (external, internal) = (spec.field("externalTrafficPolicy"), spec.field("internalTrafficPolicy"));
    let reachable =
        matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && !spec.field("externalIPs").is_empty());
    if !external.text().is_empty() {
        if !reachable {
            errors.invalid(&external, "may only be set for externally-accessible services");
        }
        errors.one_of(&external, &["Cluster", "Local"]);
    } else if reachable {
        errors.required(&external, "");
    }
    if internal.is_set() {
        errors.one_of(&internal, &["Cluster", "Local"]);
    } else if matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
        errors.required(&internal, "");
    }
    let health = spec.field("healthCheckNodePort");
    if health.number() != 0 && !(kind == "LoadBalancer" && external.text() == "Local") {
        errors.invalid(&health, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    }
    errors.none_or_one_of(&spec.field("trafficDistribution"), &["PreferClose", "PreferSameNode", "PreferSameZone"]);
}

fn load_balancer(spec: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    let ranges = spec.field("loadBalancerSourceRanges");
    if !ranges.is_empty() && kind != "LoadBalancer" {
        errors.forbidden(&ranges, "may only be used when `type` is 'LoadBalancer'");
    }
    for range in ranges.items() {
        if rules::parse_cidr(range.text().trim()).is_none() {
            errors.invalid(&range, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        }
    }
    let allocate = spec.field("allocateLoadBalancerNodePorts");
    if kind == "LoadBalancer" {
        if allocate.is_unset() {
            errors.required(&allocate, "");
        }
    } else if allocate.is_set() {
        errors.forbidden(&allocate, "may only be used when `type` is 'LoadBalancer'");
    }
    let class = spec.field("loadBalancerClass");
    if class.is_set() {
        errors.invalid_all(&class, rules::qualified_name(class.text()));
        if kind != "LoadBalancer" {
            errors.forbidden(&class, "may only be used when `type` is 'LoadBalancer'");
        }
    }
}

/// What may not change in a `Service`.
pub(crate) fn service_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    if new.field("type").text() == "ExternalName" || old.field("type").text() == "ExternalName" {
        return;
    }
    let first = |spec: &Node<'_, '_>| match spec.field("clusterIPs").list().first().and_then(Value::as_str) {
        Some(ip) => ip.to_owned(),
        None => spec.field("clusterIP").text().to_owned(),
    };
    let (now, before) = (first(&new), first(&old));
    if !before.is_empty() && now != before {
        let list = new.field("clusterIPs");
        errors.invalid_value(&list.index(0), list.shown(), "may not change once set");
    }
    let (class, had) = (new.field("loadBalancerClass"), old.field("loadBalancerClass"));
    let both = new.field("type").text() == "LoadBalancer" && old.field("type").text() == "LoadBalancer";
    if both && class.value() != had.value() {
        errors.invalid(&class, "may not change once set");
    }
}
