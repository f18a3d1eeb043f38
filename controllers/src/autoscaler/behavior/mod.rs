//! How far and how fast a target may go where its metrics want it (upstream: `normalizeDesiredReplicas` and
//! `normalizeDesiredReplicasWithBehaviors`, KEP-853).

mod history;
mod rules;

use std::time::Duration;

use tokio::time::Instant;

pub(super) use history::History;
pub(super) use rules::Behavior;

/// Where a target is, where its metrics want it, and between what it stays.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) current: i32,
    pub(super) desired: i32,
    pub(super) least: i32,
    pub(super) most: i32,
}

/// Why something is as it is: the reason and the message of a condition.
pub(super) type Said = (&'static str, &'static str);

/// Where a target goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) replicas: i32,
    pub(super) able: Said,
    pub(super) is_limited: bool,
    pub(super) limit: Said,
}

const READY: Said = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: Said = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Said = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const WITHIN: Said = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FAST_UP: Said =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: Said =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: Said = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Said = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");

/// For an autoscaler that says nothing of its behaviour: down to the highest wish of a window, up to twice as many or four.
pub(super) fn by_default(history: &mut History, window: Duration, wish: Wish, now: Instant) -> Verdict {
    let highest = history.recommendations(now, window).fold(wish.desired, i32::max);
    history.recommend(wish.desired, now, window);
    let able = if highest == wish.desired { READY } else { DOWN_STABILIZED };
    let rate = wish.current.saturating_mul(2).max(4);
    let (most, limit) = if wish.most > rate { (rate, TOO_FAST_UP) } else { (wish.most, TOO_MANY) };
    let (replicas, limit) = if highest < wish.least {
        (wish.least, TOO_FEW)
    } else if highest > most {
        (most, limit)
    } else {
        (highest, WITHIN)
    };
    Verdict { replicas, able, is_limited: replicas != highest, limit }
}

impl Behavior {
    /// For an autoscaler that says how it behaves.
    pub(super) fn judge(&self, history: &mut History, wish: Wish, now: Instant) -> Verdict {
        let stable = self.stabilized(history, wish, now);
        let able = match stable {
            _ if stable == wish.desired => READY,
            _ if wish.desired >= wish.current => UP_STABILIZED,
            _ => DOWN_STABILIZED,
        };
        let (replicas, limit) = self.limited(history, Wish { desired: stable, ..wish }, now);
        Verdict { replicas, able, is_limited: replicas != stable, limit }
    }

    /// Between the lowest wish of the window for going up and the highest of that for going down.
    fn stabilized(&self, history: &mut History, wish: Wish, now: Instant) -> i32 {
        let lowest = history.recommendations_after(now, self.up.window).fold(wish.desired, i32::min);
        let highest = history.recommendations_after(now, self.down.window).fold(wish.desired, i32::max);
        history.recommend(wish.desired, now, self.up.window.max(self.down.window));
        wish.current.max(lowest).min(highest)
    }

    fn limited(&self, history: &History, wish: Wish, now: Instant) -> (i32, Said) {
        if wish.desired > wish.current {
            let rate = self.up.highest(history, wish.current, now).max(wish.current);
            let (most, limit) = if wish.most > rate { (rate, TOO_FAST_UP) } else { (wish.most, TOO_MANY) };
            if wish.desired > most {
                return (most, limit);
            }
        } else if wish.desired < wish.current {
            let rate = self.down.lowest(history, wish.current, now).min(wish.current);
            let (least, limit) = if wish.least < rate { (rate, TOO_FAST_DOWN) } else { (wish.least, TOO_FEW) };
            if wish.desired < least {
                return (least, limit);
            }
        }
        (wish.desired, WITHIN)
    }

    /// Remembers that the target went from one number to another, as long as a policy may ask.
    pub(super) fn note(&self, history: &mut History, from: i32, to: i32, now: Instant) {
        history.change(to.saturating_sub(from), now, self.up.longest().max(self.down.longest()));
    }
}

#[cfg(test)]
mod tests;
