//! The status of an autoscaler as it is worked out, and the events on the way (upstream: `setCondition`, `setStatus`).

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The conditions that there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Condition {
    AbleToScale,
    ScalingActive,
    ScalingLimited,
    /// Of the feature gate `HPAScaleToZero`, which is off: only taken away.
    ScaledToZero,
}

impl Condition {
    fn name(self) -> &'static str {
        match self {
            Self::AbleToScale => "AbleToScale",
            Self::ScalingActive => "ScalingActive",
            Self::ScalingLimited => "ScalingLimited",
            Self::ScaledToZero => "ScaledToZero",
        }
    }
}

/// Something to tell the user.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notice {
    pub(super) is_warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What is to be said of an autoscaler.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) status: HorizontalPodAutoscalerStatus,
    pub(super) notices: Vec<Notice>,
    now: Timestamp,
}

impl Draft {
    /// Starts with what was said before.
    pub(super) fn of(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        Self { status: autoscaler.status.clone().unwrap_or_default(), notices: Vec::new(), now }
    }

    pub(super) fn warn(&mut self, reason: &'static str, message: impl Into<String>) {
        self.notices.push(Notice { is_warning: true, reason, message: message.into() });
    }

    pub(super) fn tell(&mut self, reason: &'static str, message: impl Into<String>) {
        self.notices.push(Notice { is_warning: false, reason, message: message.into() });
    }

    pub(super) fn set(&mut self, kind: Condition, holds: bool, reason: &str, message: impl Into<String>) {
        let conditions = self.status.conditions.get_or_insert_default();
        let at = conditions.iter().position(|known| known.type_ == kind.name()).unwrap_or_else(|| {
            conditions.push(HorizontalPodAutoscalerCondition { type_: kind.name().to_owned(), ..Default::default() });
            conditions.len() - 1
        });
        let (condition, status) = (&mut conditions[at], if holds { "True" } else { "False" });
        if condition.status != status {
            condition.last_transition_time = Some(Time(self.now));
        }
        condition.status = status.to_owned();
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.into());
    }

    pub(super) fn take_away(&mut self, kind: Condition) {
        if let Some(conditions) = &mut self.status.conditions {
            conditions.retain(|condition| condition.type_ != kind.name());
        }
    }

    /// The numbers. This version of Kubernetes counts no generations of autoscalers, and observes none.
    pub(super) fn count(&mut self, current: i32, desired: i32, metrics: Vec<MetricStatus>) {
        self.status.current_replicas = Some(current);
        self.status.desired_replicas = desired;
        self.status.current_metrics = Some(metrics);
        self.status.observed_generation = None;
    }

    pub(super) fn rescaled(&mut self) {
        self.status.last_scale_time = Some(Time(self.now));
    }

    /// Whether it says something else than what the autoscaler says already.
    pub(super) fn is_news(&self, autoscaler: &HorizontalPodAutoscaler) -> bool {
        plain(self.status.clone()) != plain(autoscaler.status.clone().unwrap_or_default())
    }
}

/// With what is empty left out.
fn plain(mut status: HorizontalPodAutoscalerStatus) -> HorizontalPodAutoscalerStatus {
    status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
    status.current_metrics = status.current_metrics.filter(|metrics| !metrics.is_empty());
    status.current_replicas = status.current_replicas.filter(|replicas| *replicas != 0);
    status
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let before = "2026-01-01T00:00:00Z";
        let condition = json!({"type": "AbleToScale", "status": "True", "reason": "a", "lastTransitionTime": before});
        let status = json!({"conditions": [condition], "desiredReplicas": 0, "currentMetrics": null});
        let autoscaler: HorizontalPodAutoscaler = from_value(json!({"metadata": {}, "status": status})).unwrap();
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let mut draft = Draft::of(&autoscaler, now);
        draft.count(0, 0, Vec::new());
        assert!(!draft.is_news(&autoscaler), "what is empty is not news");
        let time =
            |draft: &Draft| draft.status.conditions.as_ref().unwrap()[0].last_transition_time.as_ref().unwrap().0;
        draft.set(Condition::AbleToScale, true, "b", "m");
        assert_eq!(time(&draft), before.parse().unwrap());
        assert!(draft.is_news(&autoscaler));
        draft.set(Condition::AbleToScale, false, "b", "m");
        assert_eq!(time(&draft), now);
        draft.set(Condition::ScalingActive, true, "c", "m");
        draft.take_away(Condition::AbleToScale);
        let left: Vec<_> = draft.status.conditions.iter().flatten().map(|known| known.type_.as_str()).collect();
        assert_eq!(left, ["ScalingActive"]);
    }
}
