//! The node's own word on pods that name it: what does not fit is refused, whoever bound it.

use facts::amounts::{self, Amounts, List};
use facts::nodes::{self, selector, taints::tolerates};
use facts::pods::QosClass;
use facts::pods::demand::Demand;
use facts::pods::ports::host_ports;
use k8s_openapi::api::core::v1::{Container, Node, Pod, Taint};

use crate::pod;
use crate::pods::status::Verdict;
use crate::signals::Conditions;

/// Refuses a pod that the node cannot or may not run beside `others`.
pub(crate) fn check(
    pod: &Pod,
    others: &[Pod],
    node: &Node,
    max_pods: usize,
    pressure: Conditions,
) -> Result<(), Verdict> {
    check_pressure(pod, pressure)?;
    check_os(pod, node)?;
    check_features(pod)?;
    fit(pod, others, node, max_pods)?;
    check_ports(pod, others)?;
    if !selector::allows(pod::spec(pod), node) {
        return Err(refuse(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ));
    }
    untolerated(pod, node)
}

/// The verdict on a pod that the node does not take, in upstream's form.
pub(crate) fn refuse(reason: &str, message: impl Into<String>) -> Verdict {
    Verdict::new(reason, format!("Pod was rejected: {}", message.into()))
}

/// A node that runs short takes no more; memory that was asked for is there.
fn check_pressure(pod: &Pod, pressure: Conditions) -> Result<(), Verdict> {
    if pressure.are_calm() || pod::is_critical(pod) {
        return Ok(());
    }
    let taint = Taint {
        key: "node.kubernetes.io/memory-pressure".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    let tolerations = pod::spec(pod).tolerations.as_deref().unwrap_or_default();
    let bears_it = Demand::of(pod).qos_class() != QosClass::BestEffort || tolerates(tolerations, &taint);
    if (pressure == Conditions { memory: true, ..Conditions::default() }) && bears_it {
        return Ok(());
    }
    Err(refuse(Verdict::EVICTED, format!("The node had condition: {pressure}. ")))
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
    let (needs, allocatable) = (Needs::of(pod, others), allocatable(node));
    for resource in allocatable.keys().filter(|resource| **resource != "pods") {
        if let Some(shortage) = needs.room(&allocatable, resource).shortage() {
            return Err(refuse(&format!("OutOf{resource}"), shortage));
        }
    }
    Ok(())
}

/// What the node has for pods.
pub(crate) fn allocatable(node: &Node) -> Amounts<'_> {
    let list = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    list.map(|list| List::Typed(list).amounts()).unwrap_or_default()
}

/// What a pod asks for beside others.
pub(crate) struct Needs<'a> {
    wanted: Amounts<'a>,
    used: Amounts<'a>,
}

/// How much of a resource a pod wants beside others. CPU is counted in thousandths, everything else in units.
pub(crate) struct Room<'a> {
    resource: &'a str,
    pub(crate) wanted: i128,
    used: i128,
    pub(crate) capacity: i128,
}

impl<'a> Needs<'a> {
    pub(crate) fn of(pod: &'a Pod, others: &'a [Pod]) -> Self {
        let mut used = Amounts::new();
        others.iter().for_each(|other| amounts::add(&mut used, &Demand::of(other).requests()));
        Self { wanted: Demand::of(pod).requests(), used }
    }

    pub(crate) fn room<'r>(&self, allocatable: &Amounts<'_>, resource: &'r str) -> Room<'r> {
        let exponent = if resource == "cpu" { -3 } else { 0 };
        let [wanted, used, capacity] = [&self.wanted, &self.used, allocatable]
            .map(|amounts| amounts.get(resource).map_or(0, |amount| amount.scaled(exponent).into()));
        Room { resource, wanted, used, capacity }
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

fn check_ports(pod: &Pod, others: &[Pod]) -> Result<(), Verdict> {
    let mine = host_ports(pod::spec(pod));
    let mut taken = others.iter().flat_map(|other| host_ports(pod::spec(other)));
    if taken.any(|port| mine.iter().any(|own| own.conflicts(&port))) {
        return Err(refuse(
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        ));
    }
    Ok(())
}

fn untolerated(pod: &Pod, node: &Node) -> Result<(), Verdict> {
    let tolerations = pod::spec(pod).tolerations.as_deref().unwrap_or_default();
    let mut hard = nodes::taints(node).iter().filter(|taint| taint.effect == "NoExecute");
    if hard.all(|taint| tolerates(tolerations, taint)) {
        return Ok(());
    }
    Err(refuse("TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"))
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
        let refused =
            super::check(&pod, &[other], &node(), 3, Conditions::default()).err().map(|verdict| verdict.reason);
        assert_eq!(refused.as_deref(), expected);
    }

    #[test]
    fn a_node_that_runs_short_takes_only_what_was_reckoned_with() {
        use serde_json::json;
        let memory = Conditions { memory: true, ..Conditions::default() };
        let disk = Conditions { disk: true, ..memory };
        let idle = json!({"containers": [{"name": "c"}]});
        let modest = json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1"}}}]});
        let mut brave = idle.clone();
        brave["tolerations"] = json!([{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]);
        let mut critical = idle.clone();
        critical["priority"] = json!(2_000_001_000);
        for (spec, pressure, expected) in [
            (&idle, Conditions::default(), None),
            (&idle, memory, Some("Pod was rejected: The node had condition: [MemoryPressure]. ")),
            (&modest, memory, None),
            (&brave, memory, None),
            (&modest, disk, Some("Pod was rejected: The node had condition: [DiskPressure MemoryPressure]. ")),
            (&critical, disk, None),
        ] {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
            let refused = check_pressure(&pod, pressure).err();
            assert!(refused.as_ref().is_none_or(|verdict| !verdict.is_eviction()), "it was never here");
            assert_eq!(refused.map(|verdict| verdict.message).as_deref(), expected);
        }
    }

    #[test]
    fn pods_that_do_not_fit_are_refused_with_upstreams_reasons() {
        use serde_json::json;
        let cpu = |cpu: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
        check(cpu("500m"), None);
        check(cpu("501m"), Some("OutOfcpu"));
        check(json!({"containers": [], "nodeSelector": {"zone": "b"}}), Some("NodeAffinity"));
        let terms = json!({"nodeSelectorTerms": [{"matchExpressions": []}]});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
        check(json!({"containers": [], "affinity": affinity}), Some("NodeAffinity"));
        check(json!({"containers": [], "resources": {"requests": {"cpu": "501m"}}}), Some("OutOfcpu"));
        let port = json!({"name": "i", "ports": [{"containerPort": 2, "hostPort": 80}]});
        check(json!({"containers": [], "initContainers": [port]}), None);
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
