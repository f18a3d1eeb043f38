//! Which nodes a DaemonSet's pods belong on, and what they are given to stay there (upstream:
//! `NodeShouldRunDaemonPod`).

use facts::nodes::{self, selector, taints::tolerates};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use crate::meta;

const NAME: &str = "metadata.name";

/// What a DaemonSet wants with a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fit {
    /// A pod shall run there.
    Run,
    /// A pod that runs there may stay.
    Stay,
    /// No pod may be there.
    No,
}

/// Compares a template, with the tolerations that every daemon has, with a node.
pub(super) fn fit(spec: &PodSpec, node: &Node) -> Fit {
    let name = meta::name(&node.metadata);
    let is_named = spec.node_name.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == name);
    if !is_named || !selector::allows(spec, node) {
        return Fit::No;
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let mut untolerated = nodes::taints(node).iter().filter(|taint| !tolerates(tolerations, taint));
    if untolerated.clone().any(|taint| taint.effect == "NoExecute") {
        return Fit::No;
    }
    if untolerated.any(|taint| taint.effect == "NoSchedule") { Fit::Stay } else { Fit::Run }
}

/// Has a pod scheduled on this node and on no other. Whether it fits was decided before.
pub(super) fn bind(spec: &mut PodSpec, node: &str) {
    let name = NodeSelectorRequirement {
        key: NAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![name]), match_expressions: None };
    let affinity = spec.affinity.get_or_insert_with(Affinity::default);
    let nodes = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
    nodes.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that a pod is on, or shall be scheduled on.
pub(super) fn of(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Some(node);
    }
    let fields =
        selector::required(spec)?.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let mut names = fields.filter(|field| field.key == NAME && field.operator == "In");
    names.find_map(|field| match field.values.as_deref() {
        Some([node]) => Some(node.as_str()),
        _ => None,
    })
}

/// Daemons stay on nodes in trouble: they may be what helps.
pub(super) fn tolerate(spec: &mut PodSpec) {
    let mut always = vec![
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        always.push(("network-unavailable", "NoSchedule"));
    }
    let all = spec.tolerations.get_or_insert_default();
    for (condition, effect) in always {
        let toleration = Toleration {
            key: Some(format!("node.kubernetes.io/{condition}")),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        let is_same = |known: &Toleration| {
            known.key == toleration.key && known.effect == toleration.effect && known.operator == toleration.operator
        };
        all.retain(|known| !is_same(known));
        all.push(toleration);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn check(spec: Value, taints: Value, expected: Fit) {
        let mut spec: PodSpec = from_value(spec).unwrap();
        tolerate(&mut spec);
        let node = json!({ "metadata": { "name": "n", "labels": { "disk": "ssd" } }, "spec": { "taints": taints } });
        assert_eq!(fit(&spec, &from_value(node).unwrap()), expected, "{spec:?}");
    }

    #[test]
    fn selectors_names_and_taints_decide() {
        let taint = |key: &str, effect: &str| json!([{ "key": key, "effect": effect }]);
        let none = || json!([]);
        check(json!({ "containers": [] }), none(), Fit::Run);
        check(json!({ "containers": [], "nodeSelector": { "disk": "ssd" } }), none(), Fit::Run);
        check(json!({ "containers": [], "nodeSelector": { "disk": "hdd" } }), none(), Fit::No);
        check(json!({ "containers": [], "nodeName": "m" }), none(), Fit::No);
        check(json!({ "containers": [] }), taint("gpu", "NoSchedule"), Fit::Stay);
        check(json!({ "containers": [] }), taint("gpu", "NoExecute"), Fit::No);
        check(json!({ "containers": [] }), taint("gpu", "PreferNoSchedule"), Fit::Run);
        check(json!({ "containers": [] }), taint("node.kubernetes.io/unschedulable", "NoSchedule"), Fit::Run);
        check(json!({ "containers": [] }), taint("node.kubernetes.io/network-unavailable", "NoSchedule"), Fit::Stay);
        let on_host = json!({ "containers": [], "hostNetwork": true });
        check(on_host, taint("node.kubernetes.io/network-unavailable", "NoSchedule"), Fit::Run);
        let rule = json!({ "key": "disk", "operator": "NotIn", "values": ["ssd"] });
        let required = json!({ "nodeSelectorTerms": [{ "matchExpressions": [rule] }] });
        let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } });
        check(json!({ "containers": [], "affinity": affinity }), none(), Fit::No);
    }

    #[test]
    fn a_bound_pod_is_of_its_node_before_it_is_scheduled() {
        let mut pod: Pod = from_value(json!({ "metadata": {}, "spec": { "containers": [] } })).unwrap();
        assert_eq!(of(&pod), None);
        bind(pod.spec.as_mut().unwrap(), "n");
        assert_eq!(of(&pod), Some("n"));
    }
}
