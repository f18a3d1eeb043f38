//! What was used between two samples: counters become rates (upstream: `storage.resourceUsage` of the metrics-server).
//! Pure.

use std::collections::{BTreeMap, HashMap};

use super::sample::{Containers, Point, Sample};

/// A container that began after the first sample is counted from its beginning on, if it has run for so long
/// (milliseconds).
const YOUNGEST: i64 = 1_000;
/// ... and no longer than so: then the first sample should have had it.
const OLDEST: i64 = 60_000;
/// Nanoseconds in a millisecond.
const NANOS: i64 = 1_000_000;

/// What was used in a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// The end of the window: milliseconds since the epoch.
    pub(crate) at: i64,
    /// How long it is, in nanoseconds.
    pub(crate) window: i64,
    /// Billionths of a core.
    pub(crate) cpu: i64,
    /// Bytes.
    pub(crate) memory: i64,
}

/// What containers used, by their names.
pub(crate) type UsedByContainer = BTreeMap<Box<str>, Used>;

/// What a node, and the containers of pods on it, used.
#[derive(Debug)]
pub(crate) struct Rates {
    pub(crate) node: Option<Used>,
    /// By namespace and name of the pod.
    pods: HashMap<(Box<str>, Box<str>), UsedByContainer>,
}

impl Rates {
    /// What was used between two samples. A pod is there with all containers that the second one has, or not at all.
    pub(super) fn between(older: &Sample, newer: &Sample) -> Self {
        let node = newer.node.as_ref().and_then(|point| used(older.node.as_ref(), point));
        let pods = newer.pods.iter().filter_map(|(pod, containers)| {
            let used = all_used(older.pods.get(pod), containers)?;
            Some((pod.clone(), used))
        });
        Self { node, pods: pods.collect() }
    }

    /// The containers of a pod by their names.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&UsedByContainer> {
        self.pods.get(&(namespace.into(), name.into()))
    }
}

fn all_used(older: Option<&Containers>, newer: &Containers) -> Option<UsedByContainer> {
    let before = |name| older.and_then(|older| older.get(name));
    newer.iter().map(|(name, point)| Some((name.clone(), used(before(name), point)?))).collect()
}

/// What was used between two points of the same life, or since the beginning of a new one.
fn used(older: Option<&Point>, newer: &Point) -> Option<Used> {
    let is_same_life = |older: &&Point| newer.began.is_none_or(|began| began <= older.at) && newer.cpu >= older.cpu;
    let (from, cpu) = match older.filter(is_same_life) {
        Some(older) => (older.at, newer.cpu - older.cpu),
        None => {
            let began = newer.began?;
            let age = newer.at.checked_sub(began)?;
            (YOUNGEST..=OLDEST).contains(&age).then_some((began, newer.cpu))?
        }
    };
    let window = newer.at.checked_sub(from)?.checked_mul(NANOS).filter(|window| *window > 0)?;
    let cores = u128::from(cpu) * 1_000_000_000 / u128::try_from(window).ok()?;
    let bounded = |value: u128| i64::try_from(value).unwrap_or(i64::MAX);
    Some(Used { at: newer.at, window, cpu: bounded(cores), memory: bounded(newer.memory.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn point(at: i64, cpu: u64, began: Option<i64>) -> Point {
        Point { at, cpu, memory: 4096, began }
    }

    #[test]
    fn a_rate_is_what_was_used_by_the_time_that_passed() {
        let check = |older: Option<Point>, newer: Point, expected: Option<(i64, i64)>| {
            let found = used(older.as_ref(), &newer).map(|used| (used.window / NANOS, used.cpu));
            assert_eq!(found, expected, "{older:?} {newer:?}");
        };
        let old = Some(0);
        check(Some(point(10_000, SECOND, old)), point(25_000, 4 * SECOND, old), Some((15_000, 200_000_000)));
        check(Some(point(10_000, SECOND, None)), point(11_000, SECOND, None), Some((1_000, 0)));
        // The same moment, or an earlier one.
        check(Some(point(10_000, SECOND, old)), point(10_000, SECOND, old), None);
        check(Some(point(10_000, SECOND, old)), point(9_000, 2 * SECOND, old), None);
        // A counter that goes back within one life.
        check(Some(point(100_000, 2 * SECOND, old)), point(115_000, SECOND, old), None);
        // A new life: counted from its beginning.
        check(Some(point(10_000, 9 * SECOND, old)), point(25_000, SECOND, Some(23_000)), Some((2_000, 500_000_000)));
        check(None, point(25_000, SECOND, Some(23_000)), Some((2_000, 500_000_000)));
        // Too young, too old, from the future.
        check(None, point(25_000, SECOND, Some(24_500)), None);
        check(None, point(99_000, SECOND, Some(2_000)), None);
        check(None, point(25_000, SECOND, Some(26_000)), None);
        check(None, point(25_000, SECOND, None), None);
    }

    #[test]
    fn no_figures_overflow() {
        for at in [i64::MIN, -1, 0, i64::MAX] {
            for began in [None, Some(i64::MIN), Some(i64::MAX)] {
                let _ = used(Some(&point(i64::MIN, 0, began)), &point(at, u64::MAX, began));
                let _ = used(None, &point(at, u64::MAX, began));
            }
        }
        let lie = used(Some(&point(0, 0, None)), &point(1, u64::MAX, None)).unwrap();
        assert_eq!(lie.cpu, i64::MAX);
    }

    #[test]
    fn a_pod_is_there_with_all_its_containers_or_not_at_all() {
        let points = |names: &[&str], at: i64| -> Containers {
            names.iter().map(|name| (Box::from(*name), point(at, SECOND, Some(0)))).collect()
        };
        assert_eq!(all_used(Some(&points(&["a"], 1)), &points(&["a", "b"], 100_000)), None);
        let both = all_used(Some(&points(&["a", "b", "gone"], 1)), &points(&["a", "b"], 100_000)).unwrap();
        assert_eq!(both.keys().map(AsRef::as_ref).collect::<Vec<_>>(), ["a", "b"]);
    }
}
