//! After how many seconds those who are turned away shall come back: longer while many are turned away. Upstream:
//! `droppedRequestsTracker`.

use std::collections::VecDeque;

use tokio::time::Instant;

/// Never longer.
const LONGEST: u32 = 32;

/// What is known of those who were turned away.
#[derive(Debug, Default)]
pub(super) struct Retry {
    start: Option<Instant>,
    /// By second, of the last ones.
    turned_away: VecDeque<(u64, u64)>,
    after: u32,
    changed: u64,
}

impl Retry {
    /// Notes one more, and says when it may come back.
    pub(super) fn turned_away(&mut self, now: Instant) -> u32 {
        let start = *self.start.get_or_insert(now);
        self.note(now.saturating_duration_since(start).as_secs());
        self.after
    }

    fn note(&mut self, second: u64) {
        self.after = self.after.max(1);
        match self.turned_away.back_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => self.turned_away.push_back((second, 1)),
        }
        let oldest = second.saturating_sub(LONGEST.into());
        while self.turned_away.front().is_some_and(|(of, _)| *of < oldest) {
            self.turned_away.pop_front();
        }
        let after = u64::from(self.after);
        if second - self.changed < after {
            return;
        }
        let recent = self.turned_away.iter().filter(|(of, _)| of + after >= second);
        let count: u64 = recent.map(|(_, count)| count).sum();
        if count < after {
            // Fewer than one a second.
            self.after = (self.after - 1).max(1);
            self.changed = second;
        } else if count >= 3 * after {
            self.after = (self.after * 2).min(LONGEST);
            self.changed = second;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_who_are_turned_away_are_asked_to_stay_away_longer() {
        let mut retry = Retry::default();
        let mut seen = Vec::new();
        for second in 0..100 {
            (0..10).for_each(|_| retry.note(second));
            if seen.last() != Some(&retry.after) {
                seen.push(retry.after);
            }
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 32]);
        for second in (1000..2000).step_by(40) {
            retry.note(second);
        }
        assert!(retry.after < 10, "{}", retry.after);
    }
}
