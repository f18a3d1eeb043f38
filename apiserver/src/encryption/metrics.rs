//! What is counted: values sealed and opened, and what became of changes of the file.

use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::ENCRYPTED;
use crate::metrics::reloads::Reloads;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Transformation {
    transformation_type: &'static str,
    transformer_prefix: String,
    status: &'static str,
}

/// The metrics of encryption at rest.
pub(super) struct Metrics {
    transformations: Family<Transformation, Counter>,
    /// What became of changes of the file.
    pub(super) file: Reloads,
}

impl Metrics {
    pub(super) fn new(process: &daemon::Metrics) -> Self {
        let metrics = Self { transformations: Family::default(), file: Reloads::register(process, "encryption") };
        process.register(|registry| {
            registry.register(
                "apiserver_storage_transformation_operations",
                "Values sealed and opened, by what they begin with",
                metrics.transformations.clone(),
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
}

/// `k8s:enc:aesgcm:v1:`; of anything that is not known `k8s:enc:`, so that damage makes no labels.
fn prefix(value: &[u8]) -> String {
    let known = ["k8s:enc:aesgcm:v1:", "k8s:enc:aescbc:v1:", "k8s:enc:secretbox:v1:", "k8s:enc:kms:v2:", "k8s:enc:"];
    if !value.starts_with(ENCRYPTED) {
        return "identity".to_owned();
    }
    known.into_iter().find(|known| value.starts_with(known.as_bytes())).unwrap_or_default().to_owned()
}
