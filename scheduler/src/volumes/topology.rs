//! The zones and regions that volumes are in, by their labels.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolume;

const BETA_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const BETA_REGION: &str = "failure-domain.beta.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// Stands between the zones of a volume that is in several.
const BETWEEN: &str = "__";

type Labels = BTreeMap<String, String>;

/// A label that a node must have, with one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    key: &'static str,
    values: Vec<String>,
}

impl Topology {
    /// What the labels of a volume ask of a node. A label whose zones cannot be read asks nothing.
    pub(super) fn of(volume: &PersistentVolume) -> Vec<Self> {
        let labels = volume.metadata.labels.as_ref();
        let asked = [BETA_ZONE, BETA_REGION, ZONE, REGION].into_iter().filter_map(|key| {
            let values: Vec<String> = labels?.get(key)?.split(BETWEEN).map(|zone| zone.trim().to_owned()).collect();
            values.iter().all(|zone| !zone.is_empty()).then_some(Self { key, values })
        });
        asked.collect()
    }

    /// Whether a node has the label, under its present name if not under its older one.
    pub(crate) fn holds(&self, labels: &Labels) -> bool {
        let newer = match self.key {
            BETA_ZONE => ZONE,
            BETA_REGION => REGION,
            key => key,
        };
        labels.get(self.key).or_else(|| labels.get(newer)).is_some_and(|value| self.values.contains(value))
    }

    /// Whether a node says where it is; one that does not is taken to be where all volumes are.
    pub(crate) fn is_known(labels: &Labels) -> bool {
        [BETA_ZONE, BETA_REGION, ZONE, REGION].iter().any(|key| labels.contains_key(*key))
    }
}
