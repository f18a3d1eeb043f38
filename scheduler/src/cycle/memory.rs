//! What was found out about each node for pods that are alike, kept from one such pod to the next (upstream's equivalence
//! cache, and what KEP-5598 batches).
//!
//! Pods of one controller ask the same of a node. What the local plugins say of it (`is_local`) stays true until the node
//! changes, so after a decision only the node that got the pod is looked at again. Decisions are the same as without it.

use std::sync::Arc;

use crate::framework::{Moment, PodInfo, Profile, Recent, Refusal, Snapshot};

/// So many kinds of pods are remembered. Each takes about 70 bytes a node.
const KINDS: usize = 8;

/// All that is remembered.
pub(super) struct Memory(Recent<Kind, Nodes>);

/// What pods must share.
struct Kind {
    scheduler_name: String,
    pod: Arc<PodInfo>,
}

/// What is known of the nodes, by position.
#[derive(Default)]
pub(super) struct Nodes {
    seen: Moment,
    images: u64,
    known: Vec<Known>,
    /// What the local Score plugins said, one column of all nodes for each plugin.
    columns: Vec<Vec<i64>>,
    last: Option<Arc<Refusal>>,
}

/// What is known of a node.
#[derive(Clone, Debug, Default)]
pub(super) enum Known {
    #[default]
    Nothing,
    /// As far as the local filters are concerned.
    Fits,
    /// And its scores are there.
    Scored,
    Refused(Arc<Refusal>),
}

impl Default for Memory {
    fn default() -> Self {
        Self(Recent::new(KINDS))
    }
}

impl Memory {
    /// What is known for pods like this one on the nodes of the snapshot. It is always the same snapshot, as it goes on.
    pub(super) fn of(&mut self, profile: &Profile, pod: &Arc<PodInfo>, snapshot: &Snapshot) -> &mut Nodes {
        let is_right = |kind: &Kind| kind.scheduler_name == profile.scheduler_name && kind.pod.is_alike(pod);
        let new = || {
            let kind = Kind { scheduler_name: profile.scheduler_name.clone(), pod: Arc::clone(pod) };
            (kind, Nodes::default())
        };
        let nodes = self.0.get_or_insert(is_right, new);
        nodes.catch_up(snapshot, profile.score.len());
        nodes
    }
}

impl Nodes {
    fn catch_up(&mut self, snapshot: &Snapshot, plugins: usize) {
        let is_current = self.images == snapshot.images_changed;
        let seen = std::mem::replace(&mut self.seen, snapshot.history.now());
        match snapshot.history.since(&seen).filter(|_| is_current) {
            Some(changed) => changed.for_each(|at| self.known[at] = Known::Nothing),
            None => self.forget(snapshot.nodes.len(), plugins),
        }
        self.images = snapshot.images_changed;
    }

    fn forget(&mut self, nodes: usize, plugins: usize) {
        self.known.clear();
        self.known.resize(nodes, Known::Nothing);
        self.columns.resize_with(plugins, Vec::new);
        self.columns.iter_mut().for_each(|column| column.resize(nodes, 0));
        self.last = None;
    }

    /// What is known of the node at this position.
    pub(super) fn at(&self, at: usize) -> &Known {
        &self.known[at]
    }

    /// Notes what the local filters say of a node.
    pub(super) fn note(&mut self, at: usize, answer: Result<(), Refusal>) -> &Known {
        self.known[at] = match answer {
            Ok(()) => Known::Fits,
            Err(refusal) => Known::Refused(self.share(refusal)),
        };
        &self.known[at]
    }

    /// Most nodes are refused for the same reason.
    fn share(&mut self, refusal: Refusal) -> Arc<Refusal> {
        if let Some(last) = self.last.as_ref().filter(|last| ***last == refusal) {
            return Arc::clone(last);
        }
        let refusal = Arc::new(refusal);
        self.last = Some(Arc::clone(&refusal));
        refusal
    }

    /// Makes sure that the scores of a node that fits are there: `score` is asked for those of each plugin.
    pub(super) fn score(&mut self, at: usize, score: impl Fn(usize) -> Option<i64>) {
        if matches!(self.known[at], Known::Scored) {
            return;
        }
        for (plugin, column) in self.columns.iter_mut().enumerate() {
            if let Some(score) = score(plugin) {
                column[at] = score;
            }
        }
        self.known[at] = Known::Scored;
    }

    /// The scores of a local plugin, by position.
    pub(super) fn scores(&self, plugin: usize) -> &[i64] {
        &self.columns[plugin]
    }
}
