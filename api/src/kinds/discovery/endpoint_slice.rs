//! EndpointSlices (upstream: `pkg/registry/discovery/endpointslice`).

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::rules::addresses::{self, ordinary_address};
use crate::kinds::rules::fill::{self, default_pointer, each};
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{labels, naming};
use crate::object::Object;
use crate::strategy::{WriteContext, content_changed};
use crate::table::cell::Cell::Row;
use crate::table::cell::{UNSET, age, list, list_in, or, plain, with_more};

pub(crate) const KIND: Kind = Kind {
    has_generation: true,
    cells: &[Row(cells)],
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_change,
    warn,
    rechecks: (1, 0),
    is_new_generation,
    ..Kind::namespaced("endpointslices", "EndpointSlice")
};

fn default(object: &mut Object) {
    let root = object.root_mut();
    default_pointer(root, "addressType", "");
    default_pointer(root, "endpoints", Value::Null);
    default_pointer(root, "ports", Value::Null);
    each(root, "endpoints", |endpoint| {
        fill::object(endpoint, "conditions");
    });
    each(root, "ports", |port| {
        default_pointer(port, "name", "");
        default_pointer(port, "protocol", "TCP");
    });
}

/// New slices have no `deprecatedTopology`, which the API before v1 had.
fn prepare_create(_ctx: &WriteContext<'_>, new: &mut Object) {
    each(new.root_mut(), "endpoints", |endpoint| drop(endpoint.remove("deprecatedTopology")));
}

/// Slices of former times keep their topology while their endpoints stay as they are.
fn prepare_update(ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    if new.get(&["endpoints"]) != old.get(&["endpoints"]) {
        prepare_create(ctx, new);
    }
}

/// The labels of an `EndpointSlice` say whose it is, so that a change of them counts, too.
fn is_new_generation(new: &Object, old: &Object) -> bool {
    content_changed(new, old) || new.labels() != old.labels()
}

fn validate(slice: &Node<'_, '_>, errors: &mut Errors) {
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
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("addressType"), &old.field("addressType"));
}

/// An `EndpointSlice`. Our own controllers spell addresses well.
fn warn(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    const OURS: [&str; 2] = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
    let kind = new.field("addressType").text();
    if kind == "FQDN" {
        texts.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    if kind == "FQDN" || OURS.contains(&labels::manager(new, "endpointslice.kubernetes.io/managed-by")) {
        return;
    }
    for endpoint in new.field("endpoints").items() {
        for address in endpoint.field("addresses").items() {
            texts.extend(addresses::ip_warning(&address.path(), address.text()));
        }
    }
}

fn cells(slice: &Object, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match (
        port.get("port").filter(|number| !number.is_null()),
        port.get("name").and_then(Value::as_str),
    ) {
        (Some(number), _) => plain(Some(number)),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    };
    let ports: Vec<String> = list(slice, &["ports"]).iter().map(port).collect();
    let endpoints = list(slice, &["endpoints"]).iter();
    let addresses = endpoints.flat_map(|endpoint| list_in(endpoint, "addresses")).filter_map(Value::as_str);
    let addresses: Vec<String> = addresses.map(str::to_owned).collect();
    vec![
        slice.name().into(),
        slice.text(&["addressType"]).into(),
        or(&with_more(&ports, 3, ","), UNSET).into(),
        or(&with_more(&addresses, 3, ","), UNSET).into(),
        age(slice, now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::rules::checks::check_warnings;

    #[test]
    fn domains_as_endpoints_are_told() {
        check_warnings(
            warn,
            &json!({"addressType": "FQDN"}),
            None,
            &["spec.addressType: FQDN endpoints are deprecated"],
        );
    }
}
