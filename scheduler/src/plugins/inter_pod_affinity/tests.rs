//! Pods beside pods, by tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cache::Cache;
use crate::framework::{Filters, PreScore, Profile, Score};

/// A pod of a namespace with a label `app`.
fn pod(name: &str, namespace: &str, app: &str, affinity: Value) -> Arc<PodInfo> {
    let meta = json!({"name": name, "uid": name, "namespace": namespace, "labels": {"app": app}});
    let pod = json!({"metadata": meta, "spec": {"containers": [], "affinity": affinity}});
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())))
}

fn near(app: &str) -> Value {
    json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}})
}

fn required(kind: &str, terms: Value) -> Value {
    json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
}

fn preferred(kind: &str, weight: i32, term: Value) -> Value {
    json!({kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "podAffinityTerm": term}]}})
}

/// Nodes a1, a2 in zone a and b1 in zone b; `none` is in no zone. Namespace `blue` has the label team=blue.
fn cluster(pods: &[(&str, Arc<PodInfo>)]) -> Snapshot {
    let mut cache = Cache::default();
    for (name, zone) in [("a1", Some("a")), ("a2", Some("a")), ("b1", Some("b")), ("none", None)] {
        let labels = zone.map_or(json!({}), |zone| json!({"zone": zone}));
        let node = json!({"metadata": {"name": name, "labels": labels}, "status": {}});
        cache.set_node(&Arc::new(serde_json::from_value(node).unwrap()));
    }
    cache.set_namespace("d", Some(BTreeMap::new()));
    cache.set_namespace("blue", Some(BTreeMap::from([("team".to_owned(), "blue".to_owned())])));
    for (node, pod) in pods {
        cache.set_pod(Arc::clone(pod), node);
    }
    let mut snapshot = Snapshot::default();
    cache.update(&mut snapshot);
    snapshot
}

fn prepared(pod: &PodInfo, snapshot: &Snapshot) -> CycleState {
    let mut state = CycleState::default();
    InterPodAffinity::default().pre_filter(&mut state, pod, snapshot).unwrap();
    state
}

/// Where the pod may go, in alphabetical order.
fn allowed(pod: &PodInfo, snapshot: &Snapshot) -> Vec<String> {
    let state = prepared(pod, snapshot);
    let fits = snapshot.nodes().iter().filter(|node| InterPodAffinity::default().filter(&state, pod, node).is_ok());
    let mut names: Vec<String> = fits.map(|node| node.name.to_string()).collect();
    names.sort_unstable();
    names
}

fn check(pods: &[(&str, Arc<PodInfo>)], affinity: Value, want: &[&str]) {
    let pod = pod("new", "d", "new", affinity.clone());
    assert_eq!(allowed(&pod, &cluster(pods)), want, "{affinity}");
}

const ALL: [&str; 4] = ["a1", "a2", "b1", "none"];

#[test]
fn required_terms_of_the_pod_choose_domains() {
    let web = || [("a1", pod("web", "d", "web", json!({})))];
    check(&web(), json!({}), &ALL);
    check(&web(), required("podAffinity", json!([near("web")])), &["a1", "a2"]);
    check(&web(), required("podAffinity", json!([near("db")])), &[]);
    check(&web(), required("podAntiAffinity", json!([near("web")])), &["b1", "none"]);
}

#[test]
fn one_pod_must_match_all_affinity_terms() {
    let terms = json!([near("web"), {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}]);
    let apart = [("a1", pod("web", "d", "web", json!({}))), ("a2", pod("db", "d", "db", json!({})))];
    check(&apart, required("podAffinity", terms), &[]);
    let terms = json!([near("web"), {"topologyKey": "zone", "labelSelector": {}}]);
    check(&apart, required("podAffinity", terms), &["a1", "a2"]);
}

#[test]
fn the_first_of_a_group_may_start_in_any_domain() {
    check(&[], required("podAffinity", json!([near("new")])), &["a1", "a2", "b1"]);
    let second = [("b1", pod("first", "d", "new", json!({})))];
    check(&second, required("podAffinity", json!([near("new")])), &["b1"]);
    // A pod of the group that no domain holds does not make one.
    let elsewhere = [("none", pod("first", "d", "new", json!({})))];
    check(&elsewhere, required("podAffinity", json!([near("new")])), &["a1", "a2", "b1"]);
}

#[test]
fn namespaces_are_those_of_the_term() {
    let blue = || [("a1", pod("web", "blue", "web", json!({})))];
    let with = |field: &str, value: Value| {
        let mut term = near("web");
        term[field] = value;
        required("podAntiAffinity", json!([term]))
    };
    check(&blue(), required("podAntiAffinity", json!([near("web")])), &ALL);
    check(&blue(), with("namespaces", json!(["blue"])), &["b1", "none"]);
    check(&blue(), with("namespaceSelector", json!({})), &["b1", "none"]);
    check(&blue(), with("namespaceSelector", json!({"matchLabels": {"team": "blue"}})), &["b1", "none"]);
    check(&blue(), with("namespaceSelector", json!({"matchLabels": {"team": "red"}})), &ALL);
}

