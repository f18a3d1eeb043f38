//! Making room for important pods by evicting less important ones: upstream's `DefaultPreemption`.
//!
//! ```text
//!  refused nodes where eviction may help -> for each, the fewest victims -> the best node -> nominated, victims evicted
//! ```

mod budgets;
mod choice;
#[cfg(test)]
mod tests;
mod victims;

use std::cmp::{Ordering, Reverse};

use facts::pods;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use self::budgets::Budgets;
use self::victims::Victims;
use crate::cycle::Diagnosis;
use crate::framework::{ClusterEvent, Failed, Plugin, PodInfo, PostFilter, PostFiltered, Preemption};
use crate::profile::{ConfigError, PluginSpec, invalid};

pub(crate) const PLUGIN: PluginSpec =
    PluginSpec::new("DefaultPreemption", |slot| slot.configured(from_arguments)?.post_filter().end());

/// `DefaultPreemptionArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PreemptionArgs {
    min_candidate_nodes_percentage: Option<i64>,
    min_candidate_nodes_absolute: Option<i64>,
}

fn from_arguments(field: &str, args: PreemptionArgs) -> Result<DefaultPreemption, ConfigError> {
    let percentage = args.min_candidate_nodes_percentage.unwrap_or(10);
    let absolute = args.min_candidate_nodes_absolute.unwrap_or(100);
    if !(0..=100).contains(&percentage) {
        return Err(invalid(&format!("{field}.minCandidateNodesPercentage"), "must be 0 to 100"));
    }
    let min_candidates = usize::try_from(absolute)
        .map_err(|_| invalid(&format!("{field}.minCandidateNodesAbsolute"), "must not be negative"))?;
    if percentage == 0 && min_candidates == 0 {
        let why = "minCandidateNodesPercentage and minCandidateNodesAbsolute cannot both be zero";
        return Err(invalid(field, why));
    }
    Ok(DefaultPreemption { min_candidate_percentage: usize::try_from(percentage).unwrap_or(100), min_candidates })
}

/// The condition of pods that are evicted, and the reason that says that the scheduler did it.
pub(crate) const DISRUPTION_TARGET: &str = "DisruptionTarget";
pub(crate) const BY_SCHEDULER: &str = "PreemptionByScheduler";

/// `spec.priority` and `spec.preemptionPolicy`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DefaultPreemption {
    /// The least part of the nodes to look at for candidates, in percent,
    pub(crate) min_candidate_percentage: usize,
    /// and the least number.
    pub(crate) min_candidates: usize,
}

impl Default for DefaultPreemption {
    fn default() -> Self {
        Self { min_candidate_percentage: 10, min_candidates: 100 }
    }
}

/// A node and the pods that would have to go.
struct Candidate<'a> {
    node: &'a str,
    victims: Victims,
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
    /// The plugins that refused the pod know when to try it again.
    fn may_help(&self, _pod: &PodInfo, _event: &ClusterEvent) -> bool {
        false
    }
}

impl PostFilter for DefaultPreemption {
    fn post_filter(&self, cycle: &Failed<'_>, pod: &PodInfo) -> PostFiltered {
        if let Some(why) = ineligible(cycle, pod) {
            return PostFiltered::Wait(format!("preemption: {why}"));
        }
        let mut diagnosis = Diagnosis { nodes: cycle.snapshot.nodes().len(), ..Diagnosis::default() };
        let candidates = self.candidates(cycle, pod, &mut diagnosis);
        match choice::best(candidates) {
            Some(Candidate { node, victims }) => {
                PostFiltered::Preempt(Preemption { node: node.to_owned(), victims: victims.pods })
            }
            None => PostFiltered::Hopeless(format!("preemption: {diagnosis}")),
        }
    }
}

/// Why the pod may not evict others (now).
fn ineligible(cycle: &Failed<'_>, pod: &PodInfo) -> Option<&'static str> {
    if pod.spec().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let at = cycle.snapshot.position(cycle.nominated?)?;
    // A nominated node that can never be right any more: another must be found.
    if !cycle.resolvable.contains(&at) {
        return None;
    }
    let node = cycle.snapshot.nodes().get(at)?;
    let leaving = node.pods.iter().any(|other| other.priority < pod.priority && is_leaving(other));
    leaving.then_some("not eligible due to a terminating pod on the nominated node.")
}

/// Whether a pod is terminating because a scheduler evicted it.
fn is_leaving(pod: &PodInfo) -> bool {
    let evicted = pods::condition(&pod.pod, DISRUPTION_TARGET);
    pod.is_terminating()
        && evicted.is_some_and(|found| found.status == "True" && found.reason.as_deref() == Some(BY_SCHEDULER))
}

impl DefaultPreemption {
    /// Nodes that would do, at least one of them without harm to a budget if there is one. Why the others would not do goes
    /// into `diagnosis`.
    fn candidates<'a>(&self, cycle: &'a Failed<'_>, pod: &PodInfo, diagnosis: &mut Diagnosis) -> Vec<Candidate<'a>> {
        let budgets = Budgets::new(cycle.snapshot);
        let count = cycle.resolvable.len();
        let enough = self.enough(count);
        let (mut gentle, mut harmful) = (Vec::new(), Vec::new());
        for step in 0..count {
            let at = cycle.resolvable[(offset(cycle.random, count) + step) % count];
            let Some(node) = cycle.snapshot.nodes().get(at) else { continue };
            match victims::select(cycle, pod, node, &budgets) {
                Err(no) => diagnosis.count(&no.reasons),
                Ok(victims) => {
                    let list = if victims.violations == 0 { &mut gentle } else { &mut harmful };
                    list.push(Candidate { node: &node.name, victims });
                    if !gentle.is_empty() && gentle.len() + harmful.len() >= enough {
                        break;
                    }
                }
            }
        }
        if diagnosis.nodes > count {
            diagnosis.count_many("Preemption is not helpful for scheduling", diagnosis.nodes - count);
        }
        harmful.truncate(enough);
        gentle.append(&mut harmful);
        gentle
    }

    fn enough(&self, nodes: usize) -> usize {
        (nodes * self.min_candidate_percentage / 100).max(self.min_candidates).min(nodes)
    }
}

/// Where the search begins, so that not always the same nodes lose their pods.
fn offset(random: u64, count: usize) -> usize {
    usize::try_from(random % count as u64).unwrap_or(0)
}

/// `Less` when `a` is more important: of higher priority, or running for longer.
fn importance(a: &PodInfo, b: &PodInfo) -> Ordering {
    Reverse(a.priority).cmp(&Reverse(b.priority)).then_with(|| started(a).cmp(&started(b)))
}

/// When a pod started; one that has not is taken to start now, after all others.
fn started(pod: &PodInfo) -> Timestamp {
    let time = pod.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    time.map_or(Timestamp::MAX, |time| time.0)
}
