//! Rules for Services.

use std::collections::HashSet;

use serde_json::Value;

use crate::kinds::rules::addresses::{self, ordinary_address};
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{self, Errors, Node};
use crate::kinds::rules::{labels, load_balancer, naming, numbers};

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
    labels::labels(&spec.field("selector"), errors);
    session_affinity(&spec, errors);
    addresses(service, errors);
    for address in spec.field("externalIPs").items() {
        let wrong = addresses::ip(address.text());
        if wrong.is_empty() {
            ordinary_address(&address, errors);
        }
        errors.invalid_all(&address, wrong);
    }
    if errors.require_text(&kind) {
        errors.one_of(&kind, &TYPES);
    }
    annotations(service, kind.text(), errors);
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
                for why in naming::subdomain(bare) {
                    errors.invalid(&name, &why);
                }
            }
            if !spec.field("clusterIPs").is_empty() {
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
        errors.invalid_all(&name, naming::label(name.text()));
        if !names.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
    numbers::port_number(&port.field("port"), errors);
    if errors.require_text(&protocol) {
        errors.one_of(&protocol, &PROTOCOLS);
    }
    numbers::port_number_or_name(&target, errors);
    let application = port.field("appProtocol");
    if application.is_set() {
        errors.invalid_all(&application, naming::qualified_name(application.text()));
    }
}

const RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Annotations that are, or once were, what a field is.
fn annotations(service: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    const MODE: &str = "service.kubernetes.io/topology-mode";
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let (metadata, spec) = (service.field("metadata"), service.field("spec"));
    let all = metadata.field("annotations");
    let of = |name: &str| all.entries().find(|(known, _)| *known == name).map(|(_, value)| value);
    if let (Some(mode), Some(hints)) = (of(MODE), of(HINTS))
        && mode.text() != hints.text()
    {
        errors.invalid(&mode, &format!("must match annotations[{HINTS}] when both are specified"));
    }
    let Some(ranges) = of(RANGES_ANNOTATION).filter(|_| spec.field("loadBalancerSourceRanges").is_empty()) else {
        return;
    };
    if kind != "LoadBalancer" {
        errors.forbidden(&ranges, ONLY_LOAD_BALANCERS);
    }
    for range in ranges.text().split(',').map(str::trim).filter(|_| !ranges.text().trim().is_empty()) {
        for why in addresses::cidr(range) {
            errors.invalid_value(&ranges, range, &why);
        }
    }
}

