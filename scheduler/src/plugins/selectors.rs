//! Matching nodes against the terms of a spec.

use facts::nodes::selector::chooses_node;
use k8s_openapi::api::core::v1::NodeSelectorTerm;

use crate::framework::NodeInfo;

/// Whether a node matches a term. An empty term matches nothing.
pub(super) fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    chooses_node(term, &node.name, node.labels())
}
