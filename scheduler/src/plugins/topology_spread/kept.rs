//! How many pods each domain has, kept from one pod to the next of those whose constraints are the same.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use k8s_openapi::api::core::v1::Pod;

use super::HOSTNAME;
use super::constraint::{Constraint, has_all_labels};
use crate::framework::{NodeInfo, PodInfo, Recent, Snapshot, Sums, Tally};

/// So many kinds of pods are remembered.
const KINDS: usize = 16;

/// Which nodes and pods are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// All domains, empty ones too, on nodes that have all labels.
    Filter,
    /// Domains with pods; those of [`HOSTNAME`] by the name of their node.
    Score { asks_for_all_labels: bool },
}

/// What the counts depend on besides the nodes and the pods on them.
struct Kind {
    purpose: Purpose,
    constraints: Arc<[Constraint]>,
    /// One of the pods: all are of its namespace, and want and tolerate the same nodes.
    pod: Arc<Pod>,
}

impl Kind {
    fn is_of(&self, purpose: Purpose, constraints: &[Constraint], pod: &PodInfo) -> bool {
        self.purpose == purpose
            && *self.constraints == *constraints
            && self.pod.metadata.namespace == pod.pod.metadata.namespace
            && pod.wants_same_nodes(&self.pod)
    }
}

struct Tallies(Recent<Kind, Tally<Groups>>);

impl Default for Tallies {
    fn default() -> Self {
        Self(Recent::new(KINDS))
    }
}

/// The domains of each constraint.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups(Vec<Domains>);

/// The domains of one constraint.
#[derive(Clone, Debug, Default)]
pub(super) struct Domains {
    by_value: HashMap<Arc<str>, Domain>,
    /// The emptiest first.
    by_pods: BTreeSet<(i64, Arc<str>)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Domain {
    nodes: usize,
    pods: i64,
}

impl Groups {
    /// The domains of the constraint of this number.
    pub(super) fn of(&self, number: usize) -> &Domains {
        &self.0[number]
    }
}

impl Domains {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_value.len()
    }

    /// How many pods a domain has.
    pub(super) fn pods(&self, value: &str) -> Option<i64> {
        self.by_value.get(value).map(|domain| domain.pods)
    }

    /// How many pods the emptiest of the other domains has.
    pub(super) fn fewest_besides(&self, value: &str) -> Option<i64> {
        self.by_pods.iter().find(|(_, other)| **other != *value).map(|(pods, _)| *pods)
    }

    fn change(&mut self, value: &Arc<str>, nodes: isize, pods: i64) {
        let domain = self.by_value.entry(Arc::clone(value)).or_default();
        self.by_pods.remove(&(domain.pods, Arc::clone(value)));
        domain.nodes = domain.nodes.saturating_add_signed(nodes);
        domain.pods += pods;
        if domain.nodes == 0 {
            self.by_value.remove(value);
        } else {
            self.by_pods.insert((domain.pods, Arc::clone(value)));
        }
    }
}

impl Sums for Groups {
    /// The domain that the node is in and the number of its pods, for each constraint.
    type Part = Vec<Option<(Arc<str>, i64)>>;

    fn add(&mut self, part: &Self::Part) {
        for (domains, part) in self.0.iter_mut().zip(part) {
            part.iter().for_each(|(value, pods)| domains.change(value, 1, *pods));
        }
    }

    fn subtract(&mut self, part: &Self::Part) {
        for (domains, part) in self.0.iter_mut().zip(part) {
            part.iter().for_each(|(value, pods)| domains.change(value, -1, -pods));
        }
    }
}

/// The domains of a pod's constraints.
pub(super) fn counted(
    constraints: &Arc<[Constraint]>,
    pod: &PodInfo,
    snapshot: &Snapshot,
    purpose: Purpose,
) -> Arc<Groups> {
    let tallies = snapshot.kept.get::<Tallies>();
    let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || {
        let kind = Kind { purpose, constraints: Arc::clone(constraints), pod: Arc::clone(&pod.pod) };
        (kind, Tally::new(Groups(vec![Domains::default(); constraints.len()])))
    };
    let tally = tallies.0.get_or_insert(|kind| kind.is_of(purpose, constraints, pod), new);
    tally.update(snapshot, || 0..snapshot.nodes.len(), |node| part(constraints, pod, node, purpose))
}

fn part(
    constraints: &[Constraint],
    pod: &PodInfo,
    node: &NodeInfo,
    purpose: Purpose,
) -> Option<<Groups as Sums>::Part> {
    let asks = !matches!(purpose, Purpose::Score { asks_for_all_labels: false });
    if asks && !has_all_labels(constraints, node) {
        return None;
    }
    let of_one = |constraint: &Constraint| match purpose {
        Purpose::Filter => domain(constraint, pod, node),
        Purpose::Score { .. } if constraint.key == HOSTNAME => {
            Some((Arc::clone(&node.name), constraint.count(pod, node))).filter(|(_, pods)| *pods > 0)
        }
        Purpose::Score { .. } => domain(constraint, pod, node).filter(|(_, pods)| *pods > 0),
    };
    let part: Vec<_> = constraints.iter().map(of_one).collect();
    part.iter().any(Option::is_some).then_some(part)
}

fn domain(constraint: &Constraint, pod: &PodInfo, node: &NodeInfo) -> Option<(Arc<str>, i64)> {
    let value = node.labels().get(&constraint.key).filter(|_| constraint.counts(pod, node))?;
    Some((value.as_str().into(), constraint.count(pod, node)))
}
