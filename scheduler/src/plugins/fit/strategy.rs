//! How nodes with room are compared: by what is left, by what is used, or by a curve over what is used.

use crate::framework::{MAX_SCORE, NodeInfo, PodInfo, Resources};

/// A resource by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Cpu,
    Memory,
    EphemeralStorage,
    /// An extended resource or huge pages.
    Other(String),
}

impl Resource {
    /// The resource of this name.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "cpu" => Self::Cpu,
            "memory" => Self::Memory,
            "ephemeral-storage" => Self::EphemeralStorage,
            other => Self::Other(other.to_owned()),
        }
    }

    /// CPU and memory.
    pub(crate) fn usual() -> Vec<Self> {
        vec![Self::Cpu, Self::Memory]
    }

    pub(super) fn of(&self, amounts: &Resources) -> i64 {
        match self {
            Self::Cpu => amounts.milli_cpu,
            Self::Memory => amounts.memory,
            Self::EphemeralStorage => amounts.ephemeral_storage,
            Self::Other(name) => amounts.others.get(name).copied().unwrap_or(0),
        }
    }

    /// What would be used of how much on the node. `None` when the node has none of it, and for an extended resource that
    /// the pod does not ask for.
    pub(super) fn use_of(&self, wanted: &Resources, used: &Resources, node: &NodeInfo) -> Option<(i64, i64)> {
        let (wanted, total) = (self.of(wanted), self.of(&node.allocatable));
        let matters = total > 0 && (wanted > 0 || !matches!(self, Self::Other(_)));
        matters.then(|| (self.of(used).saturating_add(wanted), total))
    }
}

/// A point of a curve: how good is a node that is used to `utilization` percent? `score` is 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) utilization: i64,
    pub(crate) score: i64,
}

/// Whether emptier or fuller nodes are better.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum FitStrategy {
    #[default]
    LeastAllocated,
    MostAllocated,
    /// A curve through these points, of which there is one at least, in the order of their utilization.
    RequestedToCapacityRatio(Vec<Point>),
}

impl FitStrategy {
    /// The score of a node for these resources and weights.
    pub(super) fn score(&self, resources: &[(Resource, i64)], pod: &PodInfo, node: &NodeInfo) -> i64 {
        let (mut sum, mut weights) = (0_i64, 0_i64);
        for (resource, weight) in resources {
            let Some((used, total)) = resource.use_of(&pod.assumed, &node.assumed, node) else { continue };
            let score = self.of_one(used, total);
            // A curve leaves out what it finds worthless.
            if score > 0 || !matches!(self, Self::RequestedToCapacityRatio(_)) {
                sum += score * weight;
                weights += weight;
            }
        }
        match self {
            _ if weights == 0 => 0,
            Self::RequestedToCapacityRatio(_) => (2 * sum + weights) / (2 * weights),
            _ => sum / weights,
        }
    }

    fn of_one(&self, used: i64, total: i64) -> i64 {
        // Pods that ask for nothing are counted with something, which may be more than there is.
        let part = percent(used.min(total), total);
        match self {
            Self::LeastAllocated => percent((total - used).max(0), total),
            Self::MostAllocated => part,
            Self::RequestedToCapacityRatio(points) => on_curve(points, part),
        }
    }
}

fn percent(amount: i64, total: i64) -> i64 {
    let total = total.max(1);
    match amount.checked_mul(MAX_SCORE) {
        Some(hundredfold) => hundredfold / total,
        None => amount / (total / MAX_SCORE).max(1),
    }
}

/// Between two points the curve is straight, before the first and after the last it is flat.
fn on_curve(points: &[Point], at: i64) -> i64 {
    let next = points.iter().position(|point| at <= point.utilization);
    match next {
        Some(0) => points[0].score,
        Some(next) => {
            let (a, b) = (points[next - 1], points[next]);
            a.score + (b.score - a.score) * (at - a.utilization) / (b.utilization - a.utilization).max(1)
        }
        None => points.last().map_or(0, |point| point.score),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::{Value, json};

    fn pod(requests: Value) -> PodInfo {
        let container = json!({"name": "c", "resources": {"requests": requests}});
        let pod = json!({"metadata": {"name": "p", "uid": "p"}, "spec": {"containers": [container]}});
        PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()))
    }

    fn node() -> NodeInfo {
        let has = json!({"cpu": "1", "memory": "1000Mi", "x.io/gpu": "4", "pods": "9"});
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": has}});
        NodeInfo::new(Arc::new(serde_json::from_value(node).unwrap()))
    }

    fn curve(points: &[(i64, i64)]) -> FitStrategy {
        let point = |(utilization, score): &(i64, i64)| Point { utilization: *utilization, score: *score };
        FitStrategy::RequestedToCapacityRatio(points.iter().map(point).collect())
    }

    fn check(strategy: &FitStrategy, resources: &[(&str, i64)], requests: Value, want: i64) {
        let resources: Vec<_> = resources.iter().map(|(name, weight)| (Resource::named(name), *weight)).collect();
        assert_eq!(strategy.score(&resources, &pod(requests.clone()), &node()), want, "{strategy:?} {requests}");
    }

    #[test]
    fn strategies_score_by_what_would_be_used() {
        let usual = [("cpu", 1), ("memory", 1)];
        let asks = || json!({"cpu": "200m", "memory": "400Mi"});
        check(&FitStrategy::LeastAllocated, &usual, asks(), 70);
        check(&FitStrategy::MostAllocated, &usual, asks(), 30);
        check(&FitStrategy::MostAllocated, &[("cpu", 3), ("memory", 1)], asks(), 25);
        check(&FitStrategy::LeastAllocated, &usual, json!({"cpu": "2", "memory": "400Mi"}), 30);
        check(&FitStrategy::MostAllocated, &usual, json!({"cpu": "2", "memory": "400Mi"}), 70);
        // What asks for nothing is taken to use 0.1 core and 200 MB.
        check(&FitStrategy::MostAllocated, &usual, json!({}), 15);
    }

    #[test]
    fn extended_resources_count_for_pods_that_ask_for_them() {
        let resources = [("cpu", 1), ("x.io/gpu", 3)];
        check(&FitStrategy::MostAllocated, &resources, json!({"cpu": "200m"}), 20);
        check(&FitStrategy::MostAllocated, &resources, json!({"cpu": "200m", "x.io/gpu": "2"}), 42);
        check(&FitStrategy::MostAllocated, &[("x.io/none", 1)], json!({"x.io/none": "1"}), 0);
    }

    #[test]
    fn a_curve_is_straight_between_its_points() {
        let up = curve(&[(20, 0), (40, 50), (100, 100)]);
        let cpu = [("cpu", 1)];
        for (requests, want) in [("100m", 0), ("200m", 0), ("300m", 25), ("700m", 75), ("1", 100), ("3", 100)] {
            check(&up, &cpu, json!({"cpu": requests}), want);
        }
        // (25 * 2 + 100) / 3, rounded; what scores nothing does not pull the others down.
        check(&up, &[("cpu", 2), ("memory", 1)], json!({"cpu": "300m", "memory": "1000Mi"}), 50);
        check(&up, &[("cpu", 1), ("memory", 1)], json!({"cpu": "100m", "memory": "1000Mi"}), 100);
        check(&up, &[("cpu", 1), ("memory", 2)], json!({"cpu": "304m", "memory": "400Mi"}), 42);
    }
}
