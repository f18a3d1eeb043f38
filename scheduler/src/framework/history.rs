//! Which nodes of a snapshot changed, so that who keeps something for each node makes anew only what is out of date
//! (upstream: the generations of `NodeInfo`).

use std::collections::VecDeque;
use std::sync::Arc;

/// So many changes are remembered. Who has missed more starts again.
const KEPT: usize = 4096;

/// The changes of one snapshot, the newest last.
#[derive(Debug, Default)]
pub(crate) struct History {
    identity: Arc<()>,
    positions: VecDeque<usize>,
    /// How many changes are forgotten.
    forgotten: u64,
}

/// A moment in the history of one snapshot; by default one that no history knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moment(Option<(Arc<()>, u64)>);

impl Clone for History {
    /// What becomes of the copy is another history.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl History {
    /// Notes that the node at this position changed.
    pub(crate) fn note(&mut self, position: usize) {
        if self.positions.len() == KEPT {
            self.positions.pop_front();
            self.forgotten += 1;
        }
        self.positions.push_back(position);
    }

    /// The moment after the last change.
    pub(crate) fn now(&self) -> Moment {
        Moment(Some((Arc::clone(&self.identity), self.forgotten + self.positions.len() as u64)))
    }

    /// The positions of the nodes that changed since, perhaps several times; `None` when that is not known.
    pub(crate) fn since(&self, moment: &Moment) -> Option<impl Iterator<Item = usize> + use<'_>> {
        let (identity, at) = moment.0.as_ref()?;
        let seen = at.checked_sub(self.forgotten).filter(|_| Arc::ptr_eq(identity, &self.identity))?;
        Some(self.positions.range(usize::try_from(seen).ok()?..).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(history: &History, moment: &Moment) -> Option<Vec<usize>> {
        history.since(moment).map(Iterator::collect)
    }

    #[test]
    fn a_moment_knows_what_came_after_it() {
        let mut history = History::default();
        assert_eq!(since(&history, &Moment::default()), None);
        let first = history.now();
        history.note(7);
        let second = history.now();
        history.note(3);
        assert_eq!(since(&history, &first), Some(vec![7, 3]));
        assert_eq!(since(&history, &second), Some(vec![3]));
        assert_eq!(since(&history, &history.now()), Some(vec![]));
    }

    #[test]
    fn what_is_forgotten_or_belongs_to_another_snapshot_is_not_known() {
        let mut history = History::default();
        let first = history.now();
        (0..KEPT).for_each(|at| history.note(at));
        assert_eq!(since(&history, &first).map(|all| all.len()), Some(KEPT));
        history.note(0);
        assert_eq!(since(&history, &first), None);
        assert_eq!(since(&history.clone(), &history.now()), None);
    }
}
