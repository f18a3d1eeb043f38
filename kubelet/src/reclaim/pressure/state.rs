//! What the looks of some time come to (upstream: the first half of `synchronize`).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::observations::Observations;
use crate::config::evictions::{Rule, Rules};
use crate::signals::{Condition, Conditions, Seen, Signal};

/// Which rules are broken, and which conditions hold.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Since when, by the place of the rule.
    broken: BTreeMap<usize, Instant>,
    /// When there was a reason last.
    reasons: BTreeMap<Condition, Instant>,
    holding: Conditions,
}

/// A rule for which something must be done now.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) signal: Signal,
    /// What is left.
    pub(super) seen: Seen,
    /// What must be.
    pub(super) least: u64,
    /// How long a pod has to end; `None` for no time at all.
    pub(super) grace: Option<Duration>,
    rule: Rule,
}

impl State {
    /// Takes a look in; answers what is due, memory first.
    pub(super) fn look(&mut self, rules: &Rules, seen: &Observations, now: Instant) -> Option<Due> {
        let before = std::mem::take(&mut self.broken);
        let mut due = None;
        for (place, rule) in rules.rules.iter().enumerate() {
            let Some(seen) = seen.get(rule.signal) else { continue };
            let is_broken = rule.is_broken(seen) || (before.contains_key(&place) && !rule.is_mended(seen));
            if !is_broken {
                continue;
            }
            let since = before.get(&place).copied().unwrap_or(now);
            self.broken.insert(place, since);
            self.reasons.insert(rule.signal.condition(), now);
            if due.is_none() && now - since >= rule.borne.unwrap_or_default() {
                due = Some(Due {
                    signal: rule.signal,
                    seen,
                    least: rule.least.amount(seen.capacity),
                    grace: rule.borne.map(|_| rules.longest_grace),
                    rule: rule.clone(),
                });
            }
        }
        self.hold(rules.transition, now);
        due
    }

    /// A condition lasts for a while after its last reason, so that a node does not go to and fro.
    fn hold(&mut self, transition: Duration, now: Instant) {
        self.reasons.retain(|_, last| now - *last < transition || *last == now);
        self.holding = Conditions::default();
        self.reasons.keys().for_each(|condition| self.holding.add(*condition));
    }

    /// The conditions that hold.
    pub(super) fn conditions(&self) -> Conditions {
        self.holding
    }
}

impl Due {
    /// Whether enough is left now.
    pub(super) fn is_relieved_by(&self, seen: &Observations) -> bool {
        seen.get(self.signal).is_none_or(|seen| self.rule.is_mended(seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::threshold::Threshold;

    const MINUTE: Duration = Duration::from_secs(60);

    fn rules() -> Rules {
        let rule = |signal, least, borne| Rule {
            signal,
            least: Threshold::Bytes(least),
            borne,
            reclaim: Some(Threshold::Bytes(10)),
        };
        let rules = vec![
            rule(Signal::Memory, 100, None),
            rule(Signal::Memory, 200, Some(MINUTE)),
            rule(Signal::Nodefs, 50, None),
        ];
        Rules { rules, longest_grace: Duration::from_secs(7), transition: 5 * MINUTE }
    }

    fn seen(memory: u64, disk: u64) -> Observations {
        let at = |available| Some(Seen { available, capacity: 1000 });
        Observations { memory: at(memory), disk: at(disk), ..Observations::default() }
    }

    #[test]
    fn what_is_soft_is_borne_for_its_time() {
        let (rules, start) = (rules(), Instant::now());
        let mut state = State::default();
        assert!(state.look(&rules, &seen(150, 500), start).is_none());
        assert_eq!(state.conditions(), Conditions { memory: true, ..Conditions::default() });
        // Once enough was left, the time begins anew.
        assert!(state.look(&rules, &seen(210, 500), start + MINUTE / 2).is_none());
        assert!(state.look(&rules, &seen(150, 500), start + MINUTE).is_none());
        let due = state.look(&rules, &seen(150, 500), start + 2 * MINUTE).unwrap();
        assert_eq!((due.signal, due.least, due.grace), (Signal::Memory, 200, Some(Duration::from_secs(7))));
        let due = state.look(&rules, &seen(99, 500), start + 2 * MINUTE).unwrap();
        assert_eq!((due.least, due.grace), (100, None));
    }

    #[test]
    fn a_broken_rule_asks_for_more_than_its_threshold() {
        let (rules, start) = (rules(), Instant::now());
        let mut state = State::default();
        assert!(state.look(&rules, &seen(500, 55), start).is_none(), "never broken");
        let due = state.look(&rules, &seen(500, 49), start).unwrap();
        assert!(!due.is_relieved_by(&seen(500, 59)) && due.is_relieved_by(&seen(500, 60)));
        assert!(state.look(&rules, &seen(500, 59), start).is_some());
        assert!(state.look(&rules, &seen(500, 60), start).is_none());
    }

    #[test]
    fn a_condition_outlives_its_reason_and_memory_comes_first() {
        let (rules, start) = (rules(), Instant::now());
        let mut state = State::default();
        assert_eq!(state.look(&rules, &seen(10, 10), start).unwrap().signal, Signal::Memory);
        let both = Conditions { memory: true, disk: true, pids: false };
        assert_eq!((state.conditions(), both.to_string()), (both, "[DiskPressure MemoryPressure]".to_owned()));
        assert!(state.look(&rules, &seen(500, 500), start + 4 * MINUTE).is_none());
        assert_eq!(state.conditions(), both);
        assert!(state.look(&rules, &seen(500, 500), start + 5 * MINUTE).is_none());
        assert!(state.conditions().are_calm());
    }

    #[test]
    fn what_a_machine_does_not_tell_is_not_short() {
        let mut state = State::default();
        assert!(state.look(&rules(), &Observations::default(), Instant::now()).is_none());
        assert!(state.conditions().are_calm());
    }
}
