//! What is to be done with a target, by what was observed of it (upstream: `reconcileAutoscaler` and
//! `computeReplicasForMetrics`). Pure.

use std::time::Duration;

use facts::quantity::Quantity;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricStatus,
};
use tokio::time::Instant;

use crate::autoscaler::behavior::{Behavior, History, Verdict, Wish, by_default};
use crate::autoscaler::calculate::Tolerances;
use crate::autoscaler::evaluate::{Proposal, Trouble};
use crate::autoscaler::status::{Condition, Draft};

/// Between what a target stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::autoscaler) struct Bounds {
    pub(in crate::autoscaler) least: i32,
    pub(in crate::autoscaler) most: i32,
}

impl Bounds {
    pub(in crate::autoscaler) fn of(spec: &HorizontalPodAutoscalerSpec) -> Self {
        Self { least: spec.min_replicas.unwrap_or(1), most: spec.max_replicas }
    }
}

/// How a target's number of replicas is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::autoscaler) enum Course {
    /// Somebody has set it to nothing: it stays so. Only with `HPAScaleToZero`, which is off, would metrics be asked.
    Off,
    /// It is outside its bounds.
    Into { replicas: i32, reason: &'static str },
    /// By its metrics.
    Measure,
}

impl Course {
    pub(in crate::autoscaler) fn of(current: i32, bounds: Bounds) -> Self {
        if current == 0 {
            return Self::Off;
        }
        if current > bounds.most {
            return Self::Into { replicas: bounds.most, reason: "Current number of replicas above Spec.MaxReplicas" };
        }
        if current < bounds.least {
            return Self::Into { replicas: bounds.least, reason: "Current number of replicas below Spec.MinReplicas" };
        }
        Self::Measure
    }
}

/// What all metrics together want.
#[derive(Debug, PartialEq)]
pub(in crate::autoscaler) struct Tally {
    /// The most that one wants, and which; or why nothing can be done.
    pub(in crate::autoscaler) wanted: Result<(i32, String), String>,
    /// The status of each, empty for those that say nothing.
    pub(in crate::autoscaler) statuses: Vec<MetricStatus>,
    /// How many say nothing.
    pub(in crate::autoscaler) broken: usize,
}

/// Sums up what metrics say. One that says nothing stops a target from shrinking: it might have wanted more.
pub(in crate::autoscaler) fn tally(draft: &mut Draft, metrics: Vec<Result<Proposal, Trouble>>, current: i32) -> Tally {
    let (all, mut statuses) = (metrics.len(), Vec::new());
    let (mut first, mut broken) = (None, 0_usize);
    let mut highest: Option<(i32, String)> = None;
    for metric in metrics {
        match metric {
            Ok(proposal) => {
                let is_higher = |known: &(i32, String)| known.0 == 0 || proposal.replicas > known.0;
                if highest.as_ref().is_none_or(is_higher) {
                    highest = Some((proposal.replicas, proposal.name));
                }
                statuses.push(proposal.status);
            }
            Err(trouble) => {
                draft.warn(trouble.reason, trouble.why.clone());
                broken += 1;
                first.get_or_insert(trouble);
                statuses.push(MetricStatus::default());
            }
        }
    }
    let shrinks = |known: &(i32, String)| broken > 0 && known.0 < current;
    let Some((replicas, name)) = highest.filter(|known| !shrinks(known)) else {
        let said = first.as_ref().map_or("", |trouble| &trouble.at_large);
        let why = format!("invalid metrics ({broken} invalid out of {all}), first error is: {said}");
        if let Some(first) = first {
            let message = format!("the HPA was unable to compute the replica count: {}", first.why);
            draft.set(Condition::ScalingActive, false, first.reason, message);
        }
        return Tally { wanted: Err(why), statuses, broken };
    };
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    draft.set(Condition::ScalingActive, true, "ValidMetricFound", message);
    Tally { wanted: Ok((replicas, name)), statuses, broken }
}

/// Where a target goes that its metrics want at `wanted`, and why.
pub(in crate::autoscaler) fn go(
    draft: &mut Draft,
    spec: &HorizontalPodAutoscalerSpec,
    history: &mut History,
    (current, wanted, name): (i32, i32, &str),
    window: Duration,
    now: Instant,
) -> (i32, String) {
    let (bounds, wanted) = (Bounds::of(spec), wanted.max(0));
    let reason = match wanted.cmp(&current) {
        std::cmp::Ordering::Greater => format!("{name} above target"),
        std::cmp::Ordering::Less => "All metrics below target".to_owned(),
        std::cmp::Ordering::Equal => String::new(),
    };
    let wish = Wish { current, desired: wanted, least: bounds.least, most: bounds.most };
    let verdict = match &spec.behavior {
        Some(behavior) => Behavior::of(behavior, window).judge(history, wish, now),
        None => by_default(history, window, wish, now),
    };
    let Verdict { replicas, able, is_limited, limit } = verdict;
    draft.set(Condition::AbleToScale, true, able.0, able.1);
    draft.set(Condition::ScalingLimited, is_limited, limit.0, limit.1);
    (replicas, reason)
}

/// How far metrics may be off (KEP-4951); `usual` where the autoscaler does not say.
pub(in crate::autoscaler) fn tolerances(behavior: Option<&HorizontalPodAutoscalerBehavior>, usual: f64) -> Tolerances {
    let of = |rules: Option<&HPAScalingRules>| {
        let said = rules.and_then(|rules| rules.tolerance.as_ref()?.0.parse::<Quantity>().ok());
        said.map_or(usual, Quantity::to_f64)
    };
    let rules = |of: fn(&HorizontalPodAutoscalerBehavior) -> Option<&HPAScalingRules>| behavior.and_then(of);
    Tolerances { down: of(rules(|all| all.scale_down.as_ref())), up: of(rules(|all| all.scale_up.as_ref())) }
}

#[cfg(test)]
mod tests;
