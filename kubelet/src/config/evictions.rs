//! How much must be left on a node (upstream: ParseThresholdConfig).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};

use super::threshold::Threshold;
use crate::signals::{Seen, Signal};

/// What an administrator has written of evictions, by signal.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Below this a pod is ended at once. `None` for what is wise.
    pub hard: Option<BTreeMap<String, String>>,
    /// Whether what is wise holds beside that.
    pub merge_defaults: bool,
    /// Below this a pod is ended when it lasts.
    pub soft: BTreeMap<String, String>,
    /// How long it must last.
    pub soft_grace: BTreeMap<String, String>,
    /// How much more than the threshold is won back.
    pub minimum_reclaim: BTreeMap<String, String>,
    /// The longest that a pod has to end when a soft threshold is crossed.
    pub longest_grace: Duration,
    /// How long a condition stays after the last reason for it; `None` for upstream's five minutes.
    pub transition: Option<Duration>,
}

/// What must be left of everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    pub(crate) rules: Vec<Rule>,
    pub(crate) longest_grace: Duration,
    pub(crate) transition: Duration,
}

/// What must be left of one thing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    pub(crate) signal: Signal,
    pub(crate) least: Threshold,
    /// How long less is borne; `None` when it is not.
    pub(crate) borne: Option<Duration>,
    /// How much more must be there before it is enough.
    pub(crate) reclaim: Option<Threshold>,
}

const TRANSITION: Duration = Duration::from_secs(300);

impl Default for Rules {
    fn default() -> Self {
        Self { rules: wise(), longest_grace: Duration::ZERO, transition: TRANSITION }
    }
}

/// Upstream's 100 MiB are much of a small machine, and its 10 % are very much of a large disk.
fn wise() -> Vec<Rule> {
    let rule = |signal, percent, bytes| Rule {
        signal,
        least: Threshold::AtMost { percent, bytes },
        borne: None,
        reclaim: None,
    };
    vec![
        rule(Signal::Memory, 5.0, 100 << 20),
        rule(Signal::Nodefs, 10.0, 2 << 30),
        rule(Signal::NodefsInodes, 5.0, u64::MAX),
        rule(Signal::Pids, 10.0, u64::MAX),
    ]
}

impl Rules {
    /// Reads what was written.
    ///
    /// # Errors
    /// They name the field and the signal.
    pub fn read(written: &Written) -> anyhow::Result<Self> {
        let reclaim = thresholds("evictionMinimumReclaim", written.minimum_reclaim.iter())?;
        let graces = graces(&written.soft_grace)?;
        let mut rules = Vec::new();
        if let Some(hard) = &written.hard {
            let hard = demands("evictionHard", hard)?.into_iter();
            rules.extend(hard.map(|(signal, least)| Rule { signal, least, borne: None, reclaim: None }));
        }
        if written.hard.is_none() || written.merge_defaults {
            let named = |rule: &Rule| written.hard.as_ref().is_some_and(|hard| hard.contains_key(rule.signal.name()));
            rules.extend(wise().into_iter().filter(|rule| !named(rule)));
        }
        for (signal, least) in demands("evictionSoft", &written.soft)? {
            let borne = graces.get(&signal).copied();
            let borne = borne.with_context(|| {
                format!("grace period must be specified for the soft eviction threshold {}", signal.name())
            })?;
            rules.push(Rule { signal, least, borne: Some(borne), reclaim: None });
        }
        rules.sort_by_key(|rule| rule.signal);
        for rule in &mut rules {
            rule.reclaim = reclaim.get(&rule.signal).copied();
        }
        let transition = written.transition.unwrap_or(TRANSITION);
        Ok(Self { rules, longest_grace: written.longest_grace, transition })
    }

    /// Whether a signal is close to its threshold: below twice of what must be left.
    pub(crate) fn are_near(&self, seen: impl Fn(Signal) -> Option<Seen>) -> bool {
        let is_near = |rule: &Rule, seen: Seen| seen.available / 2 < rule.least.amount(seen.capacity);
        self.rules.iter().any(|rule| seen(rule.signal).is_some_and(|seen| is_near(rule, seen)))
    }
}

impl Rule {
    /// Whether less is left than must be.
    pub(crate) fn is_broken(&self, seen: Seen) -> bool {
        seen.available < self.least.amount(seen.capacity)
    }

    /// Whether so much is left that a rule that was broken is broken no more.
    pub(crate) fn is_mended(&self, seen: Seen) -> bool {
        let more = self.reclaim.map_or(0, |more| more.amount(seen.capacity));
        seen.available >= self.least.amount(seen.capacity).saturating_add(more)
    }
}

