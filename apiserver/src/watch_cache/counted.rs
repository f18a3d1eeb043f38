//! How many objects are stored of each resource, told when somebody asks. Upstream: `storage/etcd3/metrics`.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{ResourceCache, WatchCache};

/// The objects that a cache knows.
#[derive(Debug)]
pub(crate) struct StoredObjects(Arc<WatchCache>);

impl StoredObjects {
    pub(crate) fn register(process: &daemon::Metrics, cache: &Arc<WatchCache>) {
        process.register(|registry| registry.register_collector(Box::new(Self(cache.clone()))));
    }

    fn encode_as<L: prometheus_client::encoding::EncodeLabelSet>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        labels: impl Fn(&ResourceCache) -> L,
    ) -> std::fmt::Result {
        let help = "Objects that are stored of a resource.";
        let mut all = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for cache in self.0.all() {
            let count = i64::try_from(cache.size().0).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(all.encode_family(&labels(&cache))?)?;
        }
        Ok(())
    }
}

impl Collector for StoredObjects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let qualified = |cache: &ResourceCache| {
            let row = cache.row();
            let dot = if row.group.is_empty() { "" } else { "." };
            [("resource", format!("{}{dot}{}", row.plural, row.group))]
        };
        let parts = |cache: &ResourceCache| {
            let row = cache.row();
            [("group", row.group.to_string()), ("resource", row.plural.to_string())]
        };
        self.encode_as(&mut encoder, "apiserver_storage_objects", qualified)?;
        self.encode_as(&mut encoder, "apiserver_resource_objects", parts)
    }
}
