//! Values of the last minutes: what somebody who sees everything late may believe.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Nobody's news are older, or there is trouble that no rule allows for.
pub(super) const WINDOW: Duration = Duration::from_secs(180);

/// The values that something had lately.
#[derive(Debug)]
pub(super) struct Lately<T>(BTreeMap<String, VecDeque<(Instant, T)>>);

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: PartialEq + Copy> Lately<T> {
    /// It has this value from now on.
    pub(super) fn set(&mut self, of: &str, at: Instant, value: T) {
        let values = self.0.entry(of.to_owned()).or_default();
        // The one before the window was true when it began.
        while values.get(1).is_some_and(|(since, _)| *since + WINDOW < at) {
            values.pop_front();
        }
        if values.back().is_none_or(|(_, last)| *last != value) {
            values.push_back((at, value));
        }
    }

    /// What it was at some time in the window.
    pub(super) fn of(&self, of: &str, at: Instant) -> impl Iterator<Item = T> {
        let values = self.0.get(of);
        let count = values.map_or(0, VecDeque::len);
        let is_recent = move |index: usize, values: &VecDeque<(Instant, T)>| {
            index + 1 == count || values.get(index + 1).is_some_and(|(until, _)| *until + WINDOW >= at)
        };
        values.into_iter().flat_map(move |values| {
            (0..count).filter(move |index| is_recent(*index, values)).map(|index| values[index].1)
        })
    }
}
