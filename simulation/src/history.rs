//! What happened in a simulation: the last of it in words, all of it as a hash, and the first thing that was wrong.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::world;

/// So many lines are kept.
const KEPT: usize = 400;

/// So much that is wrong is told.
const MOST_WRONG: usize = 20;
/// More than this at one moment is a loop: time cannot go on while somebody can.
const MOST_AT_ONCE: u64 = 5_000;

/// What happened. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Arc<Mutex<Lines>>, Arc<Notify>);

#[derive(Debug)]
struct Lines {
    lines: VecDeque<String>,
    kept: usize,
    hash: u64,
    count: u64,
    /// The last moment at which something happened, and how much had happened before.
    moment: (Duration, u64),
    wrong: Vec<String>,
}

impl Default for Lines {
    fn default() -> Self {
        let kept = std::env::var("SIMULATION_LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(KEPT);
        let moment = (Duration::ZERO, 0);
        Self { lines: VecDeque::new(), kept, hash: 0xcbf2_9ce4_8422_2325, count: 0, moment, wrong: Vec::new() }
    }
}

impl History {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, once nothing is wrong yet.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if self.is_wrong() {
            return;
        }
        let line = line();
        let mut lines = self.lines();
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        lines.hash = line.bytes().fold(lines.hash, mix);
        lines.count += 1;
        if lines.lines.len() >= lines.kept {
            lines.lines.pop_front();
        }
        let now = world::elapsed();
        lines.lines.push_back(format!("{:10.3} {line}", now.as_secs_f64()));
        if lines.moment.0 != now {
            lines.moment = (now, lines.count - 1);
        }
        let is_endless = lines.count - lines.moment.1 > MOST_AT_ONCE;
        drop(lines);
        if is_endless {
            self.wrong("there is no end to it, and time stands still".to_owned());
        }
    }

    /// Waits until something is wrong.
    pub(crate) async fn went_wrong(&self) {
        while !self.is_wrong() {
            self.1.notified().await;
        }
    }

    /// Something is as it must never be.
    pub(crate) fn wrong(&self, what: String) {
        let time = world::elapsed().as_secs_f64();
        let mut lines = self.lines();
        if lines.wrong.len() < MOST_WRONG {
            lines.wrong.push(format!("at {time:.3} s: {what}"));
        }
        drop(lines);
        self.1.notify_one();
    }

    /// Whether something was wrong.
    pub(crate) fn is_wrong(&self) -> bool {
        !self.lines().wrong.is_empty()
    }

    /// What was wrong, in the order of its time.
    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.lines().wrong.clone()
    }

    /// A hash of all that happened: the same for the same history.
    pub(crate) fn hash(&self) -> u64 {
        self.lines().hash
    }

    /// How much happened.
    pub(crate) fn count(&self) -> u64 {
        self.lines().count
    }

    /// The last lines before it went wrong.
    pub(crate) fn tail(&self) -> String {
        self.lines().lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_round_in_circles_at_one_moment_is_wrong() {
        let history = History::default();
        (0..MOST_AT_ONCE).for_each(|_| history.note(|| "again".to_owned()));
        assert!(!history.is_wrong());
        history.note(|| "again".to_owned());
        assert!(history.is_wrong());
    }

    #[test]
    fn the_hash_tells_histories_apart_and_nothing_is_noted_after_the_first_wrong() {
        let (one, other) = (History::default(), History::default());
        assert_eq!(one.hash(), other.hash());
        one.note(|| "a".to_owned());
        assert_ne!(one.hash(), other.hash());
        one.wrong("broken".to_owned());
        one.note(|| "b".to_owned());
        assert_eq!((one.count(), one.tail().contains('b'), one.is_wrong()), (1, false, true));
    }
}
