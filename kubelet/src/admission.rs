//! The node's own word on pods that name it: what does not fit is refused, whoever bound it.
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};

use crate::pods::status::Verdict;
use crate::{pod, resources};

/// Refuses a pod that the node cannot or may not run beside `others`.
pub(crate) fn check(pod: &Pod, others: &[Pod], node: &Node, max_pods: usize) -> Result<(), Verdict> {
    check_os(pod, node)?;
    check_features(pod)?;
    fit(pod, others, node, max_pods)?;
    host_ports(pod, others)?;
    if !matches_node(pod, node) {
        return Err(refuse(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ));
    }
    untolerated(pod, node)
}

/// The verdict on a pod that the node does not take, in upstream's form.
pub(crate) fn refuse(reason: &str, message: impl Into<String>) -> Verdict {
    Verdict { reason: reason.to_owned(), message: format!("Pod was rejected: {}", message.into()) }
}

fn check_os(pod: &Pod, node: &Node) -> Result<(), Verdict> {
    let labels = node.metadata.labels.as_ref();
    let here = labels.and_then(|labels| labels.get("kubernetes.io/os")).map_or("linux", String::as_str);
    match &pod::spec(pod).os {
        Some(os) if os.name != here => {
            Err(refuse("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"))
        }
        _ => Ok(()),
    }
}

/// Features of newer nodes that this one lacks; upstream's reason for it.
fn check_features(pod: &Pod) -> Result<(), Verdict> {
    let restarts_all = |container: &Container| {
        container.restart_policy_rules.iter().flatten().any(|rule| rule.action == "RestartAllContainers")
    };
    match pod::containers(pod).iter().find(|(_, container)| restarts_all(container)) {
        Some((_, container)) => {
            let message = format!(
                "container {:?} asks for RestartAllContainers, which this node does not support",
                container.name
            );
            Err(refuse("PodFeatureUnsupported", message))
        }
        None => Ok(()),
    }
}

fn fit(pod: &Pod, others: &[Pod], node: &Node, max_pods: usize) -> Result<(), Verdict> {
    let pods = Room { resource: "pods", wanted: 1, used: count(others.len()), capacity: count(max_pods) };
    if let Some(shortage) = pods.shortage() {
        return Err(refuse("OutOfpods", shortage));
    }
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    for resource in allocatable.into_iter().flat_map(BTreeMap::keys).filter(|resource| *resource != "pods") {
        if let Some(shortage) = room(pod, others, node, resource).shortage() {
            return Err(refuse(&format!("OutOf{resource}"), shortage));
        }
    }
    Ok(())
}

/// How much of a resource a pod wants beside others. CPU is counted in thousandths, everything else in units.
pub(crate) struct Room<'a> {
    resource: &'a str,
    pub(crate) wanted: i128,
    used: i128,
    pub(crate) capacity: i128,
}

pub(crate) fn room<'a>(pod: &Pod, others: &[Pod], node: &Node, resource: &'a str) -> Room<'a> {
    let unit = if resource == "cpu" { 1 } else { 1000 };
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let capacity = allocatable.and_then(|list| list.get(resource)).and_then(resources::milli).unwrap_or(0);
    let used: i128 = others.iter().map(|other| resources::pod_request(other, resource)).sum();
    Room {
        resource,
        wanted: resources::pod_request(pod, resource) / unit,
        used: used / unit,
        capacity: capacity / unit,
    }
}

impl Room<'_> {
    /// What is missing, if the pod does not fit.
    pub(crate) fn shortage(&self) -> Option<String> {
        let Self { resource, wanted, used, capacity } = self;
        (*wanted > 0 && wanted + used > *capacity).then(|| {
            format!(
                "Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, capacity: {capacity}"
            )
        })
    }
}

fn count(number: usize) -> i128 {
    i128::try_from(number).unwrap_or(i128::MAX)
}

