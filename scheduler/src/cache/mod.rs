//! What is where: nodes, the pods on them, and pods that were just given a node and are assumed to be there (upstream:
//! `pkg/scheduler/backend/cache`).

mod changes;
mod nominations;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use client::ObjectKey;
use facts::labels::Labels;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use self::changes::Changes;
use self::nominations::Nominations;
use crate::framework::{NodeInfo, OwnerKey, PodInfo, Snapshot};

/// The live state; a [`Snapshot`] is brought up to date from it at the start of each cycle.
#[derive(Debug, Default)]
pub struct Cache {
    nodes: HashMap<Arc<str>, Arc<NodeInfo>>,
    /// Where each pod is, by uid.
    places: HashMap<String, Place>,
    /// Pods whose node is not known (yet, or any more), by node name.
    homeless: HashMap<String, Vec<Arc<PodInfo>>>,
    /// Nodes that changed since the last update of the snapshot.
    changed: BTreeSet<Arc<str>>,
    /// Whether nodes came or went since then.
    reordered: bool,
    /// How many nodes more (or less) have an image, by its names, since then.
    images: HashMap<String, isize>,
    namespaces: Changes<String, Arc<Labels>>,
    budgets: Changes<ObjectKey, Arc<PodDisruptionBudget>>,
    services: Changes<ObjectKey, Arc<Labels>>,
    owners: Changes<OwnerKey, Arc<LabelSelector>>,
    nominations: Nominations,
}

#[derive(Debug)]
struct Place {
    node: String,
    assumed: bool,
}

impl Cache {
    /// Adds a node or replaces it.
    pub fn set_node(&mut self, node: &Arc<Node>) {
        let name: Arc<str> = node.metadata.name.as_deref().unwrap_or("").into();
        let before = if let Some(info) = self.nodes.get_mut(&name) {
            self.reordered |= zone(&info.node) != zone(node);
            let info = Arc::make_mut(info);
            let before = Arc::clone(&info.images);
            info.set_node(Arc::clone(node));
            before
        } else {
            let mut info = NodeInfo::new(Arc::clone(node));
            for pod in self.homeless.remove(&*name).unwrap_or_default() {
                info.add(pod);
            }
            self.nodes.insert(Arc::clone(&name), Arc::new(info));
            self.reordered = true;
            Arc::default()
        };
        let after = self.nodes.get(&name).map(|info| Arc::clone(&info.images)).unwrap_or_default();
        self.count_images(&before, &after);
        self.changed.insert(name);
    }

