//! The extension points of KEP-624, as traits: a plugin implements those it needs.
//!
//! "No" is kept apart from "broken": a [`Rejection`] is an answer, a [`Broken`] an error of the scheduler.

mod affinity;
mod claim;
mod event;
mod filters;
mod history;
mod info;
mod recent;
mod resources;
mod snapshot;
mod state;
mod tally;

pub use affinity::{Affinity, AffinityTerm};
pub use claim::{CLAIM, Claim, GROUP_CLAIM, Shown, WrongClaim};
pub use event::{ClusterEvent, StorageEvent};
pub use filters::{Filters, Refusal};
pub(crate) use history::{History, Moment};
pub(crate) use info::nominated_node;
pub use info::{NodeInfo, PodInfo};
pub(crate) use recent::Recent;
pub use resources::Resources;
pub use snapshot::{OwnerKey, Snapshot};
pub use state::CycleState;
pub(crate) use tally::{Kept, Sums, Tally};

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::scheduling::v1alpha2::PodGroup;

/// Scores run from 0 to this.
pub const MAX_SCORE: i64 = 100;

/// Why a pod cannot go to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// One text for each obstacle, as events count them: `Insufficient cpu`.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether the pod could not go there even if other pods were evicted.
    pub unresolvable: bool,
}

impl Rejection {
    /// A "no" that evicting pods may turn into a "yes".
    pub fn unschedulable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], unresolvable: false }
    }

    /// A "no" that eviction cannot change.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], unresolvable: true }
    }
}

/// The scheduler itself failed; the pod is tried again.
#[derive(Debug, thiserror::Error)]
#[error("{plugin}: {reason}")]
pub struct Broken {
    pub plugin: &'static str,
    pub reason: String,
}

/// What PreFilter found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreFilterResult {
    /// Only these nodes can be right; `None` for any.
    pub nodes: Option<BTreeSet<String>>,
    /// This plugin's Filter has nothing to say about the pod.
    pub skip: bool,
}

/// What Permit decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    Allow,
    /// Holds the pod on its node until somebody allows it, at most this long.
    Wait(Duration),
    Reject(Rejection),
}

/// What all plugins have.
pub trait Plugin: Send + Sync + 'static {
    /// The name in configuration, metrics and texts.
    fn name(&self) -> &'static str;

    /// Whether a pod that this plugin rejected may fit after `event`.
    fn may_help(&self, _pod: &PodInfo, _event: &ClusterEvent) -> bool {
        true
    }
}

/// Before the queue: may the pod be tried at all?
pub trait PreEnqueue: Plugin {
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection>;
}

/// The order of the queue.
pub trait QueueSort: Plugin {
    /// `Less` when `a` goes first. `at` are the times when the pods were queued.
    fn order(&self, a: &PodInfo, b: &PodInfo) -> Ordering;
}

/// Once for each pod, before nodes are looked at.
pub trait PreFilter: Plugin {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection>;

    /// Changes what was prepared as if `other` were on the node. The node has it already.
    fn add_pod(
        &self,
        _state: &mut CycleState,
        _pod: &PodInfo,
        _other: &PodInfo,
        _node: &NodeInfo,
        _snapshot: &Snapshot,
    ) {
    }

    /// Changes what was prepared as if `other` were gone. The node does not have it any more.
    fn remove_pod(
        &self,
        _state: &mut CycleState,
        _pod: &PodInfo,
        _other: &PodInfo,
        _node: &NodeInfo,
        _snapshot: &Snapshot,
    ) {
    }
}

/// For each pod and node. Must use the node that it is handed.
pub trait Filter: Plugin {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection>;

    /// Whether the answer is the same for all pods that are alike ([`PodInfo::is_alike`]) as long as the node stays as it
    /// is. Then it is asked once, and not again for each such pod.
    fn is_local(&self) -> bool {
        false
    }
}

/// A cycle that found no node.
pub struct Failed<'a> {
    pub state: &'a CycleState,
    pub snapshot: &'a Snapshot,
    pub filters: &'a Filters<'a>,
    /// Positions of the nodes that were refused for what evicting pods may change, in the order of the search.
    pub resolvable: &'a [usize],
    /// The node that the pod is nominated for.
    pub nominated: Option<&'a str>,
    /// A number for choices that do not matter.
    pub random: u64,
}

/// What makes room for a pod.
#[derive(Clone, Debug)]
pub struct Preemption {
    pub node: String,
    /// The pods to evict, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
}