fn session_affinity(spec: &Node<'_, '_>, errors: &mut Errors) {
    const WHEN: &str = "when session affinity type is ClientIP";
    let (affinity, config) = (spec.field("sessionAffinity"), spec.field("sessionAffinityConfig"));
    if errors.require_text(&affinity) {
        errors.one_of(&affinity, &["ClientIP", "None"]);
    }
    match affinity.text() {
        "ClientIP" => {
            let client = config.field("clientIP");
            let seconds = client.field("timeoutSeconds");
            if let Some(missing) = [&config, &client, &seconds].into_iter().find(|at| at.is_unset()) {
                errors.required(missing, WHEN);
            } else if !(1..=86_400).contains(&seconds.number()) {
                errors.invalid(&seconds, "must be greater than 0 and less than 86400");
            }
        }
        "None" if config.is_set() => {
            errors.forbidden(&config, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`, which go together.
pub(crate) fn addresses(service: &Node<'_, '_>, errors: &mut Errors) {
    let spec = service.field("spec");
    if spec.field("type").text() == "ExternalName" {
        return;
    }
    let (single, list) = (spec.field("clusterIP"), spec.field("clusterIPs"));
    let first = list.list().first().and_then(Value::as_str).unwrap_or("");
    if !single.text().is_empty() && list.is_empty() {
        errors.required(&list, "");
    } else if !single.text().is_empty() && first != single.text() {
        errors.invalid(&list, "first value must match `clusterIP`");
    } else if single.text().is_empty() && !list.is_empty() {
        errors.invalid(&list, "must be empty when `clusterIP` is not specified");
    }
    families(&spec, errors);
    let before = errors.0.len();
    for (index, address) in list.items().enumerate() {
        if index == 0 && address.text() == "None" {
            if list.list().len() > 1 {
                errors.invalid(&list, "'None' must be the first and only value");
            }
        } else {
            errors.invalid_all(&address, addresses::ip(address.text()));
        }
    }
    let all_valid = errors.0.len() == before;
    if list.list().len() > 2 {
        errors.invalid(&list, "may only hold up to 2 values");
    }
    if all_valid {
        address_families(&list, &spec.field("ipFamilies"), errors);
    }
}

fn families(spec: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for family in spec.field("ipFamilies").items() {
        errors.one_of(&family, &FAMILIES);
        if !seen.insert(family.text()) {
            errors.duplicate(&family);
        }
    }
    errors.none_or_one_of(&spec.field("ipFamilyPolicy"), &["PreferDualStack", "RequireDualStack", "SingleStack"]);
}

/// One address of each family, in the order of the families.
fn address_families(list: &Node<'_, '_>, families: &Node<'_, '_>, errors: &mut Errors) {
    let of = |address: &str| if address.contains(':') { "IPv6" } else { "IPv4" };
    let present: HashSet<&str> = list.texts().map(of).collect();
    if list.list().len() > 1 && present.len() < 2 {
        errors.invalid(list, "may specify no more than one IP for each IP family");
    }
    for (index, (address, family)) in list.items().zip(families.texts()).enumerate() {
        if address.text() != "None" && FAMILIES.contains(&family) && of(address.text()) != family {
            let a = if family == "IPv4" { "an IPv4" } else { "an IPv6" };
            errors.invalid(&address, &format!("expected {a} value as indicated by `ipFamilies[{index}]`"));
        }
    }
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
    if reachable {
        if errors.require_text(&external) {
            errors.one_of(&external, &["Cluster", "Local"]);
        }
    } else if !external.text().is_empty() {
        errors.invalid(&external, "may only be set for externally-accessible services");
    }
    if internal.is_set() {
        errors.one_of(&internal, &["Cluster", "Local"]);
    } else if matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
        errors.required(&internal, "");
    }
    let health = spec.field("healthCheckNodePort");
    if kind == "LoadBalancer" && external.text() == "Local" {
        if health.number() == 0 {
            errors.required(&health, "");
        } else {
            numbers::port_number(&health, errors);
        }
    } else if health.number() != 0 {
        errors.invalid(&health, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    }
    errors.none_or_one_of(&spec.field("trafficDistribution"), &["PreferClose", "PreferSameNode", "PreferSameZone"]);
}

const ONLY_LOAD_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

/// What only load balancers have. Upstream's paths of two fields are not theirs.
fn load_balancer(spec: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    let is_one = kind == "LoadBalancer";
    let ranges = spec.field("loadBalancerSourceRanges");
    let shown = spec.field("LoadBalancerSourceRanges").path();
    let ranges = Node::at(&shown, ranges.value());
    if !ranges.is_empty() && !is_one {
        errors.forbidden(&ranges, ONLY_LOAD_BALANCERS);
    }
    for range in ranges.items() {
        for why in addresses::cidr(range.text().trim()) {
            errors.invalid_value(&range, range.text().trim(), &why);
        }
    }
    let allocate = spec.field("allocateLoadBalancerNodePorts");
    if is_one && allocate.is_unset() {
        let path = crate::Path::new("allocateLoadBalancerNodePorts");
        errors.push(crate::FieldError::required(&path, ""));
    } else if !is_one && allocate.is_set() {
        errors.forbidden(&allocate, ONLY_LOAD_BALANCERS);
    }
    load_balancer_class(spec, errors);
}

fn load_balancer_class(spec: &Node<'_, '_>, errors: &mut Errors) {
    let class = spec.field("loadBalancerClass");
    if class.is_unset() {
        return;
    }
    if spec.field("type").text() == "LoadBalancer" {
        errors.invalid_all(&class, naming::qualified_name(class.text()));
    } else {
        errors.forbidden(&class, ONLY_LOAD_BALANCERS);
    }
}

const ONCE: &str = "may not change once set";

/// What may not change in a `Service`.
pub(crate) fn change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    let is = |spec: &Node<'_, '_>, kind: &str| spec.field("type").text() == kind;
    if !is(&new, "ExternalName") && !is(&old, "ExternalName") {
        addresses_change(&new, &old, errors);
    }
    let (class, had) = (new.field("loadBalancerClass"), old.field("loadBalancerClass"));
    if is(&new, "LoadBalancer") && is(&old, "LoadBalancer") && class.value() != had.value() {
        errors.invalid(&class, ONCE);
    }
    // Upstream's rules for a change look at the class once more.
    load_balancer_class(&new, errors);
    let checked =
        |spec: &Node<'_, '_>| is(spec, "LoadBalancer") && spec.field("externalTrafficPolicy").text() == "Local";
    let (port, had) = (new.field("healthCheckNodePort"), old.field("healthCheckNodePort"));
    if checked(&new) && checked(&old) && port.number() != had.number() {
        errors.forbidden(&port, tree::IMMUTABLE);
    }
}

/// The first address and family stay; the second ones come and go.
fn addresses_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (now, had) = (new.field("clusterIPs"), old.field("clusterIPs"));
    let headless = |list: &Node<'_, '_>| list.texts().eq(["None"]);
    if headless(&now) && headless(&had) {
        return;
    }
    kept(&now, &had, &new.field("ipFamilyPolicy"), ("clusterIP", &now), errors);
    let families = new.field("ipFamilies");
    if !headless(&now) && !headless(&had) {
        kept(&families, &old.field("ipFamilies"), &new.field("ipFamilyPolicy"), ("ipFamily", &now), errors);
    }
}

/// `what` is the name of one value, and what upstream shows where the first has changed and the length, too.
fn kept(
    now: &Node<'_, '_>,
    had: &Node<'_, '_>,
    policy: &Node<'_, '_>,
    what: (&str, &Node<'_, '_>),
    errors: &mut Errors,
) {
    let (length, before) = (now.list().len(), had.list().len());
    if length == before {
        for (index, _) in now.texts().zip(had.texts()).enumerate().filter(|(_, (now, had))| now != had) {
            let index = if what.0 == "ipFamily" { 0 } else { index };
            errors.invalid_value(&now.index(index), now.shown(), ONCE);
        }
        return;
    }
    if length == 0 {
        if what.1.list().is_empty() {
            errors.invalid_value(&now.index(0), now.shown(), &format!("primary {} can not be unset", what.0));
        }
    } else if before > 0 && now.list()[0] != had.list()[0] {
        errors.invalid_value(&now.index(0), what.1.shown(), ONCE);
    }
    if length == 1 && before > 1 && policy.text() != "SingleStack" {
        errors.invalid(policy, &format!("must be set to 'SingleStack' when releasing the secondary {}", what.0));
    }
}

/// The `status` of a `Service`: where its load balancer is.
pub(crate) fn status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, status) = (new.field("spec"), new.field("status"));
    let balancer = status.field("loadBalancer");
    let ingress = balancer.field("ingress");
    if spec.field("type").text() != "LoadBalancer" {
        if !ingress.is_empty() {
            errors.forbidden(&ingress, "may only be used when `spec.type` is 'LoadBalancer'");
        }
        return;
    }
    for one in ingress.items() {
        let (ip, mode) = (one.field("ip"), one.field("ipMode"));
        if !ip.text().is_empty() {
            errors.invalid_all(&ip, addresses::ip(ip.text()));
            if mode.is_unset() {
                errors.required(&mode, "must be specified when `ip` is set");
            }
            errors.none_or_one_of(&mode, &["Proxy", "VIP"]);
        } else if mode.is_set() {
            errors.forbidden(&mode, "may not be specified when `ip` is not set");
        }
        load_balancer::host(&one.field("hostname"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(new: &Value, old: &Value, want: &[&str]) {
        let (new, old) = (json!({"spec": new}), json!({"spec": old}));
        let (new, old) = (new.as_object().expect("an object"), old.as_object().expect("an object"));
        let mut errors = Errors::default();
        change(&Node::root(new), &Node::root(old), &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn second_addresses_come_and_go() {
        let one = json!({"clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
        let two = json!({"clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]});
        check(&two, &one, &[]);
        check(&one, &two, &[]);
        check(
            &json!({"clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"]}),
            &two,
            &[
                "spec.ipFamilyPolicy: Invalid value: null: must be set to 'SingleStack' when releasing the secondary clusterIP",
                "spec.ipFamilyPolicy: Invalid value: null: must be set to 'SingleStack' when releasing the secondary ipFamily",
            ],
        );
        check(
            &json!({"clusterIPs": ["10.0.0.2"], "ipFamilies": ["IPv4"]}),
            &one,
            &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"],
        );
        check(
            &json!({"clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}),
            &two,
            &[
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP",
            ],
        );
    }
}
