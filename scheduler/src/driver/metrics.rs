//! What the scheduler counts, under upstream's names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::framework::PostFiltered;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: &'static str,
}

pub(super) struct Metrics {
    attempts: Family<ResultLabel, Counter>,
    pub(super) decision: Histogram,
    pub(super) latency: Histogram,
    pending: Family<QueueLabel, Gauge>,
    preemptions: Counter,
    victims: Histogram,
}

impl Metrics {
    pub(super) fn new(metrics: &daemon::Metrics) -> Self {
        let buckets = || exponential_buckets(0.000_05, 2.0, 18);
        let new = Self {
            attempts: Family::default(),
            decision: Histogram::new(buckets()),
            latency: Histogram::new(buckets()),
            pending: Family::default(),
            preemptions: Counter::default(),
            victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
        };
        metrics.register(|registry| {
            registry.register("scheduler_schedule_attempts", "Attempts by result", new.attempts.clone());
            registry.register(
                "scheduler_scheduling_algorithm_duration_seconds",
                "Time of decisions",
                new.decision.clone(),
            );
            registry.register(
                "scheduler_pod_scheduling_sli_duration_seconds",
                "Time from the queue to the binding",
                new.latency.clone(),
            );
            registry.register("scheduler_preemption_attempts", "Attempts to make room", new.preemptions.clone());
            registry.register("scheduler_preemption_victims", "Victims of a preemption", new.victims.clone());
            registry.register("scheduler_pending_pods", "Waiting pods by queue", new.pending.clone());
        });
        new
    }

    pub(super) fn count(&self, result: &'static str) {
        self.attempts.get_or_create(&ResultLabel { result }).inc();
    }

    pub(super) fn depth(&self, depth: [usize; 4]) {
        for (queue, count) in ["active", "backoff", "unschedulable", "gated"].into_iter().zip(depth) {
            self.pending.get_or_create(&QueueLabel { queue }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts an attempt to make room, and its victims if there are any.
    pub(super) fn preemption(&self, outcome: &PostFiltered) {
        self.preemptions.inc();
        if let PostFiltered::Preempt(plan) = outcome {
            self.victims.observe(u32::try_from(plan.victims.len()).map_or(f64::MAX, f64::from));
        }
    }
}
