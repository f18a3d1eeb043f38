//! What an autoscaler wished and did lately. Times are of the clock that only goes forward: a jump of the wall's clock neither
//! frees nor stops anybody.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Nothing in it is older than the windows and periods that it was last asked with.
#[derive(Debug, Default)]
pub(in crate::autoscaler) struct History {
    recommendations: VecDeque<(Instant, i32)>,
    /// Positive for more replicas.
    changes: VecDeque<(Instant, i32)>,
}

impl History {
    /// Of an autoscaler that sees its target for the first time: it is as it should be.
    pub(in crate::autoscaler) fn starting_with(replicas: i32, now: Instant) -> Self {
        Self { recommendations: VecDeque::from([(now, replicas)]), changes: VecDeque::new() }
    }

    /// Wishes of the last `window`, its start included.
    pub(super) fn recommendations(&self, now: Instant, window: Duration) -> impl Iterator<Item = i32> {
        self.recommendations.iter().filter(move |(at, _)| now.duration_since(*at) <= window).map(|(_, wish)| *wish)
    }

    /// The same without its start.
    pub(super) fn recommendations_after(&self, now: Instant, window: Duration) -> impl Iterator<Item = i32> {
        self.recommendations.iter().filter(move |(at, _)| now.duration_since(*at) < window).map(|(_, wish)| *wish)
    }

    /// Adds a wish, and forgets what is older than `window`. Of equal ones in a row the last says all.
    pub(super) fn recommend(&mut self, wish: i32, now: Instant, window: Duration) {
        forget(&mut self.recommendations, now, window);
        if self.recommendations.back().is_some_and(|(_, last)| *last == wish) {
            self.recommendations.pop_back();
        }
        self.recommendations.push_back((now, wish));
    }

    pub(super) fn change(&mut self, by: i32, now: Instant, period: Duration) {
        forget(&mut self.changes, now, period);
        self.changes.push_back((now, by));
    }

    /// How many replicas more there are than at the start of a period.
    pub(super) fn changed(&self, now: Instant, period: Duration) -> i32 {
        let recent = self.changes.iter().filter(|(at, _)| now.duration_since(*at) < period);
        recent.fold(0, |sum, (_, by)| sum.saturating_add(*by))
    }
}

fn forget(past: &mut VecDeque<(Instant, i32)>, now: Instant, window: Duration) {
    while past.front().is_some_and(|(at, _)| now.duration_since(*at) > window) {
        past.pop_front();
    }
}