fn host_ports(pod: &Pod, others: &[Pod]) -> Result<(), Verdict> {
    let mine = ports(pod);
    let clash = others.iter().flat_map(ports).any(|(protocol, ip, port)| {
        let wildcard = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
        mine.iter().any(|(p, i, n)| *p == protocol && *n == port && (*i == ip || wildcard(i) || wildcard(&ip)))
    });
    if clash {
        return Err(refuse(
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        ));
    }
    Ok(())
}

fn ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let containers = pod::containers(pod);
    let ports = containers.iter().flat_map(|(_, container)| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((protocol, port.host_ip.clone().unwrap_or_default(), number))
        })
        .collect()
}

fn matches_node(pod: &Pod, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let spec = pod::spec(pod);
    if spec.node_selector.iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_matches(term, labels, node)))
}

fn term_matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, node: &Node) -> bool {
    let name = node.metadata.name.clone().unwrap_or_default();
    let fields = BTreeMap::from([("metadata.name".to_owned(), name)]);
    let all = |list: &Option<Vec<NodeSelectorRequirement>>, values: &BTreeMap<String, String>| {
        list.iter().flatten().all(|requirement| requirement_holds(requirement, values))
    };
    let says_something = term.match_expressions.is_some() || term.match_fields.is_some();
    says_something && all(&term.match_expressions, labels) && all(&term.match_fields, &fields)
}

fn requirement_holds(requirement: &NodeSelectorRequirement, values: &BTreeMap<String, String>) -> bool {
    let value = values.get(&requirement.key);
    let wanted = requirement.values.as_deref().unwrap_or_default();
    let compare = |holds: fn(i64, i64) -> bool| {
        let number = value.and_then(|value| value.parse().ok());
        let limit = wanted.first().and_then(|limit| limit.parse().ok());
        number.zip(limit).is_some_and(|(number, limit)| holds(number, limit))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| wanted.contains(value)),
        "NotIn" => value.is_none_or(|value| !wanted.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|number, limit| number > limit),
        "Lt" => compare(|number, limit| number < limit),
        _ => false,
    }
}

fn untolerated(pod: &Pod, node: &Node) -> Result<(), Verdict> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = pod::spec(pod).tolerations.as_deref().unwrap_or_default();
    let mut hard = taints.iter().filter(|taint| taint.effect == "NoExecute");
    if hard.all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint))) {
        return Ok(());
    }
    Err(refuse("TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        _ => !key.is_empty() && text(&toleration.value) == text(&taint.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "n", "labels": {"zone": "a", "kubernetes.io/os": "linux"}},
            "spec": {"taints": [{"key": "dead", "effect": "NoExecute"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}}
        }))
        .unwrap()
    }

    fn check(spec: serde_json::Value, expected: Option<&str>) {
        let mut spec = spec;
        if spec["tolerations"].is_null() {
            spec["tolerations"] = serde_json::json!([{"operator": "Exists"}]);
        }
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        let other: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "q"},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}],
                "resources": {"requests": {"cpu": "1500m"}}}]}
        }))
        .unwrap();
        let refused = super::check(&pod, &[other], &node(), 3).err().map(|verdict| verdict.reason);
        assert_eq!(refused.as_deref(), expected);
    }

    #[test]
    fn pods_that_do_not_fit_are_refused_with_upstreams_reasons() {
        use serde_json::json;
        let cpu = |cpu: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
        check(cpu("500m"), None);
        check(cpu("501m"), Some("OutOfcpu"));
        check(json!({"containers": [], "nodeSelector": {"zone": "b"}}), Some("NodeAffinity"));
        check(json!({"containers": [], "tolerations": []}), Some("TaintToleration"));
        check(
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 2, "hostPort": 80}]}]}),
            Some("NodePorts"),
        );
        check(json!({"containers": [], "os": {"name": "windows"}}), Some("PodOSNotSupported"));
        let rule = json!({"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}});
        check(json!({"containers": [{"name": "c", "restartPolicyRules": [rule]}]}), Some("PodFeatureUnsupported"));
    }
}
