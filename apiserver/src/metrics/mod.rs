//! What the server counts: requests, their time, open watches, cached objects. Upstream: `endpoints/metrics`.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::request::info::RequestInfo;

/// Upper bounds in seconds, upstream's choice thinned out.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    verb: String,
    group: String,
    resource: String,
}

/// The metrics of the server.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    inflight: Gauge,
    watches: Gauge,
    process: daemon::Metrics,
}

/// Counts one open watch while it lives.
pub(crate) struct WatchGuard(Gauge);

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn new(process: daemon::Metrics) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            inflight: Gauge::default(),
            watches: Gauge::default(),
            process,
        };
        metrics.process.register(|registry| {
            registry.register(
                "apiserver_request",
                "Requests, by what they asked for and their code",
                metrics.requests.clone(),
            );
            registry.register(
                "apiserver_request_duration_seconds",
                "Time to answer requests other than watches",
                metrics.durations.clone(),
            );
            registry.register(
                "apiserver_current_inflight_requests",
                "Requests being answered",
                metrics.inflight.clone(),
            );
            registry.register("apiserver_longrunning_requests", "Open watches", metrics.watches.clone());
        });
        metrics
    }

    pub(crate) fn began(&self) {
        self.inflight.inc();
    }

    pub(crate) fn ended(&self, info: &RequestInfo, code: u16, took: Duration) {
        self.inflight.dec();
        let known = |text: &str| if code == 404 { String::new() } else { text.to_owned() };
        let verb = if info.is_resource { info.verb().to_owned() } else { "get".to_owned() };
        self.requests
            .get_or_create(&RequestLabels {
                verb: verb.clone(),
                group: known(&info.group),
                version: known(&info.version),
                resource: known(&info.resource),
                subresource: known(&info.subresource),
                code,
            })
            .inc();
        if verb != "watch" {
            let labels = DurationLabels { verb, group: known(&info.group), resource: known(&info.resource) };
            self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    pub(crate) fn watch_opened(&self) -> WatchGuard {
        self.watches.inc();
        WatchGuard(self.watches.clone())
    }

    pub(crate) fn encode(&self) -> String {
        self.process.encode()
    }
}
pub(crate) mod measured;
pub(crate) mod reloads;
pub(crate) mod slis;
