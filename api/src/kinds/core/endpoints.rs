//! Endpoints (upstream: `pkg/registry/core/endpoint`).

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::{default_zero, each};
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{addresses, labels, naming, numbers};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{NONE, age, list, list_in, text, with_more};

pub(crate) const KIND: Kind = Kind {
    short_names: &["ep"],
    prefix: Some("services/endpoints"),
    deprecation: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
    cells: &[Row(cells)],
    default,
    validate,
    warn,
    rechecks: (1, 1),
    create_on_update: true,
    ..Kind::namespaced("endpoints", "Endpoints")
};

fn default(object: &mut Object) {
    each(object.root_mut(), "subsets", |subset| each(subset, "ports", |port| default_zero(port, "protocol", "TCP")));
}

/// `Endpoints`.
fn validate(endpoints: &Node<'_, '_>, errors: &mut Errors) {
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
    for why in addresses::ip(ip.text()) {
        errors.invalid_value(&ip, ip.text(), &why);
    }
    for key in ["hostname", "nodeName"] {
        let name = address.field(key);
        if name.is_set() && !(key == "hostname" && name.text().is_empty()) {
            let wrong = if key == "hostname" { naming::label(name.text()) } else { naming::subdomain(name.text()) };
            errors.invalid_all(&name, wrong);
        }
    }
    addresses::ordinary_address(&ip, errors);
}

fn endpoint_port(port: &Node<'_, '_>, needs_name: bool, errors: &mut Errors) {
    let (name, protocol) = (port.field("name"), port.field("protocol"));
    if name.text().is_empty() {
        if needs_name {
            errors.required(&name, "");
        }
    } else {
        errors.invalid_all(&name, naming::label(name.text()));
    }
    numbers::port_number(&port.field("port"), errors);
    if errors.require_text(&protocol) {
        errors.one_of(&protocol, &["SCTP", "TCP", "UDP"]);
    }
    let application = port.field("appProtocol");
    if application.is_set() {
        errors.invalid_all(&application, naming::qualified_name(application.text()));
    }
}

/// `Endpoints`.
fn warn(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if labels::manager(new, "endpoints.kubernetes.io/managed-by") == "endpoint-controller" {
        return;
    }
    for subset in new.field("subsets").items() {
        for list in ["addresses", "notReadyAddresses"] {
            for address in subset.field(list).items() {
                let ip = address.field("ip");
                texts.extend(addresses::ip_warning(&ip.path(), ip.text()));
            }
        }
    }
}

fn cells(endpoints: &Object, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    let subsets = list(endpoints, &["subsets"]);
    for subset in subsets {
        let addresses = list_in(subset, "addresses").iter().map(|address| text(address, "ip"));
        let ports = list_in(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses.clone().map(str::to_owned));
        }
        for port in ports {
            let port = port.get("port").and_then(Value::as_i64).unwrap_or(0);
            all.extend(
                addresses
                    .clone()
                    .map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
            );
        }
    }
    let shown = if subsets.is_empty() { NONE.to_owned() } else { with_more(&all, 3, ",") };
    vec![endpoints.name().into(), shown.into(), age(endpoints, now).into()]
}
