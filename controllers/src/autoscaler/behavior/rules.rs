//! What an autoscaler says of its behaviour (`spec.behavior`).

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};
use tokio::time::Instant;

use super::History;

/// Rules for both directions.
#[derive(Clone, Debug)]
pub(in crate::autoscaler) struct Behavior {
    pub(super) up: Rules,
    pub(super) down: Rules,
}

/// Rules for one direction.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// How long recommendations count.
    pub(super) window: Duration,
    select: Select,
    policies: Vec<Policy>,
}

/// Which policy counts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Select {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    Disabled,
}

/// How much may change in a period.
#[derive(Clone, Copy, Debug)]
struct Policy {
    is_percent: bool,
    value: i32,
    period: Duration,
}

impl Behavior {
    /// Reads it. `window` is that for going down where it does not say.
    pub(in crate::autoscaler) fn of(behavior: &HorizontalPodAutoscalerBehavior, window: Duration) -> Self {
        Self {
            up: Rules::of(behavior.scale_up.as_ref(), Duration::ZERO),
            down: Rules::of(behavior.scale_down.as_ref(), window),
        }
    }
}

impl Rules {
    fn of(rules: Option<&HPAScalingRules>, window: Duration) -> Self {
        let seconds = rules.and_then(|rules| rules.stabilization_window_seconds);
        let select = match rules.and_then(|rules| rules.select_policy.as_deref()) {
            Some("Disabled") => Select::Disabled,
            Some("Min") => Select::Min,
            _ => Select::Max,
        };
        let policies = rules.iter().flat_map(|rules| rules.policies.iter().flatten());
        let policies = policies.map(|policy| Policy {
            is_percent: policy.type_ == "Percent",
            value: policy.value,
            period: seconds_of(policy.period_seconds),
        });
        Self { window: seconds.map_or(window, seconds_of), select, policies: policies.collect() }
    }

    /// The most replicas that policies allow now (upstream: `calculateScaleUpLimitWithScalingRules`).
    pub(super) fn highest(&self, history: &History, current: i32, now: Instant) -> i32 {
        let limits = self.policies.iter().map(|policy| policy.highest(policy.start(history, current, now)));
        let limit = match self.select {
            Select::Disabled => None,
            Select::Max => limits.max(),
            Select::Min => limits.min(),
        };
        limit.unwrap_or(current)
    }

    /// The fewest replicas that policies allow now (upstream: `calculateScaleDownLimitWithBehaviors`).
    pub(super) fn lowest(&self, history: &History, current: i32, now: Instant) -> i32 {
        let limits = self.policies.iter().map(|policy| policy.lowest(policy.start(history, current, now)));
        let limit = match self.select {
            Select::Disabled => None,
            Select::Max => limits.min(),
            Select::Min => limits.max(),
        };
        limit.unwrap_or(current)
    }

    pub(super) fn longest(&self) -> Duration {
        self.policies.iter().map(|policy| policy.period).max().unwrap_or_default()
    }
}

impl Policy {
    /// How many replicas there were when the period began.
    fn start(&self, history: &History, current: i32, now: Instant) -> i32 {
        current.saturating_sub(history.changed(now, self.period))
    }

    /// Rounded up: a percentage of few would never allow one more.
    fn highest(&self, start: i32) -> i32 {
        if self.is_percent {
            return (f64::from(start) * (1.0 + f64::from(self.value) / 100.0)).ceil() as i32;
        }
        start.saturating_add(self.value)
    }

    fn lowest(&self, start: i32) -> i32 {
        if self.is_percent {
            return (f64::from(start) * (1.0 - f64::from(self.value) / 100.0)) as i32;
        }
        start.saturating_sub(self.value)
    }
}

fn seconds_of(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
