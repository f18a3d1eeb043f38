//! What is counted of the audit log, under upstream's names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::policy::Level;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PluginLabels {
    plugin: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LevelLabels {
    level: &'static str,
}

/// The counters. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    events: Counter,
    errors: Family<PluginLabels, Counter>,
    levels: Family<LevelLabels, Counter>,
    rejected: Counter,
}

impl Metrics {
    pub(super) fn register(process: &daemon::Metrics) -> Self {
        let metrics = Self::default();
        process.register(|registry| {
            registry.register("apiserver_audit_event", "Audit events that were made", metrics.events.clone());
            let help = "Audit events that were not recorded as they should be, by the part that failed";
            registry.register("apiserver_audit_error", help, metrics.errors.clone());
            let help = "Levels that the audit policy chose, one for each request";
            registry.register("apiserver_audit_level", help, metrics.levels.clone());
            let help = "Requests that were refused because their audit event could not be written";
            registry.register("apiserver_audit_requests_rejected", help, metrics.rejected.clone());
        });
        metrics
    }

    /// An event was made.
    pub(super) fn event(&self) {
        self.events.inc();
    }

    /// Events were lost by a part of this module.
    pub(super) fn lost(&self, plugin: &'static str, events: usize) {
        self.errors.get_or_create(&PluginLabels { plugin }).inc_by(events as u64);
    }

    /// The policy has decided on a request.
    pub(super) fn level(&self, level: Level) {
        self.levels.get_or_create(&LevelLabels { level: level.as_str() }).inc();
    }

    /// A request was refused for want of a record.
    pub(super) fn rejected(&self) {
        self.rejected.inc();
    }

    #[cfg(test)]
    pub(super) fn lost_by(&self, plugin: &'static str) -> u64 {
        self.errors.get_or_create(&PluginLabels { plugin }).get()
    }
}
