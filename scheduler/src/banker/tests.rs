//! Who is let in, on snapshots.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::refusal;
use crate::cache::Cache;
use crate::framework::{CLAIM, GROUP_CLAIM, PodInfo, Snapshot};

/// A cluster that lets pods in as the check does.
struct Bank {
    cache: Cache,
    snapshot: Snapshot,
}

impl Bank {
    fn of(nodes: &[(&str, u32)]) -> Self {
        let mut cache = Cache::default();
        for (name, cpu) in nodes {
            let status = json!({"allocatable": {"cpu": cpu.to_string(), "pods": "100"}});
            let node: Node = serde_json::from_value(json!({"metadata": {"name": name}, "status": status})).unwrap();
            cache.set_node(&Arc::new(node));
        }
        Self { cache, snapshot: Snapshot::default() }
    }

    fn refusal(&mut self, pod: &Arc<PodInfo>, node: &str) -> Option<String> {
        self.cache.update(&mut self.snapshot);
        refusal(&self.snapshot, pod, node)
    }

    /// Lets a pod in, if the check does.
    fn admit(&mut self, pod: &Arc<PodInfo>, node: &str) -> bool {
        let is_let_in = self.refusal(pod, node).is_none();
        if is_let_in {
            self.cache.assume(Arc::clone(pod), node);
        }
        is_let_in
    }
}

fn pod(name: &str, cpu: u32, annotations: Value, labels: Value) -> Arc<PodInfo> {
    let metadata = json!({"name": name, "namespace": "d", "uid": name, "annotations": annotations, "labels": labels});
    let resources = json!({"requests": {"cpu": cpu.to_string()}});
    let spec = json!({"containers": [{"name": "c", "resources": resources}]});
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())))
}

/// A pod that requests and may claim so many cores.
fn growing(name: &str, cpu: u32, most: u32) -> Arc<PodInfo> {
    pod(name, cpu, json!({CLAIM: json!({"cpu": most.to_string()}).to_string()}), json!({}))
}

/// A pod of a gang that may claim so many cores.
fn member(gang: &str, name: &str, cpu: u32, most: u32) -> Arc<PodInfo> {
    let labels = json!({"scheduling.x-k8s.io/pod-group": gang, "scheduling.x-k8s.io/min-available": "1"});
    pod(name, cpu, json!({GROUP_CLAIM: json!({"cpu": most.to_string()}).to_string()}), labels)
}

#[test]
fn those_who_could_wait_for_each_other_are_not_both_let_in() {
    let mut bank = Bank::of(&[("n", 4)]);
    assert!(bank.admit(&growing("a", 2, 4), "n"));
    let why = bank.refusal(&growing("b", 1, 3), "n").unwrap();
    let a = "pod d/a may still claim 2 cpu on node n where 1 can be free";
    let b = "pod d/b may still claim 2 cpu on node n where 1 can be free";
    assert_eq!(why, format!("2 could not finish for certain: {a}, {b}"));
    // With the rest that is left when it has finished, the first can.
    assert!(bank.admit(&growing("c", 1, 2), "n"));
}

#[test]
fn a_pod_that_never_gives_back_must_leave_enough_for_the_others() {
    let mut bank = Bank::of(&[("n", 4)]);
    assert!(bank.admit(&growing("a", 1, 3), "n"));
    assert!(bank.admit(&pod("for ever", 1, json!({}), json!({})), "n"));
    assert!(!bank.admit(&pod("too much", 1, json!({}), json!({})), "n"));
    bank.cache.remove_pod("a");
    assert!(bank.admit(&pod("too much", 1, json!({}), json!({})), "n"));
}

#[test]
fn a_pod_grows_on_its_own_node_only() {
    let mut bank = Bank::of(&[("n", 4), ("m", 4)]);
    assert!(bank.admit(&growing("a", 2, 4), "n"));
    assert!(!bank.admit(&growing("b", 2, 4), "n"));
    assert!(bank.admit(&growing("b", 2, 4), "m"));
}

#[test]
fn further_pods_of_a_gang_go_anywhere_and_count_for_its_claim() {
    let mut bank = Bank::of(&[("n", 4), ("m", 4)]);
    assert!(bank.admit(&member("g", "g1", 3, 7), "n"));
    assert!(!bank.admit(&member("h", "h1", 2, 7), "m"));
    assert!(bank.admit(&member("h", "h1", 1, 5), "m"));
    // The next pod of `g` is a part of what it claims, and must not be refused.
    assert!(bank.admit(&member("g", "g2", 3, 7), "m"));
    let why = bank.refusal(&member("g", "g3", 2, 7), "n").unwrap();
    assert_eq!(why, "gang d/g would hold 8 cpu, more than the 7 that it claims");
}

#[test]
fn a_state_that_is_unsafe_already_does_not_stop_those_who_can_finish() {
    let mut bank = Bank::of(&[("n", 4), ("m", 4)]);
    assert!(bank.admit(&growing("a", 2, 4), "n"));
    // Bound by somebody else.
    bank.cache.assume(growing("b", 2, 4), "n");
    assert!(bank.admit(&growing("c", 2, 4), "m"));
    assert!(!bank.admit(&growing("d", 0, 1), "n"));
}

/// Gangs come, ask for one pod after the other and end when they have all they claim. Every second state is checked against
/// a search for an order.
#[test]
fn gangs_that_are_let_in_always_finish() {
    let mut random = SmallRng::seed_from_u64(108);
    let (mut finished, mut refused) = (0, 0);
    for _ in 0..60 {
        let capacity = random.random_range(4..=10);
        let mut bank = Bank::of(&[("n", capacity)]);
        let claims: Vec<u32> = (0..5).map(|_| random.random_range(1..=capacity)).collect();
        let mut held = vec![0_u32; claims.len()];
        let mut left: Vec<usize> = (0..claims.len()).collect();
        for turn in 0.. {
            assert!(turn < 5_000, "nobody can go on: {claims:?} {held:?} of {capacity}");
            if left.is_empty() {
                break;
            }
            let at = left[random.random_range(0..left.len())];
            let step = random.random_range(1..=claims[at] - held[at]);
            let free = capacity - held.iter().sum::<u32>();
            if step > free {
                continue;
            }
            let mut after = held.clone();
            after[at] += step;
            let gang = format!("g{at}");
            let is_let_in = bank.admit(&member(&gang, &format!("{gang}-{}", held[at]), step, claims[at]), "n");
            assert_eq!(is_let_in, is_safe(free - step, &claims, &after), "{claims:?} {after:?} of {capacity}");
            if !is_let_in {
                refused += 1;
                continue;
            }
            held = after;
            if held[at] == claims[at] {
                (0..=claims[at]).for_each(|number| drop(bank.cache.remove_pod(&format!("{gang}-{number}"))));
                held[at] = 0;
                left.retain(|other| *other != at);
                finished += 1;
            }
        }
    }
    assert!(finished == 300 && refused > 100, "{finished} finished, {refused} refused");
}

/// The textbook's loop, over those who hold something.
fn is_safe(free: u32, claims: &[u32], held: &[u32]) -> bool {
    let mut free = free;
    let mut left: Vec<usize> = (0..claims.len()).filter(|at| held[*at] > 0).collect();
    while let Some(at) = left.iter().position(|at| claims[*at] - held[*at] <= free) {
        free += held[left.remove(at)];
    }
    left.is_empty()
}
