//! A frozen view of the cluster (upstream: `cache.Snapshot`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use client::ObjectKey;
use facts::labels::Labels;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::framework::{History, Kept, NodeInfo, PodInfo};

static NO_LABELS: LazyLock<Labels> = LazyLock::new(Labels::new);

/// A controller of pods, as an owner reference names it: `apiVersion` and kind.
pub type OwnerKey = (String, String, ObjectKey);

/// The cluster at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// All nodes, ordered so that zones alternate.
    pub(crate) nodes: Vec<Arc<NodeInfo>>,
    pub(crate) positions: HashMap<Arc<str>, usize>,
    /// Which of them changed.
    pub(crate) history: History,
    /// Positions of the nodes with pods that have an affinity to pods of any kind,
    pub(crate) with_affinity: BTreeSet<usize>,
    /// and of those with pods that must not share a domain with some others.
    pub(crate) with_anti_affinity: BTreeSet<usize>,
    /// How many nodes have an image, by each of its names.
    pub(crate) images: HashMap<String, usize>,
    /// How often that has changed.
    pub(crate) images_changed: u64,
    pub(crate) namespaces: BTreeMap<String, Arc<Labels>>,
    /// How often these have changed.
    pub(crate) namespaces_changed: u64,
    pub(crate) budgets: BTreeMap<ObjectKey, Arc<PodDisruptionBudget>>,
    /// The selectors of services,
    pub(crate) services: BTreeMap<ObjectKey, Arc<Labels>>,
    /// and of the controllers of pods.
    pub(crate) owners: BTreeMap<OwnerKey, Arc<LabelSelector>>,
    /// Pods that wait for their nominated node, by node.
    pub(crate) nominated: BTreeMap<String, Vec<Arc<PodInfo>>>,
    /// What plugins keep from one pod to the next.
    pub(crate) kept: Kept,
}

impl Snapshot {
    /// The nodes.
    pub fn nodes(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.nodes.get(self.position(name)?)
    }

    /// Where the node of this name is in [`Snapshot::nodes`].
    pub fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    /// The nodes with pods that have an affinity, or an anti-affinity, to other pods.
    pub fn nodes_with_affinity(&self) -> impl Iterator<Item = &Arc<NodeInfo>> {
        self.with_affinity.iter().filter_map(|at| self.nodes.get(*at))
    }

    /// The nodes with pods whose anti-affinity is required.
    pub fn nodes_with_anti_affinity(&self) -> impl Iterator<Item = &Arc<NodeInfo>> {
        self.with_anti_affinity.iter().filter_map(|at| self.nodes.get(*at))
    }

    /// How many nodes have an image of this name.
    pub fn nodes_with_image(&self, name: &str) -> usize {
        self.images.get(name).copied().unwrap_or(0)
    }

    /// The labels of a namespace; none when it is not known.
    pub fn namespace_labels(&self, name: &str) -> &Labels {
        match self.namespaces.get(name) {
            Some(labels) => labels,
            None => &NO_LABELS,
        }
    }

    /// All budgets.
    pub fn budgets(&self) -> impl Iterator<Item = &Arc<PodDisruptionBudget>> {
        self.budgets.values()
    }

    /// The selectors of the services of a namespace.
    pub fn services<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Labels> {
        let first = ObjectKey::new(namespace, "");
        let here = self.services.range(first..).take_while(move |(key, _)| key.namespace == namespace);
        here.map(|(_, selector)| &**selector)
    }

    /// The selector of a controller of pods.
    pub fn selector_of(&self, owner: &OwnerKey) -> Option<&LabelSelector> {
        self.owners.get(owner).map(|selector| &**selector)
    }

    /// The pods that are nominated for a node.
    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominated.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn set_nodes(&mut self, nodes: Vec<Arc<NodeInfo>>) {
        self.positions = nodes.iter().enumerate().map(|(at, info)| (Arc::clone(&info.name), at)).collect();
        self.with_affinity = positions(&nodes, |node| !node.with_affinity.is_empty());
        self.with_anti_affinity = positions(&nodes, |node| !node.with_anti_affinity.is_empty());
        self.nodes = nodes;
        self.history = History::default();
    }

    pub(crate) fn replace_node(&mut self, node: &Arc<NodeInfo>) {
        let Some(at) = self.position(&node.name) else { return };
        keep(&mut self.with_affinity, at, !node.with_affinity.is_empty());
        keep(&mut self.with_anti_affinity, at, !node.with_anti_affinity.is_empty());
        self.nodes[at] = Arc::clone(node);
        self.history.note(at);
    }

    pub(crate) fn count_image(&mut self, name: String, change: isize) {
        self.images_changed += 1;
        let count = self.images.get(&name).copied().unwrap_or(0).saturating_add_signed(change);
        if count == 0 {
            self.images.remove(&name);
        } else {
            self.images.insert(name, count);
        }
    }
}

fn positions(nodes: &[Arc<NodeInfo>], of: impl Fn(&NodeInfo) -> bool) -> BTreeSet<usize> {
    nodes.iter().enumerate().filter(|(_, node)| of(node)).map(|(at, _)| at).collect()
}

fn keep(set: &mut BTreeSet<usize>, at: usize, is_in: bool) {
    if is_in {
        set.insert(at);
    } else {
        set.remove(&at);
    }
}
