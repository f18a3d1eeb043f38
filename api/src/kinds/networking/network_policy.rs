//! NetworkPolicies (upstream: `pkg/registry/networking/networkpolicy`).

use serde_json::json;

use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::{self, default_pointer, each, is_zero};
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{addresses, labels, numbers};
use crate::object::Object;
use crate::table::cell::Cell::{Age, Name, SelectorOrNone};

pub(crate) const KIND: Kind = Kind {
    short_names: &["netpol"],
    has_generation: true,
    cells: &[Name, SelectorOrNone(&["spec", "podSelector"]), Age],
    default,
    validate,
    warn,
    ..Kind::namespaced("networkpolicies", "NetworkPolicy")
};

/// Defaults of a `NetworkPolicy`: a policy without types governs ingress, and egress when it has egress rules.
fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    fill::object(spec, "podSelector");
    for rules in ["ingress", "egress"] {
        each(spec, rules, |rule| each(rule, "ports", |port| default_pointer(port, "protocol", "TCP")));
    }
    if is_zero(spec, "policyTypes") {
        let types = if is_zero(spec, "egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        spec.insert("policyTypes".to_owned(), types);
    }
}

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

fn validate(policy: &Node<'_, '_>, errors: &mut Errors) {
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
    numbers::port_number_or_name(&port, errors);
    match port.integer() {
        _ if end.is_unset() => {}
        None => errors.invalid(&end, "may not be specified when `port` is non-numeric"),
        Some(first) => {
            if end.number() < first {
                // Upstream shows the first port.
                errors.invalid_value(&end, first, "must be greater than or equal to `port`");
            }
            numbers::port_number(&end, errors);
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

fn warn(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    let spec = new.field("spec");
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.field(direction).items() {
            for peer in rule.field(peers).items() {
                let block = peer.field("ipBlock");
                let cidr = block.field("cidr");
                texts.extend(addresses::cidr_warnings(&cidr.path(), cidr.text()));
                for except in block.field("except").items() {
                    texts.extend(addresses::cidr_warnings(&except.path(), except.text()));
                }
            }
        }
    }
}
