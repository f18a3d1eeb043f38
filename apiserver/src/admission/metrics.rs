//! How long admission takes. Upstream: `apiserver/pkg/admission/metrics`.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::{Operation, Outcome};

/// Upper bounds in seconds; calls of webhooks have two more.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const OPERATIONS: usize = 4;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Step {
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Named {
    name: String,
    #[prometheus(flatten)]
    step: Step,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of all of admission.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    steps: Durations<Step>,
    plugins: Durations<Named>,
    webhooks: Durations<Named>,
}

impl Default for Metrics {
    fn default() -> Self {
        let short: fn() -> Histogram = || Histogram::new(BUCKETS.into_iter().take(6));
        Self {
            steps: Family::new_with_constructor(short),
            plugins: Family::new_with_constructor(short),
            webhooks: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

impl Metrics {
    pub(crate) fn register(process: &daemon::Metrics) -> Self {
        let metrics = Self::default();
        let name = |what: &str| format!("apiserver_admission_{what}_admission_duration_seconds");
        process.register(|registry| {
            registry.register(name("step"), "Time that all plugins of a step take", metrics.steps.clone());
            registry.register(name("controller"), "Time that a plugin takes", metrics.plugins.clone());
            registry.register(name("webhook"), "Time that a webhook takes", metrics.webhooks.clone());
        });
        metrics
    }

    /// A webhook was asked.
    pub(super) fn called(&self, webhook: &str, phase: Phase, operation: Operation, rejected: bool, took: Duration) {
        let step = Step { operation: operation.as_str(), rejected: word(rejected), r#type: phase.of_webhooks() };
        self.webhooks.get_or_create(&Named { name: webhook.to_owned(), step }).observe(took.as_secs_f64());
    }

    /// The times of a plugin; of a whole step without a name.
    pub(super) fn times(&self, name: Option<&'static str>, phase: Phase) -> Times {
        Times { metrics: self.clone(), name, phase, known: Default::default() }
    }
}

/// The two rounds of plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Admit,
    Validate,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }

    /// Upstream has another word there.
    fn of_webhooks(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validating",
        }
    }
}

/// The times of one plugin or step, each series found once.
#[derive(Debug)]
pub(super) struct Times {
    metrics: Metrics,
    name: Option<&'static str>,
    phase: Phase,
    /// By operation, and whether it was refused.
    known: [[OnceLock<Histogram>; 2]; OPERATIONS],
}

impl Times {
    /// Measures a piece of work.
    pub(super) async fn of(&self, operation: Operation, work: impl Future<Output = Outcome>) -> Outcome {
        let start = Instant::now();
        let outcome = work.await;
        let known = &self.known[operation as usize][usize::from(outcome.is_err())];
        known.get_or_init(|| self.series(operation, outcome.is_err())).observe(start.elapsed().as_secs_f64());
        outcome
    }

    fn series(&self, operation: Operation, rejected: bool) -> Histogram {
        let step = Step { operation: operation.as_str(), rejected: word(rejected), r#type: self.phase.as_str() };
        match self.name {
            Some(name) => self.metrics.plugins.get_or_create_owned(&Named { name: name.to_owned(), step }),
            None => self.metrics.steps.get_or_create_owned(&step),
        }
    }
}

fn word(is: bool) -> &'static str {
    if is { "true" } else { "false" }
}