    fn count_images(&mut self, before: &HashMap<String, i64>, after: &HashMap<String, i64>) {
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            *self.images.entry(name.clone()).or_default() -= 1;
        }
        for name in after.keys().filter(|name| !before.contains_key(*name)) {
            *self.images.entry(name.clone()).or_default() += 1;
        }
    }

    /// Removes a node; its pods stay known until they are deleted.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.remove(name) {
            if !info.pods.is_empty() {
                self.homeless.insert(name.to_owned(), info.pods.clone());
            }
            self.count_images(&info.images, &HashMap::new());
            self.reordered = true;
        }
    }

    /// Takes over the labels of a namespace; `None` when it is gone.
    pub(crate) fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        self.namespaces.set(name.to_owned(), labels.map(Arc::new));
    }

    /// Takes over a budget; `None` when it is gone.
    pub(crate) fn set_budget(&mut self, key: ObjectKey, budget: Option<Arc<PodDisruptionBudget>>) {
        self.budgets.set(key, budget);
    }

    /// Takes over the selector of a service; `None` when it has none or is gone.
    pub(crate) fn set_service(&mut self, key: ObjectKey, selector: Option<Labels>) {
        self.services.set(key, selector.map(Arc::new));
    }

    /// Takes over the selector of a controller of pods; `None` when it has none or is gone.
    pub(crate) fn set_owner(&mut self, key: OwnerKey, selector: Option<LabelSelector>) {
        self.owners.set(key, selector.map(Arc::new));
    }

    /// Nominates a pod for a node, unless it has its place already: its status may tell of a nomination that is over.
    pub(crate) fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        if !self.places.contains_key(&pod.uid) {
            self.nominations.set(pod, node);
        }
    }

    /// Ends a pod's nomination, if it has one; says for which node it was.
    pub(crate) fn end_nomination(&mut self, uid: &str) -> Option<String> {
        self.nominations.remove(uid)
    }

    /// The node that a pod is nominated for.
    pub(crate) fn nominated_node(&self, uid: &str) -> Option<&str> {
        self.nominations.node_of(uid)
    }

    /// The pods of less than this priority that are nominated for a node.
    pub(crate) fn nominated_below(&self, node: &str, priority: i32) -> Vec<Arc<PodInfo>> {
        self.nominations.on(node).iter().filter(|pod| pod.priority < priority).cloned().collect()
    }

    /// Places a pod on the node it was bound to; confirms it if it was assumed there. Answers what was known of it on a
    /// node.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>, node: &str) -> Option<Arc<PodInfo>> {
        let before = self.remove_pod(&pod.uid);
        self.place(pod, node, false);
        before
    }

    /// Places a pod on a node before it is bound.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.uid);
        self.place(pod, node, true);
    }

    /// Takes back [`Cache::assume`], unless the pod was confirmed there since.
    pub fn forget(&mut self, uid: &str) {
        if self.places.get(uid).is_some_and(|place| place.assumed) {
            self.remove_pod(uid);
        }
    }

    /// Removes a pod; answers what was known of it, if its node is known.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let place = self.places.remove(uid)?;
        if let Some(info) = self.nodes.get_mut(place.node.as_str()) {
            let info = Arc::make_mut(info);
            self.changed.insert(Arc::clone(&info.name));
            return info.remove(uid);
        }
        if let Some(pods) = self.homeless.get_mut(&place.node) {
            pods.retain(|pod| pod.uid != uid);
            if pods.is_empty() {
                self.homeless.remove(&place.node);
            }
        }
        None
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: &str, assumed: bool) {
        self.places.insert(pod.uid.clone(), Place { node: node.to_owned(), assumed });
        if let Some(info) = self.nodes.get_mut(node) {
            let info = Arc::make_mut(info);
            info.add(pod);
            self.changed.insert(Arc::clone(&info.name));
        } else {
            self.homeless.entry(node.to_owned()).or_default().push(pod);
        }
    }

    /// Brings the one snapshot that follows this cache up to date. Costs what has changed, or a pass over the nodes when some
    /// came or went.
    pub fn update(&mut self, snapshot: &mut Snapshot) {
        snapshot.namespaces_changed += u64::from(self.namespaces.apply(&mut snapshot.namespaces));
        self.budgets.apply(&mut snapshot.budgets);
        self.services.apply(&mut snapshot.services);
        self.owners.apply(&mut snapshot.owners);
        self.nominations.changes.apply(&mut snapshot.nominated);
        for (name, change) in self.images.drain() {
            snapshot.count_image(name, change);
        }
        if std::mem::take(&mut self.reordered) {
            self.changed.clear();
            snapshot.set_nodes(self.alternate_zones());
            return;
        }
        while let Some(name) = self.changed.pop_first() {
            if let Some(info) = self.nodes.get(&name) {
                snapshot.replace_node(info);
            }
        }
    }

    /// All nodes so that neighbours are in different zones: a search that stops early then still spreads.
    fn alternate_zones(&self) -> Vec<Arc<NodeInfo>> {
        let mut sorted: Vec<&Arc<NodeInfo>> = self.nodes.values().collect();
        sorted.sort_unstable_by(|a, b| (zone(&a.node), &a.name).cmp(&(zone(&b.node), &b.name)));
        let mut zones: VecDeque<VecDeque<&Arc<NodeInfo>>> = VecDeque::new();
        let mut last = None;
        for info in sorted {
            let own = zone(&info.node);
            if last != Some(own) {
                zones.push_back(VecDeque::new());
                last = Some(own);
            }
            if let Some(group) = zones.back_mut() {
                group.push_back(info);
            }
        }
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(mut group) = zones.pop_front() {
            if let Some(info) = group.pop_front() {
                order.push(Arc::clone(info));
                zones.push_back(group);
            }
        }
        order
    }
}

fn zone(node: &Node) -> &str {
    node.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("topology.kubernetes.io/zone"))
        .map_or("", String::as_str)
}
