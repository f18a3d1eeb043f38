//! `ScheduleAnyway`: emptier domains are better.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::constraint::{Constraint, has_all_labels};
use super::{HOSTNAME, PodTopologySpread};
use crate::framework::{CycleState, MAX_SCORE, NodeInfo, PodInfo, PreScore, Score, Snapshot};

/// What PreScore finds out for Score.
struct Soft {
    constraints: Vec<Weighed>,
    /// Nodes that lack a label are the worst.
    ignored: HashSet<Arc<str>>,
}

/// A constraint and how many pods are in each domain; where a domain is one node, they are counted when it is scored.
struct Weighed {
    constraint: Constraint,
    counts: HashMap<String, i64>,
    /// More domains, more weight: with many domains each has few pods.
    weight: f64,
}

impl PreScore for PodTopologySpread {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: &[Arc<NodeInfo>], snapshot: &Snapshot) -> bool {
        let constraints = self.constraints(pod, snapshot, "ScheduleAnyway");
        if constraints.is_empty() {
            return false;
        }
        let asks = self.asks_for_all_labels(pod);
        let counts = |node: &&Arc<NodeInfo>| !asks || has_all_labels(&constraints, node);
        let ignored: HashSet<Arc<str>> =
            nodes.iter().filter(|node| !counts(node)).map(|node| Arc::clone(&node.name)).collect();
        let fitting: Vec<&Arc<NodeInfo>> = nodes.iter().filter(counts).collect();
        let all: Vec<&Arc<NodeInfo>> = snapshot.nodes().iter().filter(counts).collect();
        let weighed = constraints.iter().map(|constraint| weigh(constraint, pod, &fitting, &all)).collect();
        state.put(Soft { constraints: weighed, ignored });
        true
    }
}

/// Counts the pods on all nodes, in the domains that the nodes which fit are in.
#[expect(clippy::cast_precision_loss, reason = "a number of domains")]
fn weigh(constraint: &Constraint, pod: &PodInfo, fitting: &[&Arc<NodeInfo>], all: &[&Arc<NodeInfo>]) -> Weighed {
    let mut counts = HashMap::new();
    let mut size = fitting.len();
    if constraint.key != HOSTNAME {
        // As upstream, nodes without the label weigh as one domain more.
        let values = fitting.iter().map(|node| node.labels().get(&constraint.key).cloned().unwrap_or_default());
        counts = values.map(|value| (value, 0)).collect();
        size = counts.len();
        for node in all {
            let Some(count) = node.labels().get(&constraint.key).and_then(|value| counts.get_mut(value)) else {
                continue;
            };
            if constraint.counts(pod, node) {
                *count += constraint.count(pod, node);
            }
        }
    }
    Weighed { constraint: constraint.clone(), counts, weight: ((size + 2) as f64).ln() }
}

impl Score for PodTopologySpread {
    #[expect(clippy::cast_possible_truncation, reason = "a sum of a few numbers of pods")]
    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(soft) = state.get::<Soft>().filter(|soft| !soft.ignored.contains(&node.name)) else { return 0 };
        let scores = soft.constraints.iter().map(|weighed| weighed.score(pod, node));
        scores.sum::<f64>().round() as i64
    }

    /// The fewer pods the higher the score.
    fn normalize(&self, state: &CycleState, nodes: &[Arc<NodeInfo>], scores: &mut [i64]) {
        let Some(soft) = state.get::<Soft>() else { return };
        let counts = |node: &Arc<NodeInfo>| !soft.ignored.contains(&node.name);
        let known =
            || nodes.iter().zip(scores.iter().copied()).filter(|(node, _)| counts(node)).map(|(_, score)| score);
        let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
        for (node, score) in nodes.iter().zip(scores) {
            *score = match most {
                _ if !counts(node) => 0,
                0 => MAX_SCORE,
                most => MAX_SCORE * (most + least - *score) / most,
            };
        }
    }
}

impl Weighed {
    /// `maxSkew - 1` waters down small differences.
    #[expect(clippy::cast_precision_loss, reason = "a number of pods")]
    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> f64 {
        let Some(value) = node.labels().get(&self.constraint.key) else { return 0.0 };
        let count = match self.constraint.key.as_str() {
            HOSTNAME => self.constraint.count(pod, node),
            _ => self.counts.get(value).copied().unwrap_or(0),
        };
        count as f64 * self.weight + (self.constraint.max_skew - 1) as f64
    }
}
