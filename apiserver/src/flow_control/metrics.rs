//! What is counted of flow control, under upstream's names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds in seconds.
const SECONDS: [f64; 12] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0];
const LENGTHS: [f64; 8] = [0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
const SEATS: [f64; 4] = [1.0, 2.0, 4.0, 10.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfLevel {
    priority_level: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfFlow {
    priority_level: String,
    flow_schema: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfWait {
    priority_level: String,
    flow_schema: String,
    execute: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfExecution {
    priority_level: String,
    flow_schema: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRejection {
    priority_level: String,
    flow_schema: String,
    reason: &'static str,
}

type Fraction = Gauge<f64, std::sync::atomic::AtomicU64>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of all levels.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    rejected: Family<OfRejection, Counter>,
    dispatched: Family<OfFlow, Counter>,
    waiting: Family<OfFlow, Gauge>,
    waiting_seats: Family<OfFlow, Gauge>,
    executing: Family<OfFlow, Gauge>,
    executing_seats: Family<OfFlow, Gauge>,
    queue_length: Histograms<OfFlow>,
    waited: Histograms<OfWait>,
    executed: Histograms<OfExecution>,
    width: Histograms<OfFlow>,
    levels: [Family<OfLevel, Gauge>; 4],
    did_not_fit: Family<OfLevel, Gauge>,
    demand: [Family<OfLevel, Fraction>; 5],
    fair_fraction: Fraction,
}

/// Those of one schema and level, at hand.
#[derive(Clone, Debug)]
pub(super) struct FlowMetrics {
    of: OfFlow,
    all: Metrics,
    pub(super) dispatched: Counter,
    pub(super) waiting: Gauge,
    pub(super) waiting_seats: Gauge,
    pub(super) executing: Gauge,
    pub(super) executing_seats: Gauge,
    pub(super) queue_length: Histogram,
    pub(super) waited: Histogram,
    pub(super) waited_in_vain: Histogram,
    pub(super) executed: Histogram,
    pub(super) width: Histogram,
}

/// What a level has and wants.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LevelFigures {
    pub(super) nominal: u32,
    pub(super) least: u32,
    pub(super) most: u32,
    pub(super) current: u32,
    pub(super) did_not_fit: u64,
    /// The high watermark, average, deviation and smoothed value of its demand, and what it should get.
    pub(super) demand: [f64; 5],
}

impl Metrics {
    pub(super) fn new() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            rejected: Family::default(),
            dispatched: Family::default(),
            waiting: Family::default(),
            waiting_seats: Family::default(),
            executing: Family::default(),
            executing_seats: Family::default(),
            queue_length: Family::new_with_constructor(|| Histogram::new(LENGTHS)),
            waited: Family::new_with_constructor(seconds),
            executed: Family::new_with_constructor(seconds),
            width: Family::new_with_constructor(|| Histogram::new(SEATS)),
            levels: Default::default(),
            did_not_fit: Family::default(),
            demand: Default::default(),
            fair_fraction: Fraction::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let name = |name: &str| format!("apiserver_flowcontrol_{name}");
        registry.register(name("rejected_requests"), "Requests that were turned away", self.rejected.clone());
        registry.register(name("dispatched_requests"), "Requests that got their seats", self.dispatched.clone());
        registry.register(name("current_inqueue_requests"), "Requests that wait", self.waiting.clone());
        registry.register(name("current_inqueue_seats"), "Seats that are waited for", self.waiting_seats.clone());
        registry.register(name("current_executing_requests"), "Requests that have seats", self.executing.clone());
        registry.register(name("current_executing_seats"), "Seats that are taken", self.executing_seats.clone());
        registry.register(
            name("request_queue_length_after_enqueue"),
            "How many wait in a queue, as one sees it that has come",
            self.queue_length.clone(),
        );
        registry.register(name("request_wait_duration_seconds"), "How long requests waited", self.waited.clone());
        registry.register(name("request_execution_seconds"), "How long requests had seats", self.executed.clone());
        registry.register(name("work_estimated_seats"), "Seats of a request", self.width.clone());
        registry.register(
            name("request_dispatch_no_accommodation"),
            "How often the next request did not fit into the seats that were free",
            self.did_not_fit.clone(),
        );
        let limits = [
            ("nominal_limit_seats", "Seats by shares"),
            ("lower_limit_seats", "Seats that are never lent"),
            ("upper_limit_seats", "Seats with all that may be borrowed"),
            ("current_limit_seats", "Seats now"),
        ];
        for ((of, help), family) in limits.into_iter().zip(&self.levels) {
            registry.register(name(of), help, family.clone());
        }
        let demand = [
            ("demand_seats_high_watermark", "Most seats that could have been used in the last period"),
            ("demand_seats_average", "Seats that could have been used on average"),
            ("demand_seats_stdev", "Deviation of the seats that could have been used"),
            ("demand_seats_smoothed", "Seats that could be used, smoothed"),
            ("target_seats", "Seats that a level should have"),
        ];
        for ((of, help), family) in demand.into_iter().zip(&self.demand) {
            registry.register(name(of), help, family.clone());
        }
        registry.register(
            name("seat_fair_frac"),
            "The part of its target that a level gets",
            self.fair_fraction.clone(),
        );
    }

    pub(super) fn of_flow(&self, level: &str, schema: &str) -> FlowMetrics {
        let of = OfFlow { priority_level: level.to_owned(), flow_schema: schema.to_owned() };
        let waited = |execute| {
            let labels = OfWait { priority_level: level.to_owned(), flow_schema: schema.to_owned(), execute };
            self.waited.get_or_create_owned(&labels)
        };
        let execution =
            OfExecution { priority_level: level.to_owned(), flow_schema: schema.to_owned(), r#type: "regular" };
        FlowMetrics {
            dispatched: self.dispatched.get_or_create_owned(&of),
            waiting: self.waiting.get_or_create_owned(&of),
            waiting_seats: self.waiting_seats.get_or_create_owned(&of),
            executing: self.executing.get_or_create_owned(&of),
            executing_seats: self.executing_seats.get_or_create_owned(&of),
            queue_length: self.queue_length.get_or_create_owned(&of),
            waited: waited("true"),
            waited_in_vain: waited("false"),
            executed: self.executed.get_or_create_owned(&execution),
            width: self.width.get_or_create_owned(&of),
            all: self.clone(),
            of,
        }
    }

    pub(super) fn set_level(&self, level: &str, figures: &LevelFigures) {
        let of = OfLevel { priority_level: level.to_owned() };
        let seats = [figures.nominal, figures.least, figures.most, figures.current];
        for (family, seats) in self.levels.iter().zip(seats) {
            family.get_or_create(&of).set(seats.into());
        }
        self.did_not_fit.get_or_create(&of).set(i64::try_from(figures.did_not_fit).unwrap_or(i64::MAX));
        for (family, figure) in self.demand.iter().zip(figures.demand) {
            family.get_or_create(&of).set(figure);
        }
    }

    pub(super) fn forget_level(&self, level: &str) {
        let of = OfLevel { priority_level: level.to_owned() };
        for family in &self.levels {
            family.remove(&of);
        }
        for family in &self.demand {
            family.remove(&of);
        }
        self.did_not_fit.remove(&of);
    }

    pub(super) fn set_fair_fraction(&self, fraction: f64) {
        self.fair_fraction.set(fraction);
    }
}

impl FlowMetrics {
    pub(super) fn rejected(&self, reason: &'static str) {
        let OfFlow { priority_level, flow_schema } = self.of.clone();
        self.all.rejected.get_or_create(&OfRejection { priority_level, flow_schema, reason }).inc();
    }
}
