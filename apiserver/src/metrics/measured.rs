//! How long the store takes: a store around the store, which measures. Upstream: `storage/etcd3/metrics`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::catalog::Catalog;
use async_trait::async_trait;
use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use store::{Entry, Error, Expected, Page, Range, Revision, Store, WatchStream};

const NAME: &str = "etcd_request_duration_seconds";
const HELP: &str = "Time that the store, which need not be etcd, takes for an operation on objects of a resource";
/// Upper bounds in seconds: upstream's, and smaller ones for a store in this process.
const BUCKETS: [f64; 16] =
    [0.0001, 0.0005, 0.001, 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.25, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Upstream's labels of this metric.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    operation: &'static str,
    group: Arc<str>,
    resource: Arc<str>,
}

/// A store that measures what it passes on.
pub(crate) struct Measured {
    below: Arc<dyn Store>,
    /// Group and resource by where the objects lie.
    places: HashMap<String, (Arc<str>, Arc<str>)>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Measured {
    pub(crate) fn new(below: Arc<dyn Store>, catalog: &Catalog, process: &daemon::Metrics) -> Self {
        let place = |row: &Arc<api::Resource>| {
            let stored = catalog.storage_row(row);
            (stored.storage_prefix.to_string(), (Arc::from(stored.group.as_ref()), Arc::from(stored.plural.as_ref())))
        };
        let durations: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        process.register(|registry| registry.register(NAME, HELP, durations.clone()));
        Self { below, places: catalog.iter().map(place).collect(), durations }
    }

    fn labels(&self, operation: &'static str, key: &str) -> Labels {
        let (group, resource) = self.place(key);
        Labels { operation, group, resource }
    }

    /// Whose key this is. Custom resources lie under their group.
    fn place(&self, key: &str) -> (Arc<str>, Arc<str>) {
        let mut steps = key.strip_prefix("/registry/").unwrap_or(key).split('/');
        let (first, second) = (steps.next().unwrap_or(""), steps.next().unwrap_or(""));
        let known = self.places.get(&format!("{first}/{second}")).or_else(|| self.places.get(first));
        known.cloned().unwrap_or_else(|| {
            if first.contains('.') { (first.into(), second.into()) } else { ("".into(), first.into()) }
        })
    }

    async fn measure<T>(&self, operation: &'static str, key: &str, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let done = work.await;
        self.durations.get_or_create(&self.labels(operation, key)).observe(start.elapsed().as_secs_f64());
        done
    }
}

#[async_trait]
impl Store for Measured {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.measure("get", key, self.below.get(key)).await
    }

    async fn list(&self, range: Range) -> Result<Page, Error> {
        let prefix = range.prefix.clone();
        self.measure("list", &prefix, self.below.list(range)).await
    }

    async fn put(&self, key: &str, value: Bytes, expected: Expected, ttl: Option<Duration>) -> Result<Revision, Error> {
        let operation = match expected {
            Expected::Absent => "create",
            Expected::Revision(_) => "update",
        };
        self.measure(operation, key, self.below.put(key, value, expected, ttl)).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, Error> {
        self.measure("delete", key, self.below.delete(key, expected)).await
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream, Error> {
        self.below.watch(prefix, after).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.below.revision().await
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.below.request_progress().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.below.compact(revision).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.below.check().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.below.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn operations_are_told_apart_by_resource() {
        let metrics = daemon::Metrics::default();
        let below: Arc<dyn Store> = Arc::new(store::embedded::EmbeddedStore::in_memory());
        let store = Measured::new(below, &Catalog::builtin(), &metrics);
        let labels = |key: &str| {
            let (group, resource) = store.place(key);
            (group.to_string(), resource.to_string())
        };
        let place = |group: &str, resource: &str| (group.to_owned(), resource.to_owned());
        assert_eq!(labels("/registry/deployments/ns/web"), place("apps", "deployments"));
        assert_eq!(labels("/registry/services/specs/ns/web"), place("", "services"));
        assert_eq!(labels("/registry/example.com/widgets/ns/w"), place("example.com", "widgets"));
        assert_eq!(labels("/registry/ranges/servicenodeports/30000"), place("", "ranges"));
        store.put("/registry/pods/ns/p", Bytes::from_static(b"{}"), Expected::Absent, None).await.unwrap();
        let shown = metrics.encode();
        let want = "etcd_request_duration_seconds_count{operation=\"create\",group=\"\",resource=\"pods\"} 1";
        assert!(shown.contains(want), "{shown}");
    }
}
