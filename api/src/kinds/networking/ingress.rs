//! Rules for Ingresses, NetworkPolicies, EndpointSlices and addresses.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use crate::kinds::core::secret::ordinary_address;
use crate::kinds::core::service::validate;
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::kinds::rules::{addresses, labels, naming, structs};

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
            errors.invalid_all(&secret, naming::subdomain(secret.text()));
        }
    }
    let class = spec.field("ingressClassName");
    if class.is_set() {
        errors.invalid_all(&class, naming::subdomain(class.text()));
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
            errors.invalid_all(&ip, addresses::ip(ip.text()));
        }
        validate::balancer_host(&one.field("hostname"), errors);
    }
}

fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') { naming::wildcard_dns1123_subdomain(host) } else { naming::subdomain(host) }
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
        (true, false) => service_backend(at, &service, errors),
    }
}

/// A reference to an object of any kind. A backend must say its group.
fn typed_reference(at: &Node<'_, '_>, needs_group: bool, errors: &mut Errors) {
    let group = at.field("apiGroup");
    if group.is_set() {
        errors.invalid_all(&group, naming::subdomain(group.text()));
    } else if needs_group {
        errors.required(&group, "");
    }
    for key in ["kind", "name"] {
        let field = at.field(key);
        if errors.require_text(&field) {
            errors.invalid_all(&field, naming::path_segment_name(field.text(), false));
        }
    }
}

fn service_backend(at: &Node<'_, '_>, service: &Node<'_, '_>, errors: &mut Errors) {
    let (name, port) = (service.field("name"), service.field("port"));
    if errors.require_text(&name) {
        errors.invalid_all(&name, naming::label(name.text()));
    }
    let (port_name, number) = (port.field("name"), port.field("number"));
    match (!port_name.text().is_empty(), number.number() != 0) {
        (true, true) => errors.invalid_value(at, "", "cannot set both port name & port number"),
        (false, false) => errors.required(at, "port name or number is required"),
        (true, false) => errors.invalid_all(&port_name, naming::port_name(port_name.text())),
        (false, true) => labels::port_number(&number, errors),
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
            errors.invalid_all(at, naming::subdomain(domain));
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
        "Namespace" => errors.invalid_all(&namespace, naming::label(namespace.text())),
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
    labels::selector(&spec.field("podSelector"), errors);
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
    if port.is_unset() {
        if end.is_set() {
            errors.invalid(&end, "may not be specified when `port` is not specified");
        }
        return;
    }
    labels::port_number_or_name(&port, errors);
    match port.integer() {
        _ if end.is_unset() => {}
        None => errors.invalid(&end, "may not be specified when `port` is non-numeric"),
        Some(first) => {
            if end.number() < first {
                // Upstream shows the first port.
                errors.invalid_value(&end, first, "must be greater than or equal to `port`");
            }
            labels::port_number(&end, errors);
        }
    }
}

fn policy_peer(at: &Node<'_, '_>, errors: &mut Errors) {
    let (pods, namespaces, block) = (at.field("podSelector"), at.field("namespaceSelector"), at.field("ipBlock"));
    labels::selector(&pods, errors);
    labels::selector(&namespaces, errors);
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
    errors.invalid_all(&cidr, addresses::cidr(cidr.text()));
    let Some((outer, outer_length)) = addresses::parse_cidr(cidr.text()) else { return };
    let except = at.field("except");
    for one in except.items() {
        errors.invalid_all(&one, addresses::cidr(one.text()));
        let Some((inner, inner_length)) = addresses::parse_cidr(one.text()) else { continue };
        if inner_length <= outer_length || !addresses::contains(outer, outer_length, inner) {
            errors.invalid(&one, "must be a strict subset of `cidr`");
        }
    }
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
        errors.invalid_all(&name, naming::label(name.text()));
    }
    let node = endpoint.field("nodeName");
    if node.is_set() {
        errors.invalid_all(&node, naming::subdomain(node.text()));
    }
    let topology = endpoint.field("deprecatedTopology");
    let labels = topology.map().map_or(0, serde_json::Map::len);
    if labels > 16 {
        errors.too_many(&topology, labels, 16);
    }
    labels::labels(&topology, errors);
    let hints = endpoint.field("hints");
    hinted(&hints.field("forZones"), naming::label_value, errors);
    hinted(&hints.field("forNodes"), naming::subdomain, errors);
}

