//! Pods over zones and nodes, by tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::ObjectKey;
use serde_json::{Value, json};

use super::*;
use crate::cache::Cache;
use crate::framework::{CycleState, Filter, NodeInfo, PreFilter, PreScore, Score};

/// Nodes a1, a2 in zone a and b1 in zone b; `none` is in no zone.
fn cluster(pods: &[(&str, u32)]) -> Cache {
    let mut cache = Cache::default();
    for (name, zone) in [("a1", Some("a")), ("a2", Some("a")), ("b1", Some("b")), ("none", None)] {
        let mut labels = json!({HOSTNAME: name});
        if let Some(zone) = zone {
            labels[ZONE] = json!(zone);
        }
        let node = json!({"metadata": {"name": name, "labels": labels}, "status": {}});
        cache.set_node(&Arc::new(serde_json::from_value(node).unwrap()));
    }
    for (node, count) in pods {
        for number in 0..*count {
            cache.set_pod(Arc::new(pod(&format!("{node}-{number}"), json!([]))), node);
        }
    }
    cache
}

/// A pod with the label app=web.
fn pod(name: &str, constraints: Value) -> PodInfo {
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "w", "controller": true}]);
    let labels = json!({"app": "web"});
    let meta = json!({"name": name, "uid": name, "namespace": "d", "labels": labels, "ownerReferences": owner});
    let spec = json!({"containers": [], "topologySpreadConstraints": constraints});
    PodInfo::new(Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()))
}

fn constraint(key: &str, skew: i32, action: &str) -> Value {
    let selector = json!({"matchLabels": {"app": "web"}});
    json!({"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": action, "labelSelector": selector})
}

fn hard(key: &str, skew: i32) -> Value {
    constraint(key, skew, "DoNotSchedule")
}

fn frozen(mut cache: Cache) -> Snapshot {
    let mut snapshot = Snapshot::default();
    cache.update(&mut snapshot);
    snapshot
}

fn allowed(plugin: &PodTopologySpread, pod: &PodInfo, snapshot: &Snapshot) -> Vec<String> {
    let mut state = CycleState::default();
    plugin.pre_filter(&mut state, pod, snapshot).unwrap();
    let fits = snapshot.nodes().iter().filter(|node| plugin.filter(&state, pod, node).is_ok());
    let mut names: Vec<String> = fits.map(|node| node.name.to_string()).collect();
    names.sort_unstable();
    names
}

fn check(pods: &[(&str, u32)], constraints: Value, want: &[&str]) {
    let pod = pod("new", constraints.clone());
    assert_eq!(allowed(&PodTopologySpread::default(), &pod, &frozen(cluster(pods))), want, "{constraints}");
}

