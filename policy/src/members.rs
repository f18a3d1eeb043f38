//! What a set holds, said so that it can be asked of one pod: so a pod that changes touches its own elements only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use facts::labels::{self, Labels};
use facts::ranges::Range;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::hash::short_hash;
use crate::pod::PodFacts;
use crate::table::{Element, Protocol};

/// A label selector that has an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Selector {
    equal: BTreeMap<String, String>,
    rules: Vec<(String, String, Vec<String>)>,
}

impl From<&LabelSelector> for Selector {
    fn from(selector: &LabelSelector) -> Self {
        let rule = |rule: &LabelSelectorRequirement| {
            (rule.key.clone(), rule.operator.clone(), rule.values.clone().unwrap_or_default())
        };
        Self {
            equal: selector.match_labels.clone().unwrap_or_default(),
            rules: selector.match_expressions.iter().flatten().map(rule).collect(),
        }
    }
}

impl Selector {
    fn selects(&self, labels: &Labels) -> bool {
        self.equal.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self
                .rules
                .iter()
                .all(|(key, operator, values)| labels::holds(labels.get(key).map(String::as_str), operator, values))
    }
}

/// Namespaces of peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Where {
    This(String),
    Matching(Selector),
}

/// Pods that are peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scope {
    pub(crate) within: Where,
    pub(crate) pods: Selector,
}

impl Scope {
    /// A namespace whose labels are not known matches nothing.
    fn holds_namespace(&self, name: &str, labels: Option<&Labels>) -> bool {
        match &self.within {
            Where::This(namespace) => namespace == name,
            Where::Matching(selector) => labels.is_some_and(|labels| selector.selects(labels)),
        }
    }
}

/// The peers of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peers {
    pub(crate) scopes: BTreeSet<Scope>,
    pub(crate) blocks: Vec<Range>,
}

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Members {
    /// The addresses of pods.
    Peers(Scope),
    /// Addresses that have nothing to do with pods.
    Blocks(Vec<Range>),
    /// What pods among the peers, or all pods, call by a name.
    Ports { of: Option<Peers>, protocol: Protocol, name: String },
}

/// A pod as a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) namespace: &'a str,
    /// `None` while they are not known.
    pub(crate) namespace_labels: Option<&'a Labels>,
    pub(crate) pod: &'a PodFacts,
}

impl Members {
    /// A name that nothing with other members has.
    pub(crate) fn name(&self) -> String {
        let kind = match self {
            Self::Peers(_) => "pods",
            Self::Blocks(_) => "blocks",
            Self::Ports { .. } => "ports",
        };
        format!("{kind}-{}", short_hash(&format!("{self:?}")))
    }

    /// The only namespace whose pods may be among them, if there is one.
    pub(crate) fn only_namespace(&self) -> Option<&str> {
        match self {
            Self::Peers(Scope { within: Where::This(namespace), .. }) => Some(namespace),
            _ => None,
        }
    }

    /// Whether the same pods of a namespace are among them with either labels of the namespace.
    pub(crate) fn is_same(&self, namespace: &str, old: Option<&Labels>, new: Option<&Labels>) -> bool {
        let same = |scope: &Scope| scope.holds_namespace(namespace, old) == scope.holds_namespace(namespace, new);
        match self {
            Self::Peers(scope) => same(scope),
            Self::Ports { of: Some(peers), .. } => peers.scopes.iter().all(same),
            Self::Blocks(_) | Self::Ports { of: None, .. } => true,
        }
    }

    /// What is in the set because of a pod's address.
    pub(crate) fn elements(&self, candidate: &Candidate<'_>, address: IpAddr) -> Vec<Element> {
        let is_in = |scope: &Scope| {
            scope.holds_namespace(candidate.namespace, candidate.namespace_labels)
                && scope.pods.selects(&candidate.pod.labels)
        };
        match self {
            Self::Peers(scope) if is_in(scope) => vec![Element { address, port: None }],
            Self::Peers(_) | Self::Blocks(_) => Vec::new(),
            Self::Ports { of, protocol, name } => {
                let is_peer = of.as_ref().is_none_or(|peers| {
                    peers.blocks.iter().any(|block| block.contains(address)) || peers.scopes.iter().any(is_in)
                });
                let numbers = if is_peer { candidate.pod.numbers(*protocol, name) } else { Vec::new() };
                numbers.into_iter().map(|port| Element { address, port: Some((*protocol, port)) }).collect()
            }
        }
    }
}
