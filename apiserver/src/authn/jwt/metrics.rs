//! What is counted: tokens of issuers, fetches of their keys, and what became of changes of the file. Issuers are named by
//! a digest, as upstream names them.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::metrics::reloads::{Reloads, now};

/// Upper bounds in seconds, upstream's.
const BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
    jwt_issuer_hash: String,
}

/// The metrics of issuers.
#[derive(Clone)]
pub(super) struct Metrics {
    latency: Family<Outcome, Histogram, fn() -> Histogram>,
    fetched_at: Family<Outcome, Gauge<f64, AtomicU64>>,
    file: Reloads,
}

impl Metrics {
    pub(super) fn new(process: &daemon::Metrics) -> Self {
        let metrics = Self {
            latency: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            fetched_at: Family::default(),
            file: Reloads::register(process, "authentication"),
        };
        process.register(|registry| {
            registry.register(
                "apiserver_authentication_jwt_authenticator_latency_seconds",
                "Time to judge tokens of issuers",
                metrics.latency.clone(),
            );
            registry.register(
                "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds",
                "When keys of issuers were last fetched, or could not be",
                metrics.fetched_at.clone(),
            );
        });
        metrics
    }

    /// A token of an issuer was judged.
    pub(super) fn judged(&self, issuer: &str, good: bool, took: Duration) {
        self.latency.get_or_create(&outcome(issuer, good)).observe(took.as_secs_f64());
    }

    /// The keys of an issuer were fetched, or could not be.
    pub(super) fn fetched(&self, issuer: &str, done: bool) {
        self.fetched_at.get_or_create(&outcome(issuer, done)).set(now());
    }

    /// A changed file counts from now on, or was refused.
    pub(super) fn reloaded(&self, done: bool) {
        self.file.reloaded(done);
    }

    /// The file with this text counts.
    pub(super) fn applied(&self, text: &str) {
        self.file.applied(&hash(text));
    }

    /// Forgets an issuer that counts no more.
    pub(super) fn forget(&self, issuer: &str) {
        for good in [true, false] {
            self.latency.remove(&outcome(issuer, good));
            self.fetched_at.remove(&outcome(issuer, good));
        }
    }
}

fn outcome(issuer: &str, good: bool) -> Outcome {
    Outcome { result: if good { "success" } else { "failure" }, jwt_issuer_hash: hash(issuer) }
}

fn hash(text: &str) -> String {
    let digits: String = digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}
