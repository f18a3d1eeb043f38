//! Decides on which nodes pods come and go, and what the status of a DaemonSet says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use facts::int_or_percent::portion;
use facts::pods;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::node::{self, Fit};
use crate::history::REVISION;

/// Upstream's `BurstReplicas`: no sync creates or deletes more pods than this.
const BURST: usize = 250;

/// What the controller knows of a DaemonSet.
pub(super) struct Seen<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) nodes: BTreeMap<&'a str, Fit>,
    /// Its pods by the node that they are on or shall be on.
    pub(super) pods: BTreeMap<&'a str, Vec<Arc<Pod>>>,
    /// The hash of its template.
    pub(super) hash: &'a str,
    pub(super) now: Timestamp,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Nodes that need a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Pods that ended badly, and go only as often as the backoff allows.
    pub(super) failed: Vec<Arc<Pod>>,
}

impl<'a> Seen<'a> {
    /// Sorts pods by their nodes; those that ended and are being deleted are gone already.
    pub(super) fn by_node(pods: &'a [Arc<Pod>]) -> BTreeMap<&'a str, Vec<Arc<Pod>>> {
        let mut by_node: BTreeMap<&str, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !(pods::is_terminal(pod) && pods::is_terminating(pod))) {
            if let Some(node) = node::of(pod) {
                by_node.entry(node).or_default().push(Arc::clone(pod));
            }
        }
        // The oldest first, of those that are scheduled.
        for pods in by_node.values_mut() {
            pods.sort_by_key(|pod| {
                let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
                (pods::node(pod).is_empty(), created, pod.metadata.name.clone())
            });
        }
        by_node
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION)).is_some_and(|hash| hash == self.hash)
    }

    fn min_ready(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready(), self.now)
    }

    fn fit(&self, node: &str) -> Fit {
        self.nodes.get(node).copied().unwrap_or(Fit::No)
    }

    fn pods_on(&self, node: &str) -> &[Arc<Pod>] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }

    fn desired(&self) -> usize {
        self.nodes.values().filter(|fit| **fit == Fit::Run).count()
    }

    /// How many more pods, and how many fewer, an update may have.
    fn limits(&self) -> (usize, usize) {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.clone()).unwrap_or_default();
        let total = i32::try_from(self.desired()).unwrap_or(i32::MAX);
        let of = |value: Option<IntOrString>, otherwise| {
            usize::try_from(portion(&value.unwrap_or(IntOrString::Int(otherwise)), total, true)).unwrap_or(0)
        };
        match (of(rolling.max_surge, 0), of(rolling.max_unavailable, 1)) {
            (0, 0) => (0, 1),
            limits => limits,
        }
    }
}

/// Brings every node to its pods; only where that needs nothing is the template rolled out.
pub(super) fn plan(seen: &Seen<'_>) -> Plan {
    let mut plan = manage(seen);
    let strategy = seen.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let is_rolling = strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete");
    if is_rolling && plan.create.is_empty() && plan.delete.is_empty() {
        let failed = std::mem::take(&mut plan.failed);
        plan = match seen.limits() {
            (0, unavailable) => replace(seen, unavailable),
            (surge, _) => surge_to(seen, surge),
        };
        plan.failed = failed.into_iter().filter(|pod| !plan.delete.contains(pod)).collect();
    }
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

fn manage(seen: &Seen<'_>) -> Plan {
    let mut plan = Plan::default();
    for (name, fit) in &seen.nodes {
        let pods = seen.pods_on(name);
        match fit {
            Fit::Run if pods.is_empty() => plan.create.push((*name).to_owned()),
            Fit::Run | Fit::Stay => keep(seen, name, pods, &mut plan),
            Fit::No => plan.delete.extend(pods.iter().filter(|pod| !pods::is_terminating(pod)).cloned()),
        }
    }
    // A pod for a node that is gone is never scheduled, and never goes by itself.
    for pods in seen.pods.iter().filter(|(node, _)| !seen.nodes.contains_key(*node)).map(|(_, pods)| pods) {
        plan.delete.extend(pods.iter().filter(|pod| pods::node(pod).is_empty() && !pods::is_terminating(pod)).cloned());
    }
    plan
}

/// Leaves the right pods of a node: the oldest, or while surging also the oldest of the other template.
fn keep(seen: &Seen<'_>, node: &str, pods: &[Arc<Pod>], plan: &mut Plan) {
    let mut running: Vec<&Arc<Pod>> = Vec::new();
    for pod in pods.iter().filter(|pod| !pods::is_terminating(pod)) {
        match pods::phase(pod) {
            "Failed" => plan.failed.push(Arc::clone(pod)),
            "Succeeded" => plan.delete.push(Arc::clone(pod)),
            _ => running.push(pod),
        }
    }
    let (surge, _) = seen.limits();
    if surge == 0 {
        plan.delete.extend(running.into_iter().skip(1).cloned());
        return;
    }
    if running.is_empty() {
        if seen.fit(node) == Fit::Run {
            plan.create.push(node.to_owned());
        }
        return;
    }
    let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| seen.is_updated(pod));
    let surplus = new.iter().skip(1).chain(old.iter().skip(1));
    plan.delete.extend(surplus.map(|pod| Arc::clone(pod)));
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (!pods::is_ready(old) || seen.is_available(new))
    {
        plan.delete.push(Arc::clone(old));
    }
}

