//! Which pods wait for which node, as upstream's nominator.
//!
//! Room was made there for them, so others of at most their priority must leave it free. A nomination is known here before
//! the API shows it in the pod's status.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cache::changes::Changes;
use crate::framework::PodInfo;

#[derive(Debug, Default)]
pub(super) struct Nominations {
    by_node: HashMap<String, Vec<Arc<PodInfo>>>,
    nodes: HashMap<String, String>,
    pub(super) changes: Changes<String, Vec<Arc<PodInfo>>>,
}

impl Nominations {
    /// Nominates a pod; ends its other nomination.
    pub(super) fn set(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove(&pod.uid);
        self.nodes.insert(pod.uid.clone(), node.to_owned());
        self.by_node.entry(node.to_owned()).or_default().push(pod);
        self.note(node);
    }

    /// Ends a pod's nomination; says for which node it was.
    pub(super) fn remove(&mut self, uid: &str) -> Option<String> {
        let node = self.nodes.remove(uid)?;
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|pod| pod.uid != uid);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
        self.note(&node);
        Some(node)
    }

    /// The node of a pod.
    pub(super) fn node_of(&self, uid: &str) -> Option<&str> {
        self.nodes.get(uid).map(String::as_str)
    }

    /// The pods of a node.
    pub(super) fn on(&self, node: &str) -> &[Arc<PodInfo>] {
        self.by_node.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    fn note(&mut self, node: &str) {
        self.changes.set(node.to_owned(), self.by_node.get(node).cloned());
    }
}
