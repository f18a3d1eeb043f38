//! What is counted of autoscalers, under upstream's names.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    action: &'static str,
    error: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Computed {
    action: &'static str,
    error: &'static str,
    metric_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    namespace: String,
    hpa_name: String,
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    Spec,
    Internal,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Spec => "spec",
            Self::Internal => "internal",
        }
    }
}

#[derive(Clone)]
pub(super) struct Monitor {
    reconciliations: Family<Outcome, Counter>,
    reconciliation_time: Family<Outcome, Histogram>,
    computations: Family<Computed, Counter>,
    computation_time: Family<Computed, Histogram>,
    pub(super) autoscalers: Gauge,
    desired: Family<Named, Gauge>,
}

impl Monitor {
    pub(super) fn new(metrics: &daemon::Metrics) -> Self {
        let new = Self {
            reconciliations: Family::default(),
            reconciliation_time: Family::new_with_constructor(histogram),
            computations: Family::default(),
            computation_time: Family::new_with_constructor(histogram),
            autoscalers: Gauge::default(),
            desired: Family::default(),
        };
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("horizontal_pod_autoscaler_controller");
            registry.register("reconciliations", "Reconciliations by what came of them", new.reconciliations.clone());
            registry.register(
                "reconciliation_duration_seconds",
                "Time of reconciliations",
                new.reconciliation_time.clone(),
            );
            registry.register("metric_computation", "Computations of metrics", new.computations.clone());
            registry.register(
                "metric_computation_duration_seconds",
                "Time of computations of metrics",
                new.computation_time.clone(),
            );
            registry.register("num_horizontal_pod_autoscalers", "Autoscalers", new.autoscalers.clone());
            registry.register("desired_replicas", "Replicas that autoscalers want", new.desired.clone());
        });
        new
    }

    pub(super) fn reconciled(&self, change: i32, fault: Fault, took: Duration) {
        let outcome = Outcome { action: action(change), error: fault.name() };
        self.reconciliations.get_or_create(&outcome).inc();
        self.reconciliation_time.get_or_create(&outcome).observe(took.as_secs_f64());
    }

    /// A metric that cannot be computed changes nothing.
    pub(super) fn computed(&self, change: i32, fault: Fault, took: Duration, kind: &str) {
        let computed = Computed { action: action(change), error: fault.name(), metric_type: kind.to_owned() };
        self.computations.get_or_create(&computed).inc();
        self.computation_time.get_or_create(&computed).observe(took.as_secs_f64());
    }

    pub(super) fn wants(&self, namespace: &str, name: &str, replicas: i32) {
        self.desired.get_or_create(&named(namespace, name)).set(replicas.into());
    }

    pub(super) fn forget(&self, namespace: &str, name: &str) {
        self.desired.remove(&named(namespace, name));
    }
}

fn named(namespace: &str, name: &str) -> Named {
    Named { namespace: namespace.to_owned(), hpa_name: name.to_owned() }
}

fn action(change: i32) -> &'static str {
    match change.signum() {
        1 => "scale_up",
        -1 => "scale_down",
        _ => "none",
    }
}

fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_the_names_of_upstream_and_forget_what_is_gone() {
        let metrics = daemon::Metrics::default();
        let monitor = Monitor::new(&metrics);
        monitor.reconciled(2, Fault::None, Duration::from_millis(3));
        monitor.computed(0, Fault::Internal, Duration::ZERO, "Resource");
        monitor.wants("n", "a", 3);
        let text = metrics.encode();
        let prefix = "horizontal_pod_autoscaler_controller";
        for line in [
            "reconciliations_total{action=\"scale_up\",error=\"none\"} 1",
            "reconciliation_duration_seconds_count{action=\"scale_up\",error=\"none\"} 1",
            "metric_computation_total{action=\"none\",error=\"internal\",metric_type=\"Resource\"} 1",
            "num_horizontal_pod_autoscalers 0",
            "desired_replicas{namespace=\"n\",hpa_name=\"a\"} 3",
        ] {
            assert!(text.contains(&format!("{prefix}_{line}\n")), "{line} in {text}");
        }
        monitor.forget("n", "a");
        assert!(!metrics.encode().contains("hpa_name"));
    }
}
