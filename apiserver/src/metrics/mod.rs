//! What the server counts: requests, their time, open watches. Names, labels and bounds are those of
//! upstream's stable metrics (`endpoints/metrics`, `test/instrumentation/testdata/stable-metrics-list.yaml`).

pub(crate) mod measured;
pub(crate) mod reloads;
mod requests;
pub(crate) mod slis;

use std::time::{Duration, Instant};

use api::Resource;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use self::requests::{Answered, Asked, dry_run};
use crate::request::info::RequestInfo;
use crate::request::query::Query;

pub(crate) use self::requests::Place;

/// Upper bounds in seconds.
const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    request_kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Deprecated {
    group: String,
    version: String,
    resource: String,
    subresource: String,
    removed_release: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of the server.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<Answered, Counter>,
    durations: Histograms<Asked>,
    sizes: Histograms<Place>,
    inflight: Family<Kind, Gauge>,
    /// Watches.
    long_running: Family<Place, Gauge>,
    deprecated: Family<Deprecated, Gauge>,
    process: daemon::Metrics,
}

/// Counts one request while it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts one watch: as open while it lives, and as answered when it ends.
#[derive(Debug)]
pub(crate) struct WatchGuard {
    open: Gauge,
    answered: Counter,
    duration: Histogram,
    began: Instant,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.open.dec();
        self.answered.inc();
        self.duration.observe(self.began.elapsed().as_secs_f64());
    }
}

impl Metrics {
    pub(crate) fn new(process: daemon::Metrics) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            sizes: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1000.0, 10.0, 7))),
            inflight: Family::default(),
            long_running: Family::default(),
            deprecated: Family::default(),
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
                "Time to answer requests, of a watch to its end",
                metrics.durations.clone(),
            );
            registry.register(
                "apiserver_response_sizes",
                "Bytes of answers to requests that read",
                metrics.sizes.clone(),
            );
            registry.register(
                "apiserver_current_inflight_requests",
                "Requests being answered, but for those that last",
                metrics.inflight.clone(),
            );
            registry.register("apiserver_longrunning_requests", "Open watches", metrics.long_running.clone());
            registry.register(
                "apiserver_requested_deprecated_apis",
                "Deprecated versions that somebody has asked for",
                metrics.deprecated.clone(),
            );
        });
        metrics
    }

    /// A request begins. What lasts by its nature is not in flight.
    pub(crate) fn began(&self, info: &RequestInfo) -> Option<InFlight> {
        let request_kind = if info.is_read() { "readOnly" } else { "mutating" };
        let gauge = || self.inflight.get_or_create_owned(&Kind { request_kind });
        let in_flight = (!info.is_long_running()).then(|| InFlight(gauge()));
        if let Some(InFlight(gauge)) = &in_flight {
            gauge.inc();
        }
        in_flight
    }

    /// A request has its answer.
    pub(crate) fn answered(&self, place: &Place, query: &Query, code: u16, took: Duration) {
        let asked = Asked { place: place.clone(), dry_run: dry_run(query) };
        self.durations.get_or_create(&asked).observe(took.as_secs_f64());
        self.requests.get_or_create(&Answered { asked, code }).inc();
    }

    /// Where the size of the answer is counted, if that is of interest.
    pub(crate) fn sizes(&self, place: &Place) -> Option<Histogram> {
        place.is_sized().then(|| self.sizes.get_or_create_owned(place))
    }

    /// Somebody asks for what is deprecated.
    pub(crate) fn deprecated(&self, row: &Resource, subresource: &str) {
        let label = Deprecated {
            group: row.group.to_string(),
            version: row.version.to_string(),
            resource: row.plural.to_string(),
            subresource: subresource.to_owned(),
            // Nothing that is served is to be removed by a release that has been named.
            removed_release: "",
        };
        self.deprecated.get_or_create(&label).set(1);
    }

    pub(crate) fn watch_opened(&self, place: &Place) -> WatchGuard {
        let asked = Asked { place: place.clone(), dry_run: "" };
        let guard = WatchGuard {
            open: self.long_running.get_or_create_owned(place),
            duration: self.durations.get_or_create_owned(&asked),
            answered: self.requests.get_or_create_owned(&Answered { asked, code: 200 }),
            began: Instant::now(),
        };
        guard.open.inc();
        guard
    }

    pub(crate) fn encode(&self) -> String {
        self.process.encode()
    }
}
