//! Gives every node its range of pod addresses (upstream: `pkg/controller/nodeipam`).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use client::{Event, Informer, ObjectKey, Recorder, WorkQueue, events, write};
use facts::cidr::{self, Cidr};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::{Error, Ranges};

/// The controller, when nodes are to have ranges. One worker: two could give the same range twice.
pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "node-ipam-controller",
    aliases: &["nodeipam"],
    start: |start| match start.config.ranges.allocate_node_cidrs {
        true => start.drive("node-ipam", NodeRanges::new(start.context, &start.config.ranges)?, 1),
        false => Ok(()),
    },
};

/// A cluster range, cut into node ranges of equal size.
#[derive(Clone, Debug, PartialEq)]
struct Range {
    cluster: Cidr,
    node_prefix: u8,
}

impl Range {
    fn parse(text: &str, ranges: &Ranges) -> Result<Self, String> {
        let (address, prefix) = cidr::parse(text).ok_or("it is not an address and a prefix length")?;
        let (bits, node_prefix) = match address {
            IpAddr::V4(_) => (32, ranges.node_cidr_mask_size),
            IpAddr::V6(_) => (128, ranges.node_cidr_mask_size_ipv6),
        };
        if prefix > node_prefix || node_prefix > bits {
            return Err(format!("a node range of /{node_prefix} does not fit in it"));
        }
        // Upstream's limit, which bounds the search for a free range.
        if node_prefix - prefix > 16 {
            return Err(format!("it holds more than 65536 node ranges of /{node_prefix}"));
        }
        Ok(Self { cluster: Cidr::new(address, prefix), node_prefix })
    }

    /// The lowest range that is not used.
    fn free(&self, used: &BTreeSet<String>) -> Option<String> {
        let count = 1u32 << (self.node_prefix - self.cluster.bits());
        let mut parts = (0..count).map(|number| self.cluster.part(number, self.node_prefix).to_string());
        parts.find(|range| !used.contains(range))
    }
}

pub(crate) struct NodeRanges {
    client: kube::Client,
    nodes: Informer<Node>,
    recorder: Recorder,
    ranges: Vec<Range>,
    /// What this process gave to nodes; the cache may not show it yet.
    given: Mutex<HashMap<String, Vec<String>>>,
}

impl NodeRanges {
    fn new(context: &Context, wanted: &Ranges) -> Result<(Self, WorkQueue<ObjectKey>), Error> {
        let parse =
            |text: &String| Range::parse(text, wanted).map_err(|why| Error::InvalidRange { range: text.clone(), why });
        let ranges = wanted.cluster_cidr.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let queue = WorkQueue::new();
        let nodes = context.informers.of::<Node>();
        let changed = queue.clone();
        nodes.on_event(move |event| {
            if ranges_of(event.object()).is_empty() || matches!(event, Event::Deleted(_)) {
                changed.add(event.key());
            }
        });
        let recorder = context.recorder.for_component("cidrAllocator");
        Ok((Self { client: context.client.clone(), nodes, recorder, ranges, given: Mutex::default() }, queue))
    }

    /// Chooses and reserves a range per family.
    fn reserve(&self, name: &str) -> Option<Vec<String>> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = given.get(name) {
            return Some(known.clone());
        }
        let nodes = self.nodes.list();
        let mut used: BTreeSet<String> = nodes.iter().flat_map(|node| ranges_of(node)).collect();
        used.extend(given.values().flatten().cloned());
        let chosen = self.ranges.iter().map(|range| range.free(&used)).collect::<Option<Vec<_>>>()?;
        given.insert(name.to_owned(), chosen.clone());
        Some(chosen)
    }

    fn release(&self, name: &str) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Controller for NodeRanges {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(node) = self.nodes.get(&key) else {
            self.release(&key.name);
            return Ok(None);
        };
        if !ranges_of(&node).is_empty() {
            self.release(&key.name);
            return Ok(None);
        }
        let Some(chosen) = self.reserve(&key.name) else {
            let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
            self.recorder.normal(events::about(&*node), "CIDRNotAvailable", message);
            return Err(Failure::NotYet(format!("no pod range is free for node {}", key.name)));
        };
        let change = json!({
            "metadata": { "uid": node.metadata.uid },
            "spec": { "podCIDR": chosen.first(), "podCIDRs": chosen },
        });
        let api: Api<Node> = Api::all(self.client.clone());
        write::ignore_not_found(api.patch(&key.name, &PatchParams::default(), &Patch::Strategic(change)).await)?;
        Ok(None)
    }
}

fn ranges_of(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let many = spec.pod_cidrs.clone().unwrap_or_default();
    if many.is_empty() { spec.pod_cidr.iter().filter(|one| !one.is_empty()).cloned().collect() } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(range: &str, used: &[&str]) -> Option<String> {
        let used = used.iter().map(|&used| used.to_owned()).collect();
        Range::parse(range, &daemon::pflag::defaults()).unwrap().free(&used)
    }

    #[test]
    fn the_lowest_free_range_is_taken() {
        assert_eq!(free("10.244.7.9/16", &[]).as_deref(), Some("10.244.0.0/24"));
        assert_eq!(free("10.244.0.0/16", &["10.244.0.0/24", "10.244.2.0/24"]).as_deref(), Some("10.244.1.0/24"));
        assert_eq!(free("10.244.0.0/23", &["10.244.0.0/24", "10.244.1.0/24"]), None);
        assert_eq!(free("fd00::/56", &["fd00::/64"]).as_deref(), Some("fd00:0:0:1::/64"));
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for bad in ["10.244.0.0", "10.244.0/16", "10.244.0.0/33", "10.244.0.0/25", "10.0.0.0/7", "fd00::/1", "x/24"] {
            assert!(Range::parse(bad, &daemon::pflag::defaults()).is_err(), "{bad}");
        }
    }
}
