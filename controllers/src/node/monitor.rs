//! What is counted of nodes and their zones, under upstream's names (upstream: `pkg/controller/nodelifecycle/metrics.go`).

use std::collections::BTreeMap;
use std::fmt;

use client::Informer;
use facts::nodes;
use k8s_openapi::api::core::v1::Node;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

const PREFIX: &str = "node_collector";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Zoned {
    zone: String,
}

pub(super) struct Monitor {
    evictions: Family<Zoned, Counter>,
    /// How long it takes to look after one node, in seconds.
    pub(super) time: Histogram,
}

impl Monitor {
    pub(super) fn new(metrics: &daemon::Metrics, nodes: Informer<Node>) -> Self {
        let new = Self { evictions: Family::default(), time: Histogram::new(exponential_buckets(0.001, 4.0, 8)) };
        metrics.register(|registry| {
            registry.register_collector(Box::new(Zones { nodes }));
            let registry = registry.sub_registry_with_prefix(PREFIX);
            let help = "Number of Node evictions that happened since current instance of NodeController started";
            registry.register("evictions", help, new.evictions.clone());
            let help = "Duration in seconds for NodeController to update the health of a single node";
            registry.register("update_node_health_duration_seconds", help, new.time.clone());
        });
        new
    }

    /// The pods of a node begin to be evicted.
    pub(super) fn evicts(&self, node: &Node) {
        self.evictions.get_or_create(&Zoned { zone: zone(node) }).inc();
    }
}

/// Upstream's key of a zone (`GetZoneKey`): `region:\0:zone`, or nothing where the node says neither.
fn zone(node: &Node) -> String {
    let label =
        |name: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", String::as_str);
    match (label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone")) {
        ("", "") => String::new(),
        (region, zone) => format!("{region}:\0:{zone}"),
    }
}

/// The nodes of each zone, counted when somebody asks.
struct Zones {
    nodes: Informer<Node>,
}

impl fmt::Debug for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zones").finish_non_exhaustive()
    }
}

impl Collector for Zones {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut zones: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for node in self.nodes.list() {
            let (all, healthy) = zones.entry(zone(&node)).or_default();
            *all += 1;
            let ready = nodes::condition(&node, "Ready");
            *healthy += u32::from(ready.is_some_and(|ready| ready.status == "True"));
        }
        encode(&mut encoder, &zones)
    }
}

/// Numbers of nodes by zone: all, and those that are ready.
fn encode(encoder: &mut DescriptorEncoder<'_>, zones: &BTreeMap<String, (u32, u32)>) -> fmt::Result {
    type Measure = fn((u32, u32)) -> f64;
    let all: [(&str, &str, Measure); 3] = [
        ("zone_health", "Gauge measuring percentage of healthy nodes per zone", |(all, healthy)| {
            f64::from(healthy) * 100.0 / f64::from(all)
        }),
        ("zone_size", "Gauge measuring number of registered Nodes per zones", |(all, _)| f64::from(all)),
        ("unhealthy_nodes_in_zone", "Gauge measuring number of not Ready Nodes per zones", |(all, healthy)| {
            f64::from(all - healthy)
        }),
    ];
    for (name, help, measure) in all {
        let name = format!("{PREFIX}_{name}");
        let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
        for (zone, numbers) in zones {
            ConstGauge::new(measure(*numbers)).encode(metric.encode_family(&[("zone", zone.as_str())])?)?;
        }
    }
    Ok(())
}
