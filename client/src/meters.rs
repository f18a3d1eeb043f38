//! What is measured of work queues, under upstream's names (`workqueue_*`).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: &'static str,
}

/// How long the runs of a queue's keys that have not ended take by now.
type Running = Arc<dyn Fn() -> Vec<Duration> + Send + Sync>;

/// The measures of all queues of a process.
#[derive(Clone, Debug)]
pub struct QueueMeters {
    adds: Family<Named, Counter>,
    depth: Family<Named, Gauge>,
    waited: Family<Named, Histogram>,
    worked: Family<Named, Histogram>,
    retries: Family<Named, Counter>,
    unfinished: Unfinished,
}

/// The measures of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    /// Keys that began to need a run.
    pub(crate) adds: Counter,
    /// Keys that need a run now.
    pub(crate) depth: Gauge,
    /// How long keys waited for their run, in seconds.
    pub(crate) waited: Histogram,
    /// How long runs took, in seconds.
    pub(crate) worked: Histogram,
    /// Runs put off to a later time.
    pub(crate) retries: Counter,
}

impl Meters {
    pub(crate) fn show_depth(&self, keys: usize) {
        self.depth.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }
}

impl QueueMeters {
    /// Registers them; once in a process.
    pub fn new(metrics: &daemon::Metrics) -> Self {
        let new = Self {
            adds: Family::default(),
            depth: Family::default(),
            waited: Family::new_with_constructor(histogram),
            worked: Family::new_with_constructor(histogram),
            retries: Family::default(),
            unfinished: Unfinished::default(),
        };
        metrics.register(|registry| {
            let queues = registry.sub_registry_with_prefix("workqueue");
            queues.register("adds", "Total number of adds handled by workqueue", new.adds.clone());
            queues.register("depth", "Current depth of workqueue", new.depth.clone());
            let help = "How long in seconds an item stays in workqueue before being requested";
            queues.register("queue_duration_seconds", help, new.waited.clone());
            let help = "How long in seconds processing an item from workqueue takes";
            queues.register("work_duration_seconds", help, new.worked.clone());
            queues.register("retries", "Total number of retries handled by workqueue", new.retries.clone());
            registry.register_collector(Box::new(new.unfinished.clone()));
        });
        new
    }

    /// Those of the queue `name`, whose runs `running` tells of.
    pub(crate) fn of(&self, name: &'static str, running: Running) -> Meters {
        let queue = Named { name };
        self.unfinished.queues.lock().unwrap_or_else(PoisonError::into_inner).push((name, running));
        Meters {
            adds: self.adds.get_or_create_owned(&queue),
            depth: self.depth.get_or_create_owned(&queue),
            waited: self.waited.get_or_create_owned(&queue),
            worked: self.worked.get_or_create_owned(&queue),
            retries: self.retries.get_or_create_owned(&queue),
        }
    }
}

fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(1e-8, 10.0, 10))
}

/// Runs that have not ended, worked out when somebody asks.
#[derive(Clone, Default)]
struct Unfinished {
    queues: Arc<Mutex<Vec<(&'static str, Running)>>>,
}

impl fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unfinished").finish_non_exhaustive()
    }
}

impl Collector for Unfinished {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A queue that is being measured holds its own lock: it is not asked under this one.
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now: Vec<(&str, Vec<Duration>)> = queues.iter().map(|(name, running)| (*name, running())).collect();
        let sum = |runs: &[Duration]| runs.iter().sum::<Duration>();
        let longest = |runs: &[Duration]| runs.iter().max().copied().unwrap_or_default();
        let all: [(&str, &str, &dyn Fn(&[Duration]) -> Duration); 2] = [
            ("unfinished_work_seconds", "How many seconds of work are in progress and not yet observed", &sum),
            ("longest_running_processor_seconds", "How many seconds the longest running processor has run", &longest),
        ];
        for (name, help, measure) in all {
            let name = format!("workqueue_{name}");
            let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for (queue, runs) in &now {
                let value = ConstGauge::new(measure(runs).as_secs_f64());
                value.encode(metric.encode_family(&[("name", *queue)])?)?;
            }
        }
        Ok(())
    }
}