#[test]
fn no_domain_gets_too_many_more_than_the_emptiest() {
    let pods = [("a1", 1), ("a2", 1), ("b1", 1)];
    check(&pods, json!([hard(ZONE, 1)]), &["b1"]);
    check(&pods, json!([hard(ZONE, 2)]), &["a1", "a2", "b1"]);
    check(&[("a1", 1)], json!([hard(HOSTNAME, 1)]), &["a2", "b1", "none"]);
    check(&[("a1", 1)], json!([hard(ZONE, 1), hard(HOSTNAME, 1)]), &["b1"]);
    let few = json!([{"topologyKey": ZONE, "maxSkew": 1, "minDomains": 3, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]);
    check(&pods, few, &[]);
}

#[test]
fn what_was_prepared_follows_pods_that_come_and_go() {
    let snapshot = frozen(cluster(&[("a1", 1), ("a2", 1), ("b1", 1)]));
    let (plugin, new) = (PodTopologySpread::default(), pod("new", json!([hard(ZONE, 1)])));
    let mut state = CycleState::default();
    plugin.pre_filter(&mut state, &new, &snapshot).unwrap();
    let fits = |state: &CycleState, name: &str| plugin.filter(state, &new, snapshot.node(name).unwrap()).is_ok();
    assert!(!fits(&state, "a1"));
    let node = snapshot.node("a1").unwrap();
    plugin.remove_pod(&mut state, &new, &pod("a1-0", json!([])), node, &snapshot);
    assert!(fits(&state, "a1"));
    plugin.add_pod(&mut state, &new, &pod("a1-0", json!([])), node, &snapshot);
    assert!(!fits(&state, "a1"));
    // The domain that empties is the emptiest itself then: what is left of it is compared with the others only.
    let b = snapshot.node("b1").unwrap();
    plugin.remove_pod(&mut state, &new, &pod("b1-0", json!([])), b, &snapshot);
    assert!(fits(&state, "b1"));
}

/// Scores of a1, a2, b1 and the node without a zone.
fn scores(plugin: &PodTopologySpread, pod: &PodInfo, snapshot: &Snapshot) -> Option<[i64; 4]> {
    let mut state = CycleState::default();
    let nodes: [&NodeInfo; 4] = ["a1", "a2", "b1", "none"].map(|name| &**snapshot.node(name).unwrap());
    if !plugin.pre_score(&mut state, pod, &nodes, snapshot) {
        return None;
    }
    let mut scores = nodes.each_ref().map(|node| plugin.score(&state, pod, node));
    plugin.normalize(&state, &nodes, &mut scores);
    Some(scores)
}

#[test]
fn emptier_domains_score_higher_and_nodes_outside_of_all_lowest() {
    let snapshot = frozen(cluster(&[("a1", 3), ("b1", 1)]));
    let soft = |key: &str| pod("new", json!([constraint(key, 1, "ScheduleAnyway")]));
    let plugin = PodTopologySpread::default();
    assert_eq!(scores(&plugin, &soft(ZONE), &snapshot), Some([25, 25, 100, 0]));
    assert_eq!(scores(&plugin, &soft(HOSTNAME), &snapshot), Some([0, 100, 60, 100]));
    assert_eq!(scores(&plugin, &soft(ZONE), &frozen(cluster(&[]))), Some([100, 100, 100, 0]));
}

#[test]
fn pods_of_a_service_or_controller_spread_by_default() {
    let plugin = PodTopologySpread::default();
    let plain = pod("new", json!([]));
    let pods = [("a1", 4), ("b1", 1)];
    assert_eq!(scores(&plugin, &plain, &frozen(cluster(&pods))), None);
    let selector = || BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    let mut with_service = cluster(&pods);
    with_service.set_service(ObjectKey::new("d", "web"), Some(selector()));
    let by_service = scores(&plugin, &plain, &frozen(with_service)).unwrap();
    let mut with_owner = cluster(&pods);
    let key = ("apps/v1".to_owned(), "ReplicaSet".to_owned(), ObjectKey::new("d", "web"));
    let labels = serde_json::from_value(json!({"matchLabels": {"app": "web"}})).unwrap();
    with_owner.set_owner(key, Some(labels));
    assert_eq!(scores(&plugin, &plain, &frozen(with_owner)), Some(by_service));
    let [a1, a2, b1, none] = by_service;
    assert!(a1 < a2 && a2 < b1 && b1 < none, "{by_service:?}");
    let mut of_others = cluster(&pods);
    of_others.set_service(ObjectKey::new("other", "web"), Some(selector()));
    assert_eq!(scores(&plugin, &plain, &frozen(of_others)), None);
}

#[test]
fn a_cluster_may_have_its_own_defaults() {
    let hard = json!({"topologyKey": ZONE, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"});
    let plugin = PodTopologySpread::with_defaults(vec![serde_json::from_value(hard).unwrap()]);
    let mut cache = cluster(&[("a1", 1)]);
    cache.set_service(ObjectKey::new("d", "web"), Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])));
    let snapshot = frozen(cache);
    assert_eq!(allowed(&plugin, &pod("new", json!([])), &snapshot), ["b1"]);
    assert_eq!(scores(&plugin, &pod("new", json!([])), &snapshot), None);
}
