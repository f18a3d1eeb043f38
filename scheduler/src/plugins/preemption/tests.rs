//! Whom an important pod drives away, by tables.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::DefaultPreemption;
use crate::cache::Cache;
use crate::cycle::{Decision, Scheduler};
use crate::framework::{PodInfo, PostFiltered, Profile};
use crate::plugins::fit::Fit;
use crate::plugins::inter_pod_affinity::InterPodAffinity;
use crate::plugins::node_unschedulable::NodeUnschedulable;

/// A cluster of nodes with 4 cores.
struct Cluster {
    cache: Arc<Mutex<Cache>>,
    scheduler: Mutex<Scheduler>,
    preemption: DefaultPreemption,
}

impl Cluster {
    fn new(nodes: &[&str]) -> Self {
        let cache = Arc::<Mutex<Cache>>::default();
        let scheduler = Mutex::new(Scheduler::new(Arc::clone(&cache), 7));
        let cluster = Self { cache, scheduler, preemption: DefaultPreemption::default() };
        nodes.iter().for_each(|name| cluster.node(name, json!({})));
        cluster
    }

    fn node(&self, name: &str, spec: Value) {
        let status = json!({"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "10"}});
        let node = json!({"metadata": {"name": name, "labels": {"zone": "z"}}, "spec": spec, "status": status});
        self.cache.lock().unwrap().set_node(&Arc::new(serde_json::from_value(node).unwrap()));
    }

    fn run(&self, node: &str, pod: PodInfo) {
        self.cache.lock().unwrap().set_pod(Arc::new(pod), node);
    }

    fn budget(&self, name: &str, app: &str, allowed: i32) {
        let spec = json!({"selector": {"matchLabels": {"app": app}}});
        let status =
            json!({"disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
        let budget = json!({"metadata": {"name": name, "namespace": "d"}, "spec": spec, "status": status});
        let budget: k8s_openapi::api::policy::v1::PodDisruptionBudget = serde_json::from_value(budget).unwrap();
        self.cache.lock().unwrap().set_budget(client::ObjectKey::of(&budget), Some(Arc::new(budget)));
    }

    fn decide(&self, pod: &PodInfo) -> Decision {
        let affinity = Arc::new(InterPodAffinity::default());
        let profile = Profile {
            pre_filter: vec![affinity.clone()],
            filter: vec![Arc::new(NodeUnschedulable), Arc::new(Fit::default()), affinity],
            post_filter: vec![Arc::new(self.preemption)],
            ..Profile::default()
        };
        self.scheduler.lock().unwrap().decide(&profile, &Arc::new(pod.clone()))
    }

    fn after(&self, pod: &PodInfo) -> PostFiltered {
        match self.decide(pod) {
            Decision::Rejected(diagnosis) => diagnosis.after.unwrap(),
            Decision::Chosen(node) => panic!("{} fits on {node}", pod.uid),
        }
    }

    /// The nominated node and the victims.
    fn preempts(&self, pod: &PodInfo) -> (String, Vec<String>) {
        match self.after(pod) {
            PostFiltered::Preempt(plan) => (plan.node, plan.victims.iter().map(|pod| pod.uid.clone()).collect()),
            PostFiltered::Wait(why) | PostFiltered::Hopeless(why) => panic!("{}: {why}", pod.uid),
        }
    }

    fn check(&self, pod: &PodInfo, node: &str, victims: &[&str]) {
        assert_eq!(self.preempts(pod), (node.to_owned(), victims.iter().map(ToString::to_string).collect()));
    }
}

/// A pod that started at this second of the day, with changes of its spec.
fn special(name: &str, priority: i32, milli_cpu: u32, started: u32, spec: Value) -> PodInfo {
    let requests = json!({"requests": {"cpu": format!("{milli_cpu}m")}});
    let app = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let mut pod = json!({
        "metadata": {"name": name, "uid": name, "namespace": "d", "labels": {"app": app}},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": requests}]},
        "status": {"startTime": format!("2026-01-01T00:00:{started:02}Z")},
    });
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()))
}

fn pod(name: &str, priority: i32, milli_cpu: u32) -> PodInfo {
    special(name, priority, milli_cpu, 0, json!({}))
}

#[test]
fn as_few_pods_go_as_possible_and_the_least_important() {
    let cluster = Cluster::new(&["n"]);
    for (name, priority, milli_cpu) in [("low", 1, 1000), ("lower", 0, 1000), ("small", 2, 500), ("equal", 9, 1000)] {
        cluster.run("n", pod(name, priority, milli_cpu));
    }
    cluster.check(&pod("new", 9, 1000), "n", &["lower"]);
    cluster.check(&pod("new", 9, 2000), "n", &["low", "lower"]);
    cluster.check(&pod("new", 9, 3000), "n", &["small", "low", "lower"]);
}

#[test]
fn of_equals_the_one_that_started_last_goes() {
    let cluster = Cluster::new(&["n"]);
    for (name, started) in [("b", 20), ("c", 30), ("a", 10), ("d", 25)] {
        cluster.run("n", special(name, 1, 1000, started, json!({})));
    }
    cluster.check(&pod("new", 9, 1000), "n", &["c"]);
}

#[test]
fn budgets_are_kept_where_that_is_possible() {
    let cluster = Cluster::new(&["n"]);
    // The guarded ones are less important, and stay all the same.
    for (name, priority) in [("guarded1", 1), ("guarded2", 1), ("free1", 2), ("free2", 2)] {
        cluster.run("n", pod(name, priority, 1000));
    }
    cluster.budget("b", "guarded", 0);
    let (_, victims) = cluster.preempts(&pod("new", 9, 2000));
    assert!(victims.iter().all(|victim| victim.starts_with("free")), "{victims:?}");
    // A budget is no reason to leave an important pod without a node.
    assert_eq!(cluster.preempts(&pod("new", 9, 4000)).1.len(), 4);
    cluster.budget("b", "guarded", 1);
    let (_, victims) = cluster.preempts(&pod("new", 9, 1000));
    assert!(victims[0].starts_with("guarded"), "{victims:?}");
}

#[test]
fn the_node_that_is_harmed_least_is_chosen() {
    // Fewer broken budgets.
    let cluster = Cluster::new(&["a", "b"]);
    cluster.run("a", pod("guarded", 1, 4000));
    cluster.run("b", pod("free", 5, 4000));
    cluster.budget("b", "guarded", 0);
    cluster.check(&pod("new", 9, 4000), "b", &["free"]);
    // A less important victim.
    let cluster = Cluster::new(&["a", "b"]);
    cluster.run("a", pod("low", 2, 4000));
    cluster.run("b", pod("lower1", 1, 2000));
    cluster.run("b", pod("lower2", 1, 2000));
    cluster.check(&pod("new", 9, 4000), "b", &["lower1", "lower2"]);
    // A smaller sum of priorities, even if they are negative: fewer pods.
    let cluster = Cluster::new(&["a", "b"]);
    cluster.run("a", pod("x1", -5, 2000));
    cluster.run("a", pod("x2", -5, 2000));
    cluster.run("b", pod("y", -5, 4000));
    cluster.check(&pod("new", 9, 4000), "b", &["y"]);
    // The one that has run for the shortest time.
    let cluster = Cluster::new(&["a", "b", "c"]);
    for (node, started) in [("a", 10), ("b", 30), ("c", 20)] {
        cluster.run(node, special(&format!("on-{node}"), 1, 4000, started, json!({})));
    }
    cluster.check(&pod("new", 9, 4000), "b", &["on-b"]);
}

#[test]
fn nodes_that_eviction_does_not_help_are_no_candidates() {
    let cluster = Cluster::new(&["full", "equal"]);
    cluster.node("cordoned", json!({"unschedulable": true}));
    for (node, name, priority) in [("full", "big", 9), ("equal", "same", 5), ("cordoned", "low", 0)] {
        cluster.run(node, pod(name, priority, 4000));
    }
    let Decision::Rejected(diagnosis) = cluster.decide(&pod("new", 5, 1000)) else { panic!("it fits") };
    assert_eq!(
        diagnosis.to_string(),
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/3 nodes are \
         available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."
    );
    assert!(matches!(cluster.after(&pod("new", 5, 5000)), PostFiltered::Hopeless(_)));
}

#[test]
fn a_pod_with_the_policy_never_waits() {
    let cluster = Cluster::new(&["n"]);
    cluster.run("n", pod("low", 0, 4000));
    let polite = special("new", 9, 1000, 0, json!({"preemptionPolicy": "Never"}));
    let PostFiltered::Wait(why) = cluster.after(&polite) else { panic!("it does something") };
    assert_eq!(why, "preemption: not eligible due to preemptionPolicy=Never.");
}

#[test]
fn a_pod_whose_victims_are_still_leaving_evicts_no_more() {
    let cluster = Cluster::new(&["n", "other"]);
    let mut leaving = (*pod("low", 0, 4000).pod).clone();
    leaving.metadata.deletion_timestamp = Some(client::clock::time());
    let mark = json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
    leaving.status.as_mut().unwrap().conditions = serde_json::from_value(mark).unwrap();
    cluster.run("n", PodInfo::new(Arc::new(leaving)));
    cluster.run("other", pod("busy", 0, 4000));
    let new = pod("new", 9, 4000);
    cluster.cache.lock().unwrap().nominate(Arc::new(pod("new", 9, 4000)), "n");
    let PostFiltered::Wait(why) = cluster.after(&new) else { panic!("it does something") };
    assert_eq!(why, "preemption: not eligible due to a terminating pod on the nominated node.");
    // When its node can never be right any more, it looks for another.
    cluster.node("n", json!({"unschedulable": true}));
    cluster.check(&new, "other", &["busy"]);
}

#[test]
fn room_that_was_made_for_a_pod_is_not_given_to_others() {
    let cluster = Cluster::new(&["n"]);
    cluster.cache.lock().unwrap().nominate(Arc::new(pod("first", 5, 3000)), "n");
    assert!(matches!(cluster.decide(&pod("new", 5, 2000)), Decision::Rejected(_)));
    assert!(matches!(cluster.decide(&pod("new", 5, 1000)), Decision::Chosen(_)));
    assert!(matches!(cluster.decide(&pod("new", 6, 2000)), Decision::Chosen(_)));
    assert!(matches!(cluster.decide(&pod("first", 5, 3000)), Decision::Chosen(_)));
}

#[test]
fn a_nominated_node_is_tried_first() {
    let names: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
    let cluster = Cluster::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.cache.lock().unwrap().nominate(Arc::new(pod("new", 5, 1000)), "n33");
    assert!(matches!(cluster.decide(&pod("new", 5, 1000)), Decision::Chosen(node) if node == "n33"));
}

#[test]
fn a_victim_may_be_in_the_way_for_other_reasons_than_room() {
    let cluster = Cluster::new(&["n"]);
    let term = json!([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "foe"}}}]);
    let shy = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}});
    cluster.run("n", pod("friend", 0, 1000));
    cluster.run("n", pod("foe", 1, 1000));
    cluster.check(&special("new", 9, 1000, 0, shy), "n", &["foe"]);
}

#[test]
fn the_search_ends_when_there_are_enough_candidates() {
    let names: Vec<String> = (0..30).map(|number| format!("n{number}")).collect();
    let mut cluster = Cluster::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.preemption = DefaultPreemption { min_candidate_percentage: 10, min_candidates: 2 };
    for (number, name) in (0..).zip(&names) {
        cluster.run(name, special(&format!("on-{name}"), 1, 4000, 59 - number, json!({})));
    }
    let chosen =
        |cluster: &Cluster| -> BTreeSet<String> { (0..10).map(|_| cluster.preempts(&pod("new", 9, 4000)).0).collect() };
    assert!(chosen(&cluster).len() > 1, "three candidates of 30 are enough, and the search begins anywhere");
    cluster.preemption = DefaultPreemption { min_candidate_percentage: 100, min_candidates: 0 };
    assert_eq!(chosen(&cluster), BTreeSet::from(["n0".to_owned()]));
}