/// What PostFilter decides.
#[derive(Clone, Debug)]
pub enum PostFiltered {
    /// The pod is nominated for the node, and waits until the victims are gone.
    Preempt(Preemption),
    /// Nothing can be done now; a nomination stays.
    Wait(String),
    /// Nothing will help; a nomination ends.
    Hopeless(String),
}

/// When no node fits: may make room. Decides only; what it decides is done by the binding tasks.
pub trait PostFilter: Plugin {
    fn post_filter(&self, cycle: &Failed<'_>, pod: &PodInfo) -> PostFiltered;
}

/// Once for each pod, when several nodes fit.
pub trait PreScore: Plugin {
    /// False when this plugin's Score has nothing to say about the pod. `nodes` are those that fit.
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: &[&NodeInfo], snapshot: &Snapshot) -> bool;
}

/// For each node that fits.
pub trait Score: Plugin {
    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64;

    /// Brings the scores of the nodes that fit into 0..=[`MAX_SCORE`].
    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], _scores: &mut [i64]) {}

    /// Whether the score, before it is normalized, is the same for all pods that are alike ([`PodInfo::is_alike`]) as long
    /// as the node stays as it is, and so is which images are on how many nodes. What PreScore answers must be, too.
    fn is_local(&self) -> bool {
        false
    }
}

/// In memory, after a node was chosen.
pub trait Reserve: Plugin {
    fn reserve(&self, pod: &PodInfo, node: &str) -> Result<(), Rejection>;
    /// Takes back [`Reserve::reserve`]; must be idempotent.
    fn unreserve(&self, pod: &PodInfo, node: &str);
}

/// The last word before binding; may hold the pod.
pub trait PermitPlugin: Plugin {
    /// `snapshot` is the one that the node was chosen on: the pod is not on it yet, all that were chosen before are.
    fn permit(&self, pod: &PodInfo, node: &str, snapshot: &Snapshot) -> Permit;
}

/// Pods that get their places together or not at all, and so are tried one after the other, with nobody between them
/// (upstream: the pod group scheduling cycle of KEP-4671).
pub trait Gang: Plugin {
    /// The others, by uid, that have no node yet; `None` for a pod that is tried alone.
    fn mates(&self, pod: &PodInfo) -> Option<Vec<String>>;

    /// Why those that have their places do not suffice, even if `more` of them had some; `None` when they do.
    fn missing(&self, pod: &PodInfo, more: usize) -> Option<String>;

    /// The `PodGroup` that is to be told what became of the pods, if there is one.
    fn pod_group(&self, pod: &PodInfo) -> Option<Arc<PodGroup>>;
}

/// In the binding task.
#[async_trait]
pub trait PreBind: Plugin {
    async fn pre_bind(&self, pod: &PodInfo, node: &str) -> Result<(), Broken>;
}

/// In the binding task: the first plugin that does not pass binds the pod.
#[async_trait]
pub trait Bind: Plugin {
    /// `Ok(false)` passes the pod on to the next plugin.
    async fn bind(&self, pod: &PodInfo, node: &str) -> Result<bool, Broken>;
}

/// After binding; for information.
pub trait PostBind: Plugin {
    fn post_bind(&self, pod: &PodInfo, node: &str);
}

/// The plugins of one profile, in order, each with those extension points that its profile enables.
#[derive(Clone, Default)]
pub struct Profile {
    /// The `schedulerName` of the pods it is for.
    pub scheduler_name: String,
    pub pre_enqueue: Vec<Arc<dyn PreEnqueue>>,
    pub queue_sort: Option<Arc<dyn QueueSort>>,
    pub pre_filter: Vec<Arc<dyn PreFilter>>,
    pub filter: Vec<Arc<dyn Filter>>,
    pub post_filter: Vec<Arc<dyn PostFilter>>,
    pub pre_score: Vec<Arc<dyn PreScore>>,
    /// With their weights.
    pub score: Vec<(Arc<dyn Score>, i64)>,
    pub reserve: Vec<Arc<dyn Reserve>>,
    pub permit: Vec<Arc<dyn PermitPlugin>>,
    /// Knows which pods are tried together.
    pub gang: Option<Arc<dyn Gang>>,
    pub pre_bind: Vec<Arc<dyn PreBind>>,
    pub bind: Vec<Arc<dyn Bind>>,
    pub post_bind: Vec<Arc<dyn PostBind>>,
    /// All plugins that may reject a pod, by name: asked whether an event helps.
    pub rejecters: Vec<Arc<dyn Plugin>>,
    /// How many of the nodes to score, in percent; 0 adapts to the size of the cluster.
    pub percentage_of_nodes_to_score: u32,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Profile({})", self.scheduler_name)
    }
}
