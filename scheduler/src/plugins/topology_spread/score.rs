//! `ScheduleAnyway`: emptier domains are better.

use std::collections::HashSet;
use std::sync::Arc;

use super::constraint::{Constraint, has_all_labels};
use super::kept::{Domains, Groups, Purpose, counted};
use super::{HOSTNAME, PodTopologySpread};
use crate::framework::{CycleState, MAX_SCORE, NodeInfo, PodInfo, PreScore, Score, Snapshot};

/// What PreScore finds out for Score.
struct Soft {
    constraints: Arc<[Constraint]>,
    counts: Arc<Groups>,
    /// More domains, more weight: with many domains each has few pods.
    weights: Vec<f64>,
    /// Nodes that lack a label are the worst.
    ignored: HashSet<Arc<str>>,
}

impl PreScore for PodTopologySpread {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: &[&NodeInfo], snapshot: &Snapshot) -> bool {
        let constraints: Arc<[Constraint]> = self.constraints(pod, snapshot, "ScheduleAnyway").into();
        if constraints.is_empty() {
            return false;
        }
        let asks_for_all_labels = self.asks_for_all_labels(pod);
        let is_ignored = |node: &&NodeInfo| asks_for_all_labels && !has_all_labels(&constraints, node);
        let (ignored, fitting): (Vec<&NodeInfo>, Vec<&NodeInfo>) = nodes.iter().copied().partition(is_ignored);
        let weights = constraints.iter().map(|constraint| weight(constraint, &fitting)).collect();
        let counts = counted(&constraints, pod, snapshot, Purpose::Score { asks_for_all_labels });
        let ignored = ignored.into_iter().map(|node| Arc::clone(&node.name)).collect();
        state.put(Soft { constraints, counts, weights, ignored });
        true
    }
}

/// By the number of domains that the nodes which fit are in.
#[expect(clippy::cast_precision_loss, reason = "a number of domains")]
fn weight(constraint: &Constraint, fitting: &[&NodeInfo]) -> f64 {
    let domains = match constraint.key.as_str() {
        HOSTNAME => fitting.len(),
        // As upstream, nodes without the label weigh as one domain more.
        key => {
            fitting.iter().map(|node| node.labels().get(key).map_or("", String::as_str)).collect::<HashSet<_>>().len()
        }
    };
    ((domains + 2) as f64).ln()
}

impl Score for PodTopologySpread {
    #[expect(clippy::cast_possible_truncation, reason = "a sum of a few numbers of pods")]
    fn score(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(soft) = state.get::<Soft>().filter(|soft| !soft.ignored.contains(&node.name)) else { return 0 };
        let weighed = soft.constraints.iter().zip(&soft.weights).enumerate();
        let scores =
            weighed.map(|(number, (constraint, weight))| one(constraint, soft.counts.of(number), *weight, node));
        scores.sum::<f64>().round() as i64
    }

    /// The fewer pods the higher the score.
    fn normalize(&self, state: &CycleState, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let Some(soft) = state.get::<Soft>() else { return };
        let counts = |node: &NodeInfo| !soft.ignored.contains(&node.name);
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

/// `maxSkew - 1` waters down small differences.
#[expect(clippy::cast_precision_loss, reason = "a number of pods")]
fn one(constraint: &Constraint, domains: &Domains, weight: f64, node: &NodeInfo) -> f64 {
    let Some(value) = node.labels().get(&constraint.key) else { return 0.0 };
    let domain = if constraint.key == HOSTNAME { &*node.name } else { value.as_str() };
    domains.pods(domain).unwrap_or(0) as f64 * weight + (constraint.max_skew - 1) as f64
}
