//! Ingresses (upstream: `pkg/registry/networking/ingress`).

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::fill::{self, object};
use crate::kinds::rules::tree::{Errors, Fields, Node};
use crate::kinds::rules::{addresses, load_balancer, naming, numbers};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{NONE, age, list, or, text, with_more};

pub(crate) const KIND: Kind = Kind {
    short_names: &["ing"],
    subresources: &[Sub::STATUS],
    has_generation: true,
    prefix: Some("ingress"),
    cells: &[Row(cells)],
    default: fill::with_spec,
    fill_status: Some(fill_status),
    validate,
    validate_new,
    validate_status,
    warn,
    warn_status: load_balancer::warn,
    rechecks: (1, 1),
    ..Kind::namespaced("ingresses", "Ingress")
};

/// The part of an Ingress's status that is always shown.
fn fill_status(status: &mut Fields) {
    object(status, "loadBalancer");
}

fn validate(ingress: &Node<'_, '_>, errors: &mut Errors) {
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
fn validate_new(ingress: &Node<'_, '_>, errors: &mut Errors) {
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
fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    let balancer = status.field("loadBalancer");
    for one in balancer.field("ingress").items() {
        let ip = one.field("ip");
        if !ip.text().is_empty() {
            errors.invalid_all(&ip, addresses::ip(ip.text()));
        }
        load_balancer::host(&one.field("hostname"), errors);
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
pub(crate) fn typed_reference(at: &Node<'_, '_>, needs_group: bool, errors: &mut Errors) {
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
        (false, true) => numbers::port_number(&number, errors),
    }
}

/// A new `Ingress` that names its class as of old.
fn warn(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let metadata = new.field("metadata");
    let annotated = metadata.field("annotations").map().is_some_and(|map| map.contains_key(CLASS));
    if old.is_none() && annotated && new.field("spec").field("ingressClassName").is_unset() {
        texts.push(format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"));
    }
}

fn cells(ingress: &Object, now: Timestamp) -> Vec<Value> {
    let rules = list(ingress, &["spec", "rules"]);
    let hosts: Vec<String> =
        rules.iter().map(|rule| text(rule, "host").to_owned()).filter(|host| !host.is_empty()).collect();
    let ports = if list(ingress, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        ingress.name().into(),
        or(ingress.text(&["spec", "ingressClassName"]), NONE).into(),
        or(&with_more(&hosts, 3, ","), "*").into(),
        load_balancer::addresses(ingress).join(",").into(),
        ports.into(),
        age(ingress, now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::rules::checks::check_warnings;

    #[test]
    fn an_old_way_to_name_a_class_is_told() {
        check_warnings(
            warn,
            &json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "c"}}, "spec": {}}),
            None,
            &["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"],
        );
    }
}
