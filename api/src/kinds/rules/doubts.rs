//! Texts about what is allowed but hardly meant (upstream: `pkg/api/node`, `pkg/api/pod/warnings.go`).

use super::tree::Node;
use super::{naming, quantities};

/// What a label of nodes is called now, or what replaces it.
fn replacement(label: &str) -> Option<&'static str> {
    Some(match label {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => "deprecated since v1.22; use Taints and Tolerations instead",
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

pub(crate) fn node_labels(spec: &Node<'_, '_>, texts: &mut Vec<String>) {
    for (label, at) in spec.field("nodeSelector").entries() {
        texts.extend(replacement(label).map(|text| format!("{}: {text}", at.path())));
    }
    let affinity = spec.field("affinity");
    let nodes = affinity.field("nodeAffinity");
    let required = nodes.field("requiredDuringSchedulingIgnoredDuringExecution");
    node_selector_terms(&required.field("nodeSelectorTerms"), texts);
    for preferred in nodes.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
        node_selector_term(&preferred.field("preference"), true, texts);
    }
    for constraint in spec.field("topologySpreadConstraints").items() {
        let (key, selector) = (constraint.field("topologyKey"), constraint.field("labelSelector"));
        texts.extend(replacement(key.text()).map(|text| format!("{}: {} is {text}", key.path(), key.text())));
        no_selector(&selector, texts);
    }
}

/// The terms of a node selector.
pub(crate) fn node_selector_terms(at: &Node<'_, '_>, texts: &mut Vec<String>) {
    for term in at.items() {
        node_selector_term(&term, false, texts);
    }
}

/// One term; `values_too` where values that no label can have are let through.
fn node_selector_term(at: &Node<'_, '_>, values_too: bool, texts: &mut Vec<String>) {
    for expression in at.field("matchExpressions").items() {
        let key = expression.field("key");
        texts.extend(replacement(key.text()).map(|text| format!("{}: {} is {text}", key.path(), key.text())));
        for value in expression.field("values").items().filter(|_| values_too) {
            let wrong = naming::label_value(value.text());
            texts.extend(wrong.iter().map(|why| format!("{}: {} is invalid, {why}", value.path(), value.text())));
        }
    }
}

pub(crate) fn no_selector(at: &Node<'_, '_>, texts: &mut Vec<String>) {
    if at.is_unset() {
        texts.push(format!("{}: a null labelSelector results in matching no pod", at.path()));
    }
}

/// One number of bytes, shown at `at`.
pub(crate) fn fraction(at: &Node<'_, '_>, quantity: &Node<'_, '_>, texts: &mut Vec<String>) {
    if let Some(quantity) = quantities::parse(quantity).filter(|quantity| quantity.milli_value() % 1000 != 0) {
        texts.push(format!("{}: fractional byte value \"{quantity}\" is invalid, must be an integer", at.path()));
    }
}
