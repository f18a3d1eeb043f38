//! Rules for Ingresses, NetworkPolicies, EndpointSlices and addresses.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::core_rules::ordinary_address;
use super::tree::{Errors, IMMUTABLE, Node};
use super::{meta, rules};

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// An `Ingress`.
pub(crate) fn ingress(ingress: &Node<'_, '_>, errors: &mut Errors) {
    let spec = ingress.field("spec");
    let (rules_list, backend) = (spec.field("rules"), spec.field("defaultBackend"));
    if rules_list.is_empty() && backend.is_unset() {
        errors.invalid_value(&spec, Value::Null, "either `defaultBackend` or `rules` must be specified");
    }
    if backend.is_set() {
        ingress_backend(&backend, errors);
    }
    for rule in rules_list.items() {
        ingress_rule(&rule, errors);
    }
    for tls in spec.field("tls").items() {
        for host in tls.field("hosts").items() {
            errors.invalid_all(&host, host_name(host.text()));
        }
        let secret = tls.field("secretName");
        if !secret.text().is_empty() {
            errors.invalid_all(&secret, rules::subdomain(secret.text()));
        }
    }
    let class = spec.field("ingressClassName");
    if class.is_set() {
        errors.invalid_all(&class, rules::subdomain(class.text()));
    }
}

/// A new `Ingress` names its class in one way.
pub(crate) fn new_ingress(ingress: &Node<'_, '_>, errors: &mut Errors) {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let (metadata, spec) = (ingress.field("metadata"), ingress.field("spec"));
    let annotations = metadata.field("annotations");
    let class = spec.field("ingressClassName");
    let named = annotations.map().and_then(|map| map.get(CLASS)).and_then(Value::as_str);
    if let Some(named) = named.filter(|named| class.is_set() && *named != class.text()) {
        // Upstream's path leaves the metadata out.
        let path = crate::Path::new("annotations").child(CLASS);
        let why = "must match `ingressClassName` when both are specified";
        errors.push(crate::FieldError::invalid(&path, named, why));
    }
}

/// The `status` of an `Ingress`: where its load balancer is.
pub(crate) fn ingress_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    let balancer = status.field("loadBalancer");
    for one in balancer.field("ingress").items() {
        let ip = one.field("ip");
        if !ip.text().is_empty() {
            errors.invalid_all(&ip, rules::ip(ip.text()));
        }
        super::service_rules::balancer_host(&one.field("hostname"), errors);
    }
}

fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') { rules::wildcard_dns1123_subdomain(host) } else { rules::subdomain(host) }
}

fn ingress_rule(rule: &Node<'_, '_>, errors: &mut Errors) {
    let (host, http) = (rule.field("host"), rule.field("http"));
    if !host.text().is_empty() {
        if host.text().parse::<IpAddr>().is_ok() {
            errors.invalid(&host, "must be a DNS name, not an IP address");
        } else {
            errors.invalid_all(&host, host_name(host.text()));
        }
    }
    if http.is_unset() {
        return;
    }
    let paths = http.field("paths");
    if paths.is_empty() {
        errors.required(&paths, "");
    }
    for path in paths.items() {
        ingress_path(&path, errors);
    }
}

