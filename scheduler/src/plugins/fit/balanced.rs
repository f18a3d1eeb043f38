//! Prefers nodes whose resources would be used evenly, so that none is left over without the others.

use super::{Resource, arguments};
use crate::framework::{CycleState, MAX_SCORE, NodeInfo, Plugin, PodInfo, PreScore, Score, Snapshot};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec = PluginSpec::new("NodeResourcesBalancedAllocation", |slot| {
    slot.configured(arguments::balanced)?.pre_score().score().end()
})
.weighing(1);

/// `NodeResourcesBalancedAllocation`.
pub(crate) struct BalancedAllocation {
    /// The resources to compare.
    pub(crate) resources: Vec<Resource>,
}

impl Default for BalancedAllocation {
    fn default() -> Self {
        Self { resources: Resource::usual() }
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
}

impl PreScore for BalancedAllocation {
    fn pre_score(&self, _state: &mut CycleState, pod: &PodInfo, _nodes: &[&NodeInfo], _snapshot: &Snapshot) -> bool {
        // A pod that asks for nothing leaves every node as balanced as it is.
        self.resources.iter().any(|resource| resource.of(&pod.requests) > 0)
    }
}

impl Score for BalancedAllocation {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a score of 0 to 100 from fractions"
    )]
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let part = |resource: &Resource| {
            let (used, total) = resource.use_of(&pod.requests, &node.requested, node)?;
            Some((used as f64 / total as f64).min(1.0))
        };
        let deviation = match self.resources.as_slice() {
            [a, b] => part(a).zip(part(b)).map_or(0.0, |(a, b)| deviation(&[a, b])),
            many => deviation(&many.iter().filter_map(part).collect::<Vec<f64>>()),
        };
        ((1.0 - deviation) * MAX_SCORE as f64) as i64
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// The standard deviation. That of two numbers is half their distance.
#[expect(clippy::cast_precision_loss, reason = "a few resources")]
fn deviation(parts: &[f64]) -> f64 {
    match parts {
        [] | [_] => 0.0,
        [a, b] => (a - b).abs() / 2.0,
        many => {
            let count = many.len() as f64;
            let mean = many.iter().sum::<f64>() / count;
            (many.iter().map(|part| (part - mean).powi(2)).sum::<f64>() / count).sqrt()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::{Value, json};

    fn score(resources: &[&str], requests: Value) -> i64 {
        let container = json!({"name": "c", "resources": {"requests": requests}});
        let pod = json!({"metadata": {"name": "p", "uid": "p"}, "spec": {"containers": [container]}});
        let pod = PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()));
        let has = json!({"cpu": "1", "memory": "1000Mi", "x.io/gpu": "4"});
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": has}});
        let node = NodeInfo::new(Arc::new(serde_json::from_value(node).unwrap()));
        let plugin = BalancedAllocation { resources: resources.iter().map(|name| Resource::named(name)).collect() };
        plugin.score(&CycleState::default(), &pod, &node)
    }

    #[test]
    fn an_even_use_scores_high() {
        let usual = ["cpu", "memory"];
        assert_eq!(score(&usual, json!({"cpu": "500m", "memory": "500Mi"})), 100);
        assert_eq!(score(&usual, json!({"cpu": "500m", "memory": "100Mi"})), 80);
        let all = ["cpu", "memory", "x.io/gpu"];
        assert_eq!(score(&all, json!({"cpu": "500m", "memory": "500Mi", "x.io/gpu": "4"})), 76);
        assert_eq!(score(&all, json!({"cpu": "500m", "memory": "500Mi"})), 100);
    }
}
