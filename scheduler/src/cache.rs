//! What is where: nodes, the pods on them, and pods that were just given a node and are assumed to be there.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::framework::{NodeInfo, PodInfo, Snapshot};

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
        if let Some(info) = self.nodes.get_mut(&name) {
            self.reordered |= zone(&info.node) != zone(node);
            Arc::make_mut(info).set_node(Arc::clone(node));
        } else {
            let mut info = NodeInfo::new(Arc::clone(node));
            for pod in self.homeless.remove(&*name).unwrap_or_default() {
                info.add(pod);
            }
            self.nodes.insert(Arc::clone(&name), Arc::new(info));
            self.reordered = true;
        }
        self.changed.insert(name);
    }

    /// Removes a node; its pods stay known until they are deleted.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.remove(name) {
            if !info.pods.is_empty() {
                self.homeless.insert(name.to_owned(), info.pods.clone());
            }
            self.reordered = true;
        }
    }

    /// Places a pod on the node it was bound to; confirms it if it was assumed there.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.uid);
        self.place(pod, node, false);
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

    /// Removes a pod.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(place) = self.places.remove(uid) else { return };
        if let Some(info) = self.nodes.get_mut(place.node.as_str()) {
            let info = Arc::make_mut(info);
            info.remove(uid);
            self.changed.insert(Arc::clone(&info.name));
        } else if let Some(pods) = self.homeless.get_mut(&place.node) {
            pods.retain(|pod| pod.uid != uid);
            if pods.is_empty() {
                self.homeless.remove(&place.node);
            }
        }
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

    /// Brings a snapshot up to date. Costs what has changed, or a pass over the nodes when some came or went.
    pub fn update(&mut self, snapshot: &mut Snapshot) {
        if std::mem::take(&mut self.reordered) {
            self.changed.clear();
            snapshot.nodes = self.alternate_zones();
            snapshot.positions =
                snapshot.nodes.iter().enumerate().map(|(at, info)| (Arc::clone(&info.name), at)).collect();
            return;
        }
        for name in std::mem::take(&mut self.changed) {
            if let (Some(at), Some(info)) = (snapshot.positions.get(&name), self.nodes.get(&name)) {
                snapshot.nodes[*at] = Arc::clone(info);
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, zone: &str) -> Arc<Node> {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        let allocatable = json!({"cpu": "4", "memory": "4Gi", "pods": "10"});
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}}),
            )
            .unwrap(),
        )
    }

    fn pod(uid: &str) -> Arc<PodInfo> {
        let resources = json!({"requests": {"cpu": "1"}});
        let pod = json!({"metadata": {"name": uid, "namespace": "d", "uid": uid}, "spec": {"containers": [{"name": "c", "resources": resources}]}});
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())))
    }

    fn used(cache: &mut Cache, snapshot: &mut Snapshot, name: &str) -> i64 {
        cache.update(snapshot);
        snapshot.node(name).map_or(-1, |info| info.requested.milli_cpu)
    }

    #[test]
    fn an_assumed_pod_counts_until_it_is_forgotten() {
        let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
        cache.set_node(&node("a", "z"));
        cache.assume(pod("1"), "a");
        assert_eq!(used(&mut cache, &mut snapshot, "a"), 1000);
        cache.forget("1");
        assert_eq!(used(&mut cache, &mut snapshot, "a"), 0);
    }

    #[test]
    fn a_confirmed_pod_is_not_forgotten_and_counts_once() {
        let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
        cache.set_node(&node("a", "z"));
        cache.assume(pod("1"), "a");
        cache.set_pod(pod("1"), "a");
        cache.forget("1");
        assert_eq!(used(&mut cache, &mut snapshot, "a"), 1000);
    }

    #[test]
    fn pods_wait_for_their_node_and_survive_its_return() {
        let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
        cache.set_pod(pod("1"), "a");
        cache.set_node(&node("a", "z"));
        assert_eq!(used(&mut cache, &mut snapshot, "a"), 1000);
        cache.remove_node("a");
        assert_eq!(used(&mut cache, &mut snapshot, "a"), -1);
        cache.set_node(&node("a", "z"));
        assert_eq!(used(&mut cache, &mut snapshot, "a"), 1000);
        cache.remove_pod("1");
        assert_eq!(used(&mut cache, &mut snapshot, "a"), 0);
    }

    #[test]
    fn a_snapshot_is_frozen() {
        let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
        cache.set_node(&node("a", "z"));
        cache.update(&mut snapshot);
        cache.assume(pod("1"), "a");
        assert_eq!(snapshot.node("a").unwrap().requested.milli_cpu, 0);
    }

    #[test]
    fn zones_alternate() {
        let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
        for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("b2", "b")] {
            cache.set_node(&node(name, zone));
        }
        cache.update(&mut snapshot);
        let order: Vec<&str> = snapshot.nodes().iter().map(|info| &*info.name).collect();
        assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
    }
}
