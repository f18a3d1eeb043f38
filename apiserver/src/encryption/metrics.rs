//! What is counted: values sealed and opened, and what became of changes of the file.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::ENCRYPTED;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Transformation {
    transformation_type: &'static str,
    transformer_prefix: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reload {
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Applied {
    hash: String,
}

/// The metrics of encryption at rest.
pub(super) struct Metrics {
    transformations: Family<Transformation, Counter>,
    reloads: Family<Reload, Counter>,
    reloaded_at: Family<Reload, Gauge<f64, AtomicU64>>,
    applied: Family<Applied, Gauge>,
}

impl Metrics {
    pub(super) fn new(process: &daemon::Metrics) -> Self {
        let metrics = Self {
            transformations: Family::default(),
            reloads: Family::default(),
            reloaded_at: Family::default(),
            applied: Family::default(),
        };
        process.register(|registry| {
            registry.register(
                "apiserver_storage_transformation_operations",
                "Values sealed and opened, by what they begin with",
                metrics.transformations.clone(),
            );
            registry.register(
                "apiserver_encryption_config_controller_automatic_reloads",
                "Changes of the encryption configuration that were taken or refused",
                metrics.reloads.clone(),
            );
            registry.register(
                "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds",
                "When the encryption configuration was last taken or refused",
                metrics.reloaded_at.clone(),
            );
            registry.register(
                "apiserver_encryption_config_controller_last_config_info",
                "The hash of the encryption configuration that counts",
                metrics.applied.clone(),
            );
        });
        metrics
    }

    /// A value has been sealed, or could not be.
    pub(super) fn sealed(&self, value: Option<&Bytes>) {
        let prefix = value.map(|value| prefix(value)).unwrap_or_default();
        self.count("to_storage", prefix, value.is_some());
    }

    /// A stored value has been opened, or could not be.
    pub(super) fn opened(&self, value: &Bytes, done: bool) {
        self.count("from_storage", prefix(value), done);
    }

    fn count(&self, transformation_type: &'static str, transformer_prefix: String, done: bool) {
        let status = if done { "OK" } else { "Unknown" };
        self.transformations.get_or_create(&Transformation { transformation_type, transformer_prefix, status }).inc();
    }

    /// A changed file counts from now on, or was refused.
    pub(super) fn reloaded(&self, done: bool) {
        let label = Reload { status: if done { "success" } else { "failure" } };
        self.reloads.get_or_create(&label).inc();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.reloaded_at.get_or_create(&label).set(now.as_secs_f64());
    }

    /// The file with this hash counts.
    pub(super) fn applied(&self, hash: &str) {
        self.applied.clear();
        self.applied.get_or_create(&Applied { hash: hash.to_owned() }).set(1);
    }
}

/// `k8s:enc:aesgcm:v1:`; of anything that is not known `k8s:enc:`, so that damage makes no labels.
fn prefix(value: &[u8]) -> String {
    let known = ["k8s:enc:aesgcm:v1:", "k8s:enc:aescbc:v1:", "k8s:enc:secretbox:v1:", "k8s:enc:kms:v2:", "k8s:enc:"];
    if !value.starts_with(ENCRYPTED) {
        return "identity".to_owned();
    }
    known.into_iter().find(|known| value.starts_with(known.as_bytes())).unwrap_or_default().to_owned()
}
