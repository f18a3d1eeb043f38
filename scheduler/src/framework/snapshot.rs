//! A frozen view of all nodes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::framework::NodeInfo;

/// All nodes at one moment, ordered so that zones alternate.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) nodes: Vec<Arc<NodeInfo>>,
    pub(crate) positions: HashMap<Arc<str>, usize>,
}

impl Snapshot {
    /// The nodes.
    pub fn nodes(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.nodes.get(*self.positions.get(name)?)
    }
}
