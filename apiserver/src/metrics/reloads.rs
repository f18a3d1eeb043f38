//! Files of configuration that are read anew while the server runs: what became of their changes, and which one counts.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Applied {
    hash: String,
}

/// The metrics of one such file, by upstream's names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reloads {
    reloads: Family<Outcome, Counter>,
    reloaded_at: Family<Outcome, Gauge<f64, AtomicU64>>,
    applied: Family<Applied, Gauge>,
}

impl Reloads {
    /// `what` is configured by the file: `encryption`, `authentication`.
    pub(crate) fn register(process: &daemon::Metrics, what: &str) -> Self {
        let metrics = Self::default();
        let controller = format!("apiserver_{what}_config_controller");
        process.register(|registry| {
            registry.register(
                format!("{controller}_automatic_reloads"),
                format!("Changes of the {what} configuration that were taken or refused"),
                metrics.reloads.clone(),
            );
            registry.register(
                format!("{controller}_automatic_reload_last_timestamp_seconds"),
                format!("When the {what} configuration was last taken or refused"),
                metrics.reloaded_at.clone(),
            );
            registry.register(
                format!("{controller}_last_config_info"),
                format!("The hash of the {what} configuration that counts"),
                metrics.applied.clone(),
            );
        });
        metrics
    }

    /// A changed file counts from now on, or was refused.
    pub(crate) fn reloaded(&self, done: bool) {
        let label = Outcome { status: if done { "success" } else { "failure" } };
        self.reloads.get_or_create(&label).inc();
        self.reloaded_at.get_or_create(&label).set(now());
    }

    /// The file with this hash counts.
    pub(crate) fn applied(&self, hash: &str) {
        self.applied.clear();
        self.applied.get_or_create(&Applied { hash: hash.to_owned() }).set(1);
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