/// Thresholds that ask for something: as upstream, 0% and 100% are none.
fn demands(field: &str, written: &BTreeMap<String, String>) -> anyhow::Result<BTreeMap<Signal, Threshold>> {
    let read = thresholds(field, written.iter().filter(|(_, text)| !matches!(text.as_str(), "0%" | "100%")))?;
    match read.iter().find(|(_, least)| **least == Threshold::Bytes(0)) {
        Some((signal, _)) => bail!("{field}: {}: an eviction threshold must be positive", signal.name()),
        None => Ok(read),
    }
}

fn thresholds<'a>(
    field: &str,
    written: impl Iterator<Item = (&'a String, &'a String)>,
) -> anyhow::Result<BTreeMap<Signal, Threshold>> {
    let read = |(name, text): (&String, &String)| {
        let threshold = text.parse().map_err(|why| anyhow!("{field}: {name}: {why}"))?;
        Ok((signal(field, name)?, threshold))
    };
    written.map(read).collect()
}

fn graces(written: &BTreeMap<String, String>) -> anyhow::Result<BTreeMap<Signal, Duration>> {
    const FIELD: &str = "evictionSoftGracePeriod";
    let read = |(name, text): (&String, &String)| {
        let grace = daemon::pflag::duration(text).map_err(|why| anyhow!("{FIELD}: {name}: {why}"))?;
        Ok((signal(FIELD, name)?, grace))
    };
    written.iter().map(read).collect()
}

fn signal(field: &str, name: &str) -> anyhow::Result<Signal> {
    if name == "allocatableMemory.available" {
        bail!("{field}: {name} is not watched here: the pods' own cgroup holds them to what they may have");
    }
    let known = Signal::ALL.into_iter().find(|signal| signal.name() == name);
    known.with_context(|| format!("{field}: there is no signal {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn hard(pairs: &[(&str, &str)]) -> Written {
        Written { hard: Some(map(pairs)), ..Written::default() }
    }

    fn signals(written: &Written) -> Vec<Signal> {
        Rules::read(written).unwrap().rules.iter().map(|rule| rule.signal).collect()
    }

    #[test]
    fn what_is_written_replaces_what_is_wise_unless_both_are_wanted() {
        assert_eq!(Rules::read(&Written::default()).unwrap(), Rules::default());
        let written = hard(&[("nodefs.available", "5%")]);
        assert_eq!(signals(&written), [Signal::Nodefs]);
        let both = Written { merge_defaults: true, ..written };
        assert_eq!(signals(&both), [Signal::Memory, Signal::Nodefs, Signal::NodefsInodes, Signal::Pids]);
        assert_eq!(Rules::read(&both).unwrap().rules[1].least, Threshold::Percent(5.0));
        // So kind turns eviction off.
        assert_eq!(signals(&hard(&[("nodefs.available", "0%"), ("imagefs.available", "0%")])), []);
    }

    #[test]
    fn a_soft_threshold_needs_its_time() {
        let mut written = Written { soft: map(&[("memory.available", "1Gi")]), ..hard(&[]) };
        let err = Rules::read(&written).unwrap_err().to_string();
        assert_eq!(err, "grace period must be specified for the soft eviction threshold memory.available");
        written.soft_grace = map(&[("memory.available", "1m30s")]);
        written.minimum_reclaim = map(&[("memory.available", "0")]);
        let rules = Rules::read(&written).unwrap().rules;
        assert_eq!(rules[0].borne, Some(Duration::from_secs(90)));
        assert_eq!(rules[0].reclaim, Some(Threshold::Bytes(0)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let soft_grace = |text| Written { soft_grace: map(&[("memory.available", text)]), ..Written::default() };
        for (written, expected) in [
            (hard(&[("memory", "1Gi")]), "evictionHard: there is no signal \"memory\""),
            (hard(&[("memory.available", "much")]), "evictionHard: memory.available"),
            (hard(&[("memory.available", "0")]), "must be positive"),
            (hard(&[("allocatableMemory.available", "1Gi")]), "is not watched here"),
            (soft_grace("soon"), "evictionSoftGracePeriod: memory.available"),
        ] {
            let err = Rules::read(&written).unwrap_err().to_string();
            assert!(err.contains(expected), "{err}");
        }
    }

    #[test]
    fn more_than_the_threshold_is_won_back() {
        let written =
            Written { minimum_reclaim: map(&[("memory.available", "50")]), ..hard(&[("memory.available", "100")]) };
        let rule = &Rules::read(&written).unwrap().rules[0];
        let at = |available| Seen { available, capacity: 1000 };
        assert!(rule.is_broken(at(99)) && !rule.is_broken(at(100)));
        assert!(!rule.is_mended(at(149)) && rule.is_mended(at(150)));
    }
}
