//! How health checks ended, as metrics of their own path: cheap to ask for every second. Upstream:
//! `component-base/metrics/prometheus/slis`; KEP-3466.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Check {
    name: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    name: String,
    status: &'static str,
    r#type: &'static str,
}

/// The metrics of health checks.
#[derive(Debug)]
pub(crate) struct Slis {
    last: Family<Check, Gauge>,
    all: Family<Outcome, Counter>,
    metrics: daemon::Metrics,
}

impl Default for Slis {
    fn default() -> Self {
        let slis = Self { last: Family::default(), all: Family::default(), metrics: daemon::Metrics::default() };
        slis.metrics.register(|registry| {
            let help = "This metric records the result of a single healthcheck";
            registry.register("kubernetes_healthcheck", help, slis.last.clone());
            let help = "This metric records the results of all healthcheck";
            registry.register("kubernetes_healthchecks", help, slis.all.clone());
        });
        slis
    }
}

impl Slis {
    /// Counts the outcome of a check. Only checks that there are come here, so there are few series.
    pub(crate) fn count(&self, endpoint: &'static str, name: &str, is_well: bool) {
        let name = name.to_owned();
        let status = if is_well { "success" } else { "error" };
        self.last.get_or_create(&Check { name: name.clone(), r#type: endpoint }).set(i64::from(is_well));
        self.all.get_or_create(&Outcome { name, status, r#type: endpoint }).inc();
    }

    /// In the text format.
    pub(crate) fn encode(&self) -> String {
        self.metrics.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_outcome_is_shown_and_all_are_counted() {
        let slis = Slis::default();
        for is_well in [true, false, false] {
            slis.count("livez", "etcd", is_well);
        }
        let text = slis.encode();
        for line in [
            "kubernetes_healthcheck{name=\"etcd\",type=\"livez\"} 0",
            "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"livez\"} 1",
            "kubernetes_healthchecks_total{name=\"etcd\",status=\"error\",type=\"livez\"} 2",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