/// Zones or nodes that an endpoint is for.
fn hinted(at: &Node<'_, '_>, rule: fn(&str) -> Vec<String>, errors: &mut Errors) {
    const MOST: usize = 8;
    if at.list().len() > MOST {
        errors.too_many(at, at.list().len(), MOST);
        return;
    }
    let mut seen = HashSet::new();
    for one in at.items() {
        let name = one.field("name");
        if !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
        for why in rule(name.text()) {
            errors.invalid_value(&name, name.text(), &why);
        }
    }
}

fn slice_address(address: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    match kind {
        "FQDN" => full_domain(address, errors),
        "IPv4" | "IPv6" => {
            let wrong = addresses::ip(address.text());
            if wrong.is_empty() {
                let is_ipv4 = addresses::generous(address.text()).is_some_and(|ip| ip.is_ipv4());
                if is_ipv4 != (kind == "IPv4") {
                    errors.invalid(address, &format!("must be an {kind} address"));
                }
                ordinary_address(address, errors);
            }
            errors.invalid_all(address, wrong);
        }
        _ => {}
    }
}

/// A domain with a parent.
fn full_domain(at: &Node<'_, '_>, errors: &mut Errors) {
    if !errors.require_text(at) {
        return;
    }
    let name = at.text().strip_suffix('.').unwrap_or(at.text());
    let wrong = naming::subdomain(name);
    if !wrong.is_empty() {
        errors.invalid_value(at, name, &wrong.join(","));
    } else if !name.contains('.') {
        errors.invalid_value(at, name, "should be a domain with at least two segments separated by dots");
    } else if let Some(label) = name.split('.').find(|label| !naming::label(label).is_empty()) {
        errors.invalid_value(at, label, &naming::label(label).join(","));
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
            errors.invalid_all(&name, naming::label(name.text()));
        }
        if !names.insert(name.text()) {
            errors.duplicate(&name);
        }
        if errors.require_text(&protocol) {
            errors.one_of(&protocol, &["SCTP", "TCP", "UDP"]);
        }
        let application = port.field("appProtocol");
        if application.is_set() {
            errors.invalid_all(&application, naming::qualified_name(application.text()));
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
        0 => return errors.required(&cidrs, "at least one CIDR required"),
        1 => {}
        2 => {
            let first = |text: &str| addresses::parse_cidr(text).map(|(address, _)| address);
            if addresses::is_dual(cidrs.texts(), first) != Some(true) {
                let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                return errors.invalid(&cidrs, why);
            }
        }
        _ => return errors.invalid(&cidrs, "may only hold up to 2 values"),
    }
    for cidr in cidrs.items() {
        errors.invalid_all(&cidr, addresses::canonical_cidr(cidr.text()));
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
    let group = parent.field("group");
    if !group.text().is_empty() {
        errors.invalid_all(&group, naming::subdomain(group.text()));
    }
    for key in ["resource", "name", "namespace"] {
        let field = parent.field(key);
        if key == "namespace" && field.text().is_empty() {
            continue;
        }
        if errors.require_text(&field) {
            errors.invalid_all(&field, naming::path_segment_name(field.text(), false));
        }
    }
}

/// The parent of an address never changes.
pub(crate) fn ip_address_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let parent = spec.field("parentRef");
    if !parent.is_same(&before.field("parentRef")) {
        errors.invalid_shown(&parent, &structs::parent_reference(&parent), IMMUTABLE);
    }
}

/// What may not change in a `ServiceCIDR`.
pub(crate) fn service_cidr_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let (new, old) = (new_spec.field("cidrs"), old_spec.field("cidrs"));
    if old.list().iter().ne(new.list().iter().take(old.list().len())) {
        errors.invalid(&new, IMMUTABLE);
    }
}
