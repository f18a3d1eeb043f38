//! Rows of networking and discovery.

use jiff::Timestamp;
use serde_json::Value;

use super::Printer;
use super::core::load_balancer;
use super::text::{NONE, UNSET, age, join, list, list_in, or, plain, selector_or_none, text, with_more};
use crate::object::Object;

pub(super) fn printer(plural: &str) -> Option<Printer> {
    Some(match plural {
        "endpointslices" => endpoint_slice,
        "ingressclasses" => ingress_class,
        "ingresses" => ingress,
        "ipaddresses" => ip_address,
        "networkpolicies" => network_policy,
        "servicecidrs" => service_cidr,
        _ => return None,
    })
}

fn ingress(ingress: &Object, now: Timestamp) -> Vec<Value> {
    let rules = list(ingress, &["spec", "rules"]);
    let hosts: Vec<String> =
        rules.iter().map(|rule| text(rule, "host").to_owned()).filter(|host| !host.is_empty()).collect();
    let ports = if list(ingress, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        ingress.name().into(),
        or(ingress.text(&["spec", "ingressClassName"]), NONE).into(),
        or(&with_more(&hosts, 3, ","), "*").into(),
        load_balancer(ingress).join(",").into(),
        ports.into(),
        age(ingress, now).into(),
    ]
}

fn ingress_class(class: &Object, now: Timestamp) -> Vec<Value> {
    let parameters = class.get(&["spec", "parameters"]).filter(|parameters| !parameters.is_null());
    let parameters = parameters.map_or_else(
        || NONE.to_owned(),
        |parameters| {
            let group = text(parameters, "apiGroup");
            let dot = if group.is_empty() { "" } else { "." };
            format!("{}{dot}{group}/{}", text(parameters, "kind"), text(parameters, "name"))
        },
    );
    vec![class.name().into(), class.text(&["spec", "controller"]).into(), parameters.into(), age(class, now).into()]
}

fn network_policy(policy: &Object, now: Timestamp) -> Vec<Value> {
    vec![policy.name().into(), selector_or_none(policy.get(&["spec", "podSelector"])).into(), age(policy, now).into()]
}

fn ip_address(address: &Object, now: Timestamp) -> Vec<Value> {
    let parent = address.get(&["spec", "parentRef"]).filter(|parent| !parent.is_null());
    let parent = parent.map_or_else(
        || NONE.to_owned(),
        |parent| {
            let group = text(parent, "group");
            let dot = if group.is_empty() { "" } else { "." };
            let path = [text(parent, "namespace"), text(parent, "name")].into_iter().filter(|part| !part.is_empty());
            format!("{}{dot}{group}/{}", text(parent, "resource"), path.collect::<Vec<_>>().join("/"))
        },
    );
    vec![address.name().into(), parent.into(), age(address, now).into()]
}

fn service_cidr(cidr: &Object, now: Timestamp) -> Vec<Value> {
    vec![cidr.name().into(), join(list(cidr, &["spec", "cidrs"]), ",").into(), age(cidr, now).into()]
}

fn endpoint_slice(slice: &Object, now: Timestamp) -> Vec<Value> {
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
