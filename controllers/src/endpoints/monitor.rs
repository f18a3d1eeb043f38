//! What is counted of EndpointSlices, under upstream's names (upstream: `k8s.io/endpointslice/metrics`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use client::Informer;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::slices::{Change, PER_SLICE};
use super::{MANAGER, managed_by};

const PREFIX: &str = "endpoint_slice_controller";
/// Upstream's buckets where it names none.
const USUAL: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Routing {
    topology: &'static str,
    traffic_distribution: String,
}

/// A counter whose name does not end in `_total`: upstream's are older than that rule.
#[derive(Clone, Debug, Default)]
struct Plain(Counter);

impl TypedMetric for Plain {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Plain {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

pub(super) struct Monitor {
    added: Histogram,
    removed: Histogram,
    changed: Family<Routing, Histogram>,
    changes: Family<Operation, Plain>,
    syncs: Family<Outcome, Plain>,
}

impl Monitor {
    pub(super) fn new(metrics: &daemon::Metrics, slices: Informer<EndpointSlice>, services: Informer<Service>) -> Self {
        let per_sync = || Histogram::new(exponential_buckets(2.0, 2.0, 15));
        let new = Self {
            added: per_sync(),
            removed: per_sync(),
            changed: Family::new_with_constructor(|| Histogram::new(USUAL)),
            changes: Family::default(),
            syncs: Family::default(),
        };
        metrics.register(|registry| {
            registry.register_collector(Box::new(Present { slices, services }));
            let registry = registry.sub_registry_with_prefix(PREFIX);
            let help = "Number of endpoints added on each Service sync";
            registry.register("endpoints_added_per_sync", help, new.added.clone());
            let help = "Number of endpoints removed on each Service sync";
            registry.register("endpoints_removed_per_sync", help, new.removed.clone());
            let help = "Number of EndpointSlices changed on each Service sync";
            registry.register("endpointslices_changed_per_sync", help, new.changed.clone());
            registry.register("changes", "Number of EndpointSlice changes", new.changes.clone());
            registry.register("syncs", "Number of EndpointSlice syncs", new.syncs.clone());
        });
        new
    }

    /// A reconcile has ended: `success`, `error`, or `stale` where the cache was behind.
    pub(super) fn synced(&self, result: &'static str) {
        self.syncs.get_or_create(&Outcome { result }).0.inc();
    }

    /// The slices of a Service are about to be changed.
    pub(super) fn plans(&self, service: &Service, existing: &[Arc<EndpointSlice>], changes: &[Change]) {
        let (mut added, mut removed) = (0, 0);
        for change in changes {
            let (operation, now, then) = match change {
                Change::Create(slice) => ("create", addresses(slice), BTreeSet::new()),
                Change::Update(slice) => {
                    let old = existing.iter().find(|old| old.metadata.name == slice.metadata.name);
                    ("update", addresses(slice), old.map(|old| addresses(old)).unwrap_or_default())
                }
                Change::Delete(slice) => ("delete", BTreeSet::new(), addresses(slice)),
            };
            self.changes.get_or_create(&Operation { operation }).0.inc();
            added += now.difference(&then).count();
            removed += then.difference(&now).count();
        }
        self.added.observe(number(added));
        self.removed.observe(number(removed));
        self.changed.get_or_create(&routing(service)).observe(number(changes.len()));
    }
}

fn number(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

fn addresses(slice: &EndpointSlice) -> BTreeSet<&str> {
    endpoints(slice).filter_map(|endpoint| endpoint.addresses.first()).map(String::as_str).collect()
}

fn endpoints(slice: &EndpointSlice) -> impl Iterator<Item = &Endpoint> {
    slice.endpoints.iter().flatten()
}

fn routing(service: &Service) -> Routing {
    let annotations = service.metadata.annotations.as_ref();
    let mode = annotations.and_then(|all| all.get("service.kubernetes.io/topology-mode")).map(String::as_str);
    let is_auto = matches!(mode, Some("Auto" | "auto"));
    Routing { topology: if is_auto { "Auto" } else { "Disabled" }, traffic_distribution: distribution(service) }
}

fn distribution(service: &Service) -> String {
    service.spec.as_ref().and_then(|spec| spec.traffic_distribution.clone()).unwrap_or_default()
}

/// What there is, counted when somebody asks.
struct Present {
    slices: Informer<EndpointSlice>,
    services: Informer<Service>,
}

impl fmt::Debug for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Present").finish_non_exhaustive()
    }
}

impl Collector for Present {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let slices = self.slices.list();
        let slices = slices.iter().filter(|slice| managed_by(slice, MANAGER).is_some());
        let counts = Counts::of(slices.map(|slice| &**slice));
        for (name, help, count) in [
            ("endpoints_desired", "Number of endpoints desired", counts.endpoints),
            ("num_endpoint_slices", "Number of EndpointSlices", counts.slices),
            (
                "desired_endpoint_slices",
                "Number of EndpointSlices that would exist with perfect endpoint allocation",
                counts.fewest,
            ),
        ] {
            let name = format!("{PREFIX}_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            ConstGauge::new(number(count)).encode(metric)?;
        }
        let mut by_distribution: BTreeMap<String, usize> = BTreeMap::new();
        for distribution in self.services.list().iter().map(|service| distribution(service)) {
            if !distribution.is_empty() {
                *by_distribution.entry(distribution).or_default() += 1;
            }
        }
        let name = format!("{PREFIX}_services_count_by_traffic_distribution");
        let help = "Number of Services using some specific trafficDistribution";
        let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
        for (distribution, count) in &by_distribution {
            let labels = [("traffic_distribution", distribution.as_str())];
            ConstGauge::new(number(*count)).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    endpoints: usize,
    slices: usize,
    /// As few slices as could hold these endpoints.
    fewest: usize,
}

impl Counts {
    fn of<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> Self {
        let (mut counts, mut alike) = (Self::default(), BTreeMap::<_, usize>::new());
        for slice in slices {
            counts.slices += 1;
            counts.endpoints += endpoints(slice).count();
            let service = managed_by(slice, MANAGER).map(|key| key.to_string());
            let kind = (service, slice.address_type.clone(), format!("{:?}", slice.ports));
            *alike.entry(kind).or_default() += endpoints(slice).count();
        }
        counts.fewest = alike.values().map(|endpoints| endpoints.div_ceil(PER_SLICE).max(1)).sum();
        counts
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    fn slice(name: &str, first: usize, count: usize) -> EndpointSlice {
        let endpoints: Vec<_> =
            (first..first + count).map(|at| json!({"addresses": [format!("10.0.0.{at}")]})).collect();
        let labels = json!({"kubernetes.io/service-name": "s", "endpointslice.kubernetes.io/managed-by": MANAGER});
        from_value(json!({"metadata": {"name": name, "namespace": "n", "labels": labels}, "addressType": "IPv4",
            "endpoints": endpoints, "ports": [{"port": 80}]}))
        .unwrap()
    }

    #[test]
    fn slices_and_what_could_be_fewer_of_them_are_counted() {
        let slices = [slice("a", 0, 60), slice("b", 60, 40), slice("c", 100, 1)];
        assert_eq!(Counts::of(slices.iter()), Counts { endpoints: 101, slices: 3, fewest: 2 });
    }
}