fn ingress_path(at: &Node<'_, '_>, errors: &mut Errors) {
    let (kind, path) = (at.field("pathType"), at.field("path"));
    match kind.text() {
        "" if kind.is_unset() => errors.required(&kind, "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !path.text().starts_with('/') {
                errors.invalid_value(&path, path.text(), "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if path.text().contains(part) {
                    errors.invalid(&path, &format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if path.text().ends_with(end) {
                    errors.invalid(&path, &format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !path.text().is_empty() && !path.text().starts_with('/') {
                errors.invalid(&path, "must be an absolute path");
            }
        }
        _ => errors.not_supported(&kind, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    ingress_backend(&at.field("backend"), errors);
}

fn ingress_backend(at: &Node<'_, '_>, errors: &mut Errors) {
    let (service, resource) = (at.field("service"), at.field("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => errors.invalid_value(at, "", "cannot set both resource and service backends"),
        (false, false) => errors.invalid_value(at, "", "resource or service backend is required"),
        (false, true) => typed_reference(&resource, true, errors),
        (true, false) => service_backend(&service, errors),
    }
}

/// A reference to an object of any kind. A backend must say its group.
fn typed_reference(at: &Node<'_, '_>, needs_group: bool, errors: &mut Errors) {
    let group = at.field("apiGroup");
    if group.is_set() {
        errors.invalid_all(&group, rules::subdomain(group.text()));
    } else if needs_group {
        errors.required(&group, "");
    }
    for key in ["kind", "name"] {
        let field = at.field(key);
        if errors.require_text(&field) {
            errors.invalid_all(&field, rules::path_segment_name(field.text(), false));
        }
    }
}

fn service_backend(service: &Node<'_, '_>, errors: &mut Errors) {
    let (name, port) = (service.field("name"), service.field("port"));
    if errors.require_text(&name) {
        errors.invalid_all(&name, rules::label(name.text()));
    }
    let (port_name, number) = (port.field("name"), port.field("number"));
    match (!port_name.text().is_empty(), number.number() != 0) {
        (true, true) => errors.invalid_value(&port, "", "cannot set both port name & port number"),
        (false, false) => errors.required(&port, "port name or number is required"),
        (true, false) => errors.invalid_all(&port_name, rules::port_name(port_name.text())),
        (false, true) => meta::port_number(&number, errors),
    }
}

/// An `IngressClass`.
pub(crate) fn ingress_class(class: &Node<'_, '_>, errors: &mut Errors) {
    let spec = class.field("spec");
    let controller = spec.field("controller");
    if controller.text().len() > 250 {
        errors.too_long(&controller, 250);
    }
    if errors.require_text(&controller) {
        domain_prefixed(&controller, errors);
    }
    let parameters = spec.field("parameters");
    if parameters.is_set() {
        class_parameters(&parameters, errors);
    }
}

/// A domain and a path, as `acme.io/foo`.
pub(crate) fn domain_prefixed(at: &Node<'_, '_>, errors: &mut Errors) {
    match at.text().split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            errors.invalid_all(at, rules::subdomain(domain));
        }
        _ => errors.invalid(at, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

fn class_parameters(at: &Node<'_, '_>, errors: &mut Errors) {
    typed_reference(at, false, errors);
    let (scope, namespace) = (at.field("scope"), at.field("namespace"));
    if scope.is_unset() {
        errors.required(&scope, "");
    } else {
        errors.one_of(&scope, &["Cluster", "Namespace"]);
    }
    match scope.text() {
        "Namespace" if namespace.is_unset() => errors.required(&namespace, "`parameters.scope` is set to 'Namespace'"),
        "Namespace" => errors.invalid_all(&namespace, rules::label(namespace.text())),
        "Cluster" if namespace.is_set() => errors.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'"),
        _ => {}
    }
}

/// What may not change in an `IngressClass`.
pub(crate) fn ingress_class_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("spec").field("controller"), &old.field("spec").field("controller"));
}

/// A `NetworkPolicy`.
pub(crate) fn network_policy(policy: &Node<'_, '_>, errors: &mut Errors) {
    let spec = policy.field("spec");
    meta::selector(&spec.field("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let list = spec.field(direction);
        for rule in list.items() {
            for port in rule.field("ports").items() {
                policy_port(&port, errors);
            }
            for peer in rule.field(peers).items() {
                policy_peer(&peer, errors);
            }
        }
    }
    let types = spec.field("policyTypes");
    if types.list().len() > 2 {
        errors.invalid(&types, "may not specify more than two policyTypes");
        return;
    }
    for kind in types.items() {
        errors.one_of(&kind, &["Ingress", "Egress"]);
    }
}

fn policy_port(at: &Node<'_, '_>, errors: &mut Errors) {
    let (port, end) = (at.field("port"), at.field("endPort"));
    errors.none_or_one_of(&at.field("protocol"), &PROTOCOLS);
    if port.is_set() {
        meta::port_number_or_name(&port, errors);
        if let (Some(first), Some(last)) = (port.integer(), end.integer())
            && last < first
        {
            errors.invalid(&end, "must be greater than or equal to `port`");
        }
        if end.is_set() {
            if port.value().is_some_and(Value::is_string) {
                errors.invalid(&end, "may not be specified when `port` is non-numeric");
            }
            meta::port_number(&end, errors);
        }
    } else if end.is_set() {
        errors.invalid(&end, "may not be specified when `port` is not specified");
    }
}

fn policy_peer(at: &Node<'_, '_>, errors: &mut Errors) {
    let (pods, namespaces, block) = (at.field("podSelector"), at.field("namespaceSelector"), at.field("ipBlock"));
    meta::selector(&pods, errors);
    meta::selector(&namespaces, errors);
    if block.is_set() {
        ip_block(&block, errors);
    }
    let selects = pods.is_set() || namespaces.is_set();
    if !selects && block.is_unset() {
        errors.required(at, "must specify a peer");
    } else if selects && block.is_set() {
        errors.forbidden(at, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(at: &Node<'_, '_>, errors: &mut Errors) {
    let cidr = at.field("cidr");
    if !errors.require_text(&cidr) {
        return;
    }
    errors.invalid_all(&cidr, rules::cidr(cidr.text()));
    let except = at.field("except");
    for one in except.items() {
        let wrong = rules::cidr(one.text());
        let (Some((outer, outer_length)), Some((inner, inner_length))) =
            (rules::parse_cidr(cidr.text()), rules::parse_cidr(one.text()))
        else {
            errors.invalid_all(&one, wrong);
            continue;
        };
        if inner_length <= outer_length || !contains(outer, outer_length, inner) {
            errors.invalid(&one, "must be a strict subset of `cidr`");
        }
    }
}

fn contains(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    };
    network.is_ipv4() == address.is_ipv4()
        && (length == 0 || bits(network) >> (128 - u32::from(length)) == bits(address) >> (128 - u32::from(length)))
}

/// An `EndpointSlice`.
pub(crate) fn endpoint_slice(slice: &Node<'_, '_>, errors: &mut Errors) {
    let kind = slice.field("addressType");
    if errors.require_text(&kind) {
        errors.one_of(&kind, &["FQDN", "IPv4", "IPv6"]);
    }
    let endpoints = slice.field("endpoints");
    if endpoints.list().len() > 1000 {
        errors.too_many(&endpoints, endpoints.list().len(), 1000);
        return;
    }
    for endpoint in endpoints.items() {
        slice_endpoint(&endpoint, kind.text(), errors);
    }
    slice_ports(&slice.field("ports"), errors);
}

fn slice_endpoint(endpoint: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    let addresses = endpoint.field("addresses");
    if addresses.is_empty() {
        errors.required(&addresses, "must contain at least 1 address");
    } else if addresses.list().len() > 100 {
        errors.too_many(&addresses, addresses.list().len(), 100);
    }
    for address in addresses.items() {
        slice_address(&address, kind, errors);
    }
    let name = endpoint.field("hostname");
    if name.is_set() {
        errors.invalid_all(&name, rules::label(name.text()));
    }
    let node = endpoint.field("nodeName");
    if node.is_set() {
        errors.invalid_all(&node, rules::subdomain(node.text()));
    }
    let hints = endpoint.field("hints");
    let zones = hints.field("forZones");
    if zones.list().len() > 8 {
        errors.too_many(&zones, zones.list().len(), 8);
    }
    let mut seen = HashSet::new();
    for zone in zones.items() {
        let name = zone.field("name");
        for why in rules::qualified_name(name.text()) {
            errors.invalid_value(&name, name.text(), &why);
        }
        if !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
}

fn slice_address(address: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    match kind {
        "FQDN" => errors.invalid_all(address, rules::subdomain(address.text())),
        "IPv4" | "IPv6" => match address.text().parse::<IpAddr>() {
            Err(_) => errors.invalid_all(address, rules::ip(address.text())),
            Ok(ip) if ip.is_ipv4() != (kind == "IPv4") => {
                errors.invalid(address, &format!("must be an {kind} address"));
            }
            Ok(_) => ordinary_address(address, errors),
        },
        _ => {}
    }
}

fn slice_ports(ports: &Node<'_, '_>, errors: &mut Errors) {
    if ports.list().len() > 20_000 {
        errors.too_many(ports, ports.list().len(), 20_000);
        return;
    }
    let mut names = HashSet::new();
    for port in ports.items() {
        let (name, protocol) = (port.field("name"), port.field("protocol"));
        if !name.text().is_empty() {
            errors.invalid_all(&name, rules::label(name.text()));
        }
        if !names.insert(name.text()) {
            errors.duplicate(&name);
        }
        if errors.require_text(&protocol) {
            errors.one_of(&protocol, &["SCTP", "TCP", "UDP"]);
        }
        let application = port.field("appProtocol");
        if application.is_set() {
            errors.invalid_all(&application, rules::qualified_name(application.text()));
        }
    }
}

/// What may not change in an `EndpointSlice`.
pub(crate) fn endpoint_slice_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("addressType"), &old.field("addressType"));
}

/// A `ServiceCIDR`.
pub(crate) fn service_cidr(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let cidrs = spec.field("cidrs");
    match cidrs.list().len() {
        0 => errors.required(&cidrs, "at least one CIDR required"),
        1 | 2 => {}
        _ => errors.invalid(&cidrs, "may only hold up to 2 values"),
    }
    for cidr in cidrs.items() {
        errors.invalid_all(&cidr, rules::cidr(cidr.text()));
    }
    let ranges: Vec<_> = cidrs.texts().filter_map(rules::parse_cidr).collect();
    if let [one, other] = ranges[..]
        && one.0.is_ipv4() == other.0.is_ipv4()
    {
        errors.invalid(
            &cidrs,
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96",
        );
    }
}

/// An `IPAddress`, whose name is the address.
pub(crate) fn ip_address(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let parent = spec.field("parentRef");
    if parent.is_unset() {
        errors.required(&parent, "");
        return;
    }
    errors.require_text(&parent.field("resource"));
    errors.require_text(&parent.field("name"));
}

/// The parent of an address never changes.
pub(crate) fn ip_address_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("spec").field("parentRef"), &old.field("spec").field("parentRef"));
}

/// What may not change in a `ServiceCIDR`.
pub(crate) fn service_cidr_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let (new, old) = (new_spec.field("cidrs"), old_spec.field("cidrs"));
    if old.list().iter().ne(new.list().iter().take(old.list().len())) {
        errors.invalid(&new, IMMUTABLE);
    }
}
