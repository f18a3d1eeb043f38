//! Which of the candidates loses its pods.

use k8s_openapi::jiff::Timestamp;

use super::{Candidate, started};
use crate::framework::PodInfo;

/// What is compared, in this order; less is better.
type Harm = (usize, i32, i64, usize, std::cmp::Reverse<Timestamp>);

/// The candidate that does the least harm; the first of those alike.
pub(super) fn best(candidates: Vec<Candidate<'_>>) -> Option<Candidate<'_>> {
    candidates.into_iter().min_by_key(harm)
}

/// Budgets that break, the priority of the most important victim, the sum of the priorities, the number of victims, and
/// how short the most important ones have run.
fn harm(candidate: &Candidate<'_>) -> Harm {
    let pods = &candidate.victims.pods;
    let highest = pods.iter().map(|pod| pod.priority).max().unwrap_or(i32::MIN);
    let first = pods.iter().filter(|pod| pod.priority == highest).map(|pod| started(pod)).min();
    let sum = pods.iter().map(|pod| weight(pod)).sum();
    (candidate.victims.violations, highest, sum, pods.len(), std::cmp::Reverse(first.unwrap_or(Timestamp::MIN)))
}

/// A priority as a number above zero, so that many pods of low priority never weigh less than few.
fn weight(pod: &PodInfo) -> i64 {
    i64::from(pod.priority) + i64::from(i32::MAX) + 1
}
