//! What is told of something that is done again and again.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::Metrics;

/// How long rounds take, and how many of them fail.
#[derive(Debug)]
pub struct Rounds {
    durations: Histogram,
    failures: Counter,
}

impl Rounds {
    /// Registers both under their names, each with what it says; durations are told in seconds.
    pub fn new(
        metrics: &Metrics,
        durations: (&'static str, &'static str),
        failures: (&'static str, &'static str),
    ) -> Self {
        let new = Self { durations: Histogram::new(exponential_buckets(0.001, 2.0, 14)), failures: Counter::default() };
        metrics.register(|registry| {
            registry.register(durations.0, durations.1, new.durations.clone());
            registry.register(failures.0, failures.1, new.failures.clone());
        });
        new
    }

    /// A round took so long, however it ended.
    pub fn took(&self, time: Duration) {
        self.durations.observe(time.as_secs_f64());
    }

    /// A round failed.
    pub fn failed(&self) {
        self.failures.inc();
    }
}
