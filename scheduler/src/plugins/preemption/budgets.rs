//! PodDisruptionBudgets: evictions by the scheduler avoid to break them, but are not stopped by them.

use std::collections::HashMap;
use std::sync::Arc;

use facts::labels::{is_empty, matches};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::framework::{PodInfo, Snapshot};

/// All budgets, by namespace.
pub(super) struct Budgets<'a>(HashMap<&'a str, Vec<&'a PodDisruptionBudget>>);

impl<'a> Budgets<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        let mut all: HashMap<&str, Vec<&PodDisruptionBudget>> = HashMap::new();
        for budget in snapshot.budgets() {
            all.entry(budget.metadata.namespace.as_deref().unwrap_or_default()).or_default().push(budget);
        }
        Self(all)
    }

    /// Parts pods into those whose eviction would break a budget and the others, in the order in which they are.
    pub(super) fn part(&self, pods: Vec<Arc<PodInfo>>) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
        let mut left: HashMap<(&str, &str), i32> = HashMap::new();
        pods.into_iter().partition(|pod| self.breaks(pod, &mut left))
    }

    /// Takes the pod's eviction from its budgets; says whether one of them had none left.
    fn breaks(&self, pod: &PodInfo, left: &mut HashMap<(&'a str, &'a str), i32>) -> bool {
        let mut broken = false;
        for budget in self.0.get(pod.namespace()).into_iter().flatten().filter(|budget| covers(budget, pod)) {
            let meta = &budget.metadata;
            let key = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
            let allowed = budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0);
            let left = left.entry(key).or_insert(allowed);
            *left = left.saturating_sub(1);
            broken |= *left < 0;
        }
        broken
    }
}

/// Whether evicting the pod counts for the budget: not if it was counted already.
fn covers(budget: &PodDisruptionBudget, pod: &PodInfo) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|one| !is_empty(one));
    let counted = || {
        let disrupted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
        disrupted.is_some_and(|pods| pods.contains_key(&pod.key.name))
    };
    !pod.labels().is_empty() && matches(selector, pod.labels()) && !counted()
}