type OrNone<'a> = Option<&'a Arc<Pod>>;

/// The pod of the current template and the pod of another on a node; `None` if there are more.
fn pair<'a>(seen: &Seen<'_>, pods: &'a [Arc<Pod>]) -> Option<(OrNone<'a>, OrNone<'a>)> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().filter(|pod| !pods::is_terminating(pod)) {
        let place = if seen.is_updated(pod) { &mut new } else { &mut old };
        if place.replace(pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

/// All nodes that have or shall have pods.
fn concerned<'a>(seen: &'a Seen<'_>) -> BTreeSet<&'a str> {
    let wanted = seen.nodes.iter().filter(|(_, fit)| **fit == Fit::Run).map(|(node, _)| *node);
    wanted.chain(seen.pods.keys().copied()).collect()
}

/// Deletes as many pods of another template as may be missing; their successors come by themselves.
fn replace(seen: &Seen<'_>, max_unavailable: usize) -> Plan {
    let (mut unavailable, mut at_once, mut candidates) = (0, Vec::new(), Vec::new());
    for node in concerned(seen) {
        match pair(seen, seen.pods_on(node)) {
            Some((Some(new), None)) => unavailable += usize::from(!seen.is_available(new)),
            Some((None, Some(old))) if seen.is_available(old) => candidates.push(Arc::clone(old)),
            Some((None, Some(old))) => {
                at_once.push(Arc::clone(old));
                unavailable += 1;
            }
            // Somebody else puts this node in order.
            _ => unavailable += 1,
        }
    }
    candidates.truncate(max_unavailable.saturating_sub(unavailable));
    at_once.append(&mut candidates);
    Plan { delete: at_once, ..Plan::default() }
}

/// Creates pods beside those of another template, and deletes these once their successors are available.
fn surge_to(seen: &Seen<'_>, max_surge: usize) -> Plan {
    let (mut surging, mut available) = (0usize, 0usize);
    let (mut plan, mut candidates, mut misplaced) = (Plan::default(), Vec::new(), Vec::new());
    for node in concerned(seen) {
        let Some((new, old)) = pair(seen, seen.pods_on(node)) else {
            surging += 1;
            continue;
        };
        available += usize::from(old.or(new).is_some_and(|pod| seen.is_available(pod)));
        match (new, old) {
            (_, None) => {}
            (Some(new), Some(old)) if seen.is_available(new) => {
                plan.delete.push(Arc::clone(old));
            }
            (Some(_), Some(_)) => surging += 1,
            (None, Some(old)) => match (seen.fit(node) == Fit::Run, seen.is_available(old)) {
                (true, true) => candidates.push(node.to_owned()),
                (true, false) => plan.create.push(node.to_owned()),
                (false, true) => misplaced.push(Arc::clone(old)),
                (false, false) => plan.delete.push(Arc::clone(old)),
            },
        }
    }
    // Where no pod should be, one stays until there are enough elsewhere.
    misplaced.truncate(available.saturating_sub(seen.desired()));
    plan.delete.append(&mut misplaced);
    candidates.truncate(max_surge.saturating_sub(surging));
    plan.create.append(&mut candidates);
    plan
}

/// The status; `is_processed` when nothing of this generation is left undone.
pub(super) fn status(seen: &Seen<'_>, is_processed: bool) -> DaemonSetStatus {
    let old = seen.set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        collision_count: old.collision_count,
        conditions: old.conditions,
        observed_generation: if is_processed { seen.set.metadata.generation } else { old.observed_generation },
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut available) = (0, 0);
    for (node, fit) in &seen.nodes {
        let first = seen.pods_on(node).first();
        if *fit != Fit::Run {
            status.number_misscheduled += i32::from(first.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = first else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pods::is_ready(pod));
        available += i32::from(seen.is_available(pod));
        updated += i32::from(seen.is_updated(pod));
    }
    let some = |number: i32| (number != 0).then_some(number);
    status.updated_number_scheduled = some(updated);
    status.number_available = some(available);
    status.number_unavailable = some(status.desired_number_scheduled - available);
    status
}

/// The time until the next ready pod becomes available.
pub(super) fn next_available(seen: &Seen<'_>) -> Option<Duration> {
    let pods = seen.pods.values().flatten();
    let waits = pods.filter_map(|pod| pods::available_in(pod, seen.min_ready(), seen.now));
    waits.filter(|left| !left.is_zero()).min()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn pod(name: &str, node: &str, hash: &str, ready: &str) -> Arc<Pod> {
        Arc::new(
            from_value(json!({
                "metadata": { "name": name, "labels": { REVISION: hash } }, "spec": { "containers": [], "nodeName": node },
                "status": { "phase": "Running", "conditions": [
                    { "type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z" }] },
            }))
            .unwrap(),
        )
    }

    fn check(strategy: Value, pods: &[Arc<Pod>], create: &[&str], delete: &[&str]) {
        let set = json!({ "metadata": {}, "spec": { "selector": {}, "template": {}, "updateStrategy": strategy } });
        let set: DaemonSet = from_value(set).unwrap();
        let nodes = BTreeMap::from([("a", Fit::Run), ("b", Fit::Run), ("c", Fit::Stay), ("d", Fit::No)]);
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let seen = Seen { set: &set, nodes, pods: Seen::by_node(pods), hash: "new", now };
        let plan = plan(&seen);
        let deleted: Vec<_> = plan.delete.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
        assert_eq!((plan.create, deleted), (create.iter().map(|&node| node.to_owned()).collect(), delete.to_vec()));
    }

    fn rolling(surge: u32, unavailable: u32) -> Value {
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
    }

    #[test]
    fn every_fitting_node_has_one_pod_and_no_other_has_any() {
        check(rolling(0, 1), &[], &["a", "b"], &[]);
        let pods = [
            pod("1", "a", "new", "True"),
            pod("2", "a", "new", "True"),
            pod("3", "c", "new", "True"),
            pod("4", "d", "new", "True"),
        ];
        check(rolling(0, 1), &pods, &["b"], &["2", "4"]);
    }

    #[test]
    fn old_pods_go_as_many_at_a_time_as_may_be_missing() {
        let old = [pod("1", "a", "old", "True"), pod("2", "b", "old", "True")];
        check(rolling(0, 1), &old, &[], &["1"]);
        check(rolling(0, 2), &old, &[], &["1", "2"]);
        check(json!({ "type": "OnDelete" }), &old, &[], &[]);
        check(rolling(0, 1), &[pod("1", "a", "new", "False"), pod("2", "b", "old", "True")], &[], &[]);
        // One that is not available costs nothing.
        check(rolling(0, 1), &[pod("1", "a", "old", "False"), pod("2", "b", "old", "True")], &[], &["1"]);
    }

    #[test]
    fn a_pod_that_failed_is_updated_without_delay() {
        let mut failed = (*pod("1", "a", "old", "False")).clone();
        failed.status.get_or_insert_default().phase = Some("Failed".to_owned());
        check(rolling(0, 1), &[Arc::new(failed), pod("2", "b", "old", "True")], &[], &["1"]);
    }

    #[test]
    fn surging_pods_come_first_and_old_ones_go_when_they_are_available() {
        let old = [pod("1", "a", "old", "True"), pod("2", "b", "old", "True")];
        check(rolling(1, 0), &old, &["a"], &[]);
        let waiting = [old[0].clone(), old[1].clone(), pod("3", "a", "new", "False")];
        check(rolling(1, 0), &waiting, &[], &[]);
        let there = [old[0].clone(), old[1].clone(), pod("3", "a", "new", "True")];
        check(rolling(1, 0), &there, &[], &["1"]);
    }

    #[test]
    fn the_status_counts_nodes() {
        let set: DaemonSet =
            from_value(json!({ "metadata": { "generation": 3 }, "spec": { "selector": {}, "template": {} } })).unwrap();
        let nodes = BTreeMap::from([("a", Fit::Run), ("b", Fit::Run), ("c", Fit::Stay)]);
        let pods = [pod("1", "a", "new", "True"), pod("2", "b", "old", "False"), pod("3", "c", "old", "True")];
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let seen = Seen { set: &set, nodes, pods: Seen::by_node(&pods), hash: "new", now };
        let got = status(&seen, true);
        assert_eq!((got.desired_number_scheduled, got.current_number_scheduled, got.number_misscheduled), (2, 2, 1));
        assert_eq!((got.number_ready, got.number_available, got.number_unavailable), (1, Some(1), Some(1)));
        assert_eq!((got.updated_number_scheduled, got.observed_generation), (Some(1), Some(3)));
    }
}
