//! Sums over the nodes of a snapshot that are kept from one pod to the next: only the nodes that changed are counted again.
//!
//! Whoever would go over all pods of the cluster for each pod keeps such sums in [`Kept`], by what they depend on besides
//! the nodes.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::framework::{Moment, NodeInfo, Snapshot};

/// What is summed up.
pub(crate) trait Sums: Clone {
    /// What one node adds.
    type Part;
    fn add(&mut self, part: &Self::Part);
    /// Takes back [`Sums::add`].
    fn subtract(&mut self, part: &Self::Part);
}

/// The sums over the nodes of a snapshot.
#[derive(Debug)]
pub(crate) struct Tally<S: Sums> {
    seen: Moment,
    parts: HashMap<usize, S::Part>,
    empty: S,
    sums: Arc<S>,
}

impl<S: Sums> Tally<S> {
    /// Of nothing yet.
    pub(crate) fn new(empty: S) -> Self {
        Self { seen: Moment::default(), parts: HashMap::new(), sums: Arc::new(empty.clone()), empty }
    }

    /// The sums over the nodes as they are now. `part` says what a node adds, and all nodes that add something are among
    /// `candidates`, which are only asked for when everything is counted anew.
    pub(crate) fn update<I: Iterator<Item = usize>>(
        &mut self,
        snapshot: &Snapshot,
        candidates: impl FnOnce() -> I,
        part: impl Fn(&NodeInfo) -> Option<S::Part>,
    ) -> Arc<S> {
        let seen = std::mem::replace(&mut self.seen, snapshot.history.now());
        let sums = Arc::make_mut(&mut self.sums);
        if let Some(changed) = snapshot.history.since(&seen) {
            for at in changed {
                recount(sums, &mut self.parts, at, part(&snapshot.nodes[at]));
            }
        } else {
            self.parts.clear();
            *sums = self.empty.clone();
            candidates().for_each(|at| recount(sums, &mut self.parts, at, part(&snapshot.nodes[at])));
        }
        Arc::clone(&self.sums)
    }
}

fn recount<S: Sums>(sums: &mut S, parts: &mut HashMap<usize, S::Part>, at: usize, part: Option<S::Part>) {
    if let Some(before) = parts.remove(&at) {
        sums.subtract(&before);
    }
    if let Some(part) = part {
        sums.add(&part);
        parts.insert(at, part);
    }
}

/// What plugins keep with a snapshot, by its type. A copy of the snapshot begins without.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Clone for Kept {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Kept {
    /// The value of this type, made when it is asked for first.
    pub(crate) fn get<T: Default + Send + 'static>(&self) -> Arc<Mutex<T>> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = values.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(Mutex::new(T::default())));
        Arc::clone(value).downcast().expect("it is kept by its type")
    }
}