#[test]
fn running_pods_keep_others_away_with_selectors_of_namespaces_too() {
    let running = |selector: Value| {
        let mut term = near("new");
        term["namespaceSelector"] = selector;
        [("a1", pod("lonely", "blue", "x", required("podAntiAffinity", json!([term]))))]
    };
    check(&running(json!({})), json!({}), &["b1", "none"]);
    check(&running(json!({"matchLabels": {"team": "blue"}})), json!({}), &ALL);
    let own = [("a1", pod("lonely", "d", "x", required("podAntiAffinity", json!([near("new")]))))];
    check(&own, json!({}), &["b1", "none"]);
}

#[test]
fn what_was_prepared_follows_pods_that_come_and_go() {
    let web = pod("web", "d", "web", required("podAntiAffinity", json!([near("new")])));
    let snapshot = cluster(&[("a1", Arc::clone(&web))]);
    let new = pod("new", "d", "new", required("podAntiAffinity", json!([near("web")])));
    let profile = Profile {
        pre_filter: vec![Arc::new(InterPodAffinity::default())],
        filter: vec![Arc::new(InterPodAffinity::default())],
        ..Profile::default()
    };
    let mut state = prepared(&new, &snapshot);
    let filters = Filters::new(&profile, &state);
    let mut node = NodeInfo::clone(snapshot.node("a1").unwrap());
    assert!(filters.check(&state, &new, &node, &snapshot).is_err());
    filters.remove_pod(&mut state, &new, &web, &mut node, &snapshot);
    assert!(filters.check(&state, &new, &node, &snapshot).is_ok());
    filters.add_pod(&mut state, &new, &web, &mut node, &snapshot);
    assert!(filters.check(&state, &new, &node, &snapshot).is_err());
}

/// Scores of a1, b1 and the node without a zone, out of what runs and what the pod prefers.
fn scores(plugin: InterPodAffinity, pods: &[(&str, Arc<PodInfo>)], affinity: Value) -> Option<[i64; 3]> {
    let (snapshot, pod) = (cluster(pods), pod("new", "d", "new", affinity));
    let mut state = CycleState::default();
    let nodes = ["a1", "b1", "none"].map(|name| &**snapshot.node(name).unwrap());
    if !plugin.pre_score(&mut state, &pod, &nodes, &snapshot) {
        return None;
    }
    let mut scores = nodes.each_ref().map(|node| plugin.score(&state, &pod, node));
    plugin.normalize(&state, &nodes, &mut scores);
    Some(scores)
}

#[test]
fn preferences_of_both_sides_score() {
    let plugin = InterPodAffinity::default();
    let plain = || pod("web", "d", "web", json!({}));
    assert_eq!(scores(plugin, &[("a1", plain())], json!({})), None);
    let wants = preferred("podAffinity", 7, near("web"));
    assert_eq!(scores(plugin, &[("a2", plain())], wants), Some([100, 0, 0]));
    let shuns = preferred("podAntiAffinity", 7, near("web"));
    assert_eq!(scores(plugin, &[("a2", plain())], shuns), Some([0, 100, 100]));
    let wanted = || pod("fan", "d", "x", preferred("podAffinity", 9, near("new")));
    assert_eq!(scores(plugin, &[("b1", wanted())], json!({})), Some([0, 100, 0]));
    let shunned = pod("foe", "d", "x", preferred("podAntiAffinity", 9, near("new")));
    assert_eq!(scores(plugin, &[("b1", shunned)], json!({})), Some([100, 0, 100]));
    let quiet = InterPodAffinity { ignore_preferences_of_others: true, ..plugin };
    assert_eq!(scores(quiet, &[("b1", wanted())], json!({})), None);
}

#[test]
fn required_affinity_of_running_pods_scores_by_its_own_weight() {
    let needs = || pod("needs", "d", "x", required("podAffinity", json!([near("new")])));
    let wanted = || pod("fan", "d", "x", preferred("podAffinity", 2, near("new")));
    let pods = [("a1", needs()), ("b1", wanted())];
    assert_eq!(scores(InterPodAffinity::default(), &pods, json!({})), Some([50, 100, 0]));
    let heavy = InterPodAffinity { hard_weight: 4, ..InterPodAffinity::default() };
    assert_eq!(scores(heavy, &pods, json!({})), Some([100, 50, 0]));
    let none = InterPodAffinity { hard_weight: 0, ..InterPodAffinity::default() };
    assert_eq!(scores(none, &[("a1", needs())], json!({})), None);
}
