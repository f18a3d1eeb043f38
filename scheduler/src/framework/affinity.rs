//! What a pod's affinity to other pods asks for, read once for each pod.

use std::sync::LazyLock;

use facts::labels::matches;
use k8s_openapi::api::core::v1::{PodAffinityTerm, PodSpec, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::framework::{PodInfo, Snapshot};

static NONE: LazyLock<Affinity> = LazyLock::new(Affinity::default);

/// All terms of a pod's `podAffinity` and `podAntiAffinity`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Affinity {
    pub required: Vec<AffinityTerm>,
    pub required_anti: Vec<AffinityTerm>,
    /// With their weights.
    pub preferred: Vec<(AffinityTerm, i64)>,
    /// With their weights.
    pub preferred_anti: Vec<(AffinityTerm, i64)>,
}

/// Pods of some namespaces with some labels, and the kind of domain that is to be shared with them, or not.
#[derive(Clone, Debug, PartialEq)]
pub struct AffinityTerm {
    pub topology_key: String,
    selector: Option<LabelSelector>,
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
}

impl Affinity {
    /// That of a pod that asks for nothing.
    pub(super) fn none() -> &'static Self {
        &NONE
    }

    /// Reads the terms of a pod of `namespace`; `None` when there are none.
    pub(super) fn of(spec: &PodSpec, namespace: &str) -> Option<Box<Self>> {
        let affinity = spec.affinity.as_ref()?;
        let read = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<AffinityTerm> {
            terms.into_iter().flatten().map(|term| AffinityTerm::new(term, namespace)).collect()
        };
        let weighed = |terms: Option<&Vec<WeightedPodAffinityTerm>>| -> Vec<(AffinityTerm, i64)> {
            let each = terms.into_iter().flatten();
            each.map(|term| (AffinityTerm::new(&term.pod_affinity_term, namespace), i64::from(term.weight))).collect()
        };
        let (with, without) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        let all = Self {
            required: read(with.and_then(|with| with.required_during_scheduling_ignored_during_execution.as_ref())),
            required_anti: read(
                without.and_then(|without| without.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred: weighed(
                with.and_then(|with| with.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_anti: weighed(
                without.and_then(|without| without.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
        };
        (!all.is_empty()).then(|| Box::new(all))
    }

    fn is_empty(&self) -> bool {
        self.required.is_empty()
            && self.required_anti.is_empty()
            && self.preferred.is_empty()
            && self.preferred_anti.is_empty()
    }
}

impl AffinityTerm {
    /// `matchLabelKeys` and `mismatchLabelKeys` were merged into the selector by the API server (KEP-3633).
    fn new(term: &PodAffinityTerm, namespace: &str) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        Self {
            topology_key: term.topology_key.clone(),
            selector: term.label_selector.clone(),
            namespaces,
            namespace_selector: term.namespace_selector.clone(),
        }
    }

    /// Whether `pod` is one of those that the term speaks of.
    pub fn matches(&self, pod: &PodInfo, snapshot: &Snapshot) -> bool {
        let namespace = pod.namespace();
        let is_here = || {
            self.namespaces.iter().any(|name| name == namespace)
                || (self.namespace_selector.is_some()
                    && matches(self.namespace_selector.as_ref(), snapshot.namespace_labels(namespace)))
        };
        matches(self.selector.as_ref(), pod.labels()) && is_here()
    }
}
