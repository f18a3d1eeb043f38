//! Gives every node its range of pod addresses (upstream: `pkg/controller/nodeipam`).

use std::collections::{HashMap, HashSet};
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

    /// The first range that is not used, from the one with the number `from` on and round, and the number after it.
    fn free(&self, from: u32, is_used: impl Fn(&str) -> bool) -> Option<(String, u32)> {
        let count = 1u32 << (self.node_prefix - self.cluster.bits());
        let mut numbers = (0..count).map(|step| (from + step) % count);
        numbers.find_map(|number| {
            let range = self.cluster.part(number, self.node_prefix).to_string();
            (!is_used(&range)).then(|| (range, (number + 1) % count))
        })
    }
}

pub(crate) struct NodeRanges {
    client: kube::Client,
    nodes: Informer<Node>,
    recorder: Recorder,
    ranges: Vec<Range>,
    given: Mutex<Given>,
}

/// What this process gave to nodes; the cache may not show it yet.
#[derive(Default)]
struct Given {
    by_node: HashMap<String, Vec<String>>,
    all: HashSet<String>,
    /// Where to look next, in each range.
    next: Vec<u32>,
    /// No range was free, and no node has gone since: who still waits need not look.
    is_exhausted: bool,
}

impl Given {
    fn release(&mut self, node: &str) {
        for range in self.by_node.remove(node).unwrap_or_default() {
            self.all.remove(&range);
        }
        self.is_exhausted = false;
    }
}

/// Nodes by their ranges.
const BY_RANGE: &str = "range";

impl NodeRanges {
    fn new(context: &Context, wanted: &Ranges) -> Result<(Self, WorkQueue<ObjectKey>), Error> {
        let parse =
            |text: &String| Range::parse(text, wanted).map_err(|why| Error::InvalidRange { range: text.clone(), why });
        let ranges = wanted.cluster_cidr.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let queue = WorkQueue::new();
        let nodes = context.informers.of::<Node>();
        nodes.add_index(BY_RANGE, ranges_of);
        let changed = queue.clone();
        nodes.on_event(move |event| {
            if ranges_of(event.object()).is_empty() || matches!(event, Event::Deleted(_)) {
                changed.add(event.key());
            }
        });
        let recorder = context.recorder.for_component("cidrAllocator");
        let given = Mutex::new(Given { next: vec![0; ranges.len()], ..Given::default() });
        Ok((Self { client: context.client.clone(), nodes, recorder, ranges, given }, queue))
    }

    /// Chooses and reserves a range per family.
    fn reserve(&self, name: &str) -> Option<Vec<String>> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = given.by_node.get(name) {
            return Some(known.clone());
        }
        if given.is_exhausted {
            return None;
        }
        let is_used = |range: &str| given.all.contains(range) || !self.nodes.by_index(BY_RANGE, range).is_empty();
        let chosen = self.ranges.iter().zip(&given.next).map(|(range, from)| range.free(*from, is_used));
        let Some(chosen) = chosen.collect::<Option<Vec<_>>>() else {
            given.is_exhausted = true;
            return None;
        };
        let (chosen, next): (Vec<String>, Vec<u32>) = chosen.into_iter().unzip();
        given.next = next;
        given.all.extend(chosen.iter().cloned());
        given.by_node.insert(name.to_owned(), chosen.clone());
        Some(chosen)
    }

    fn release(&self, name: &str) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).release(name);
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

    fn free(range: &str, from: u32, used: &[&str]) -> Option<(String, u32)> {
        Range::parse(range, &daemon::pflag::defaults()).unwrap().free(from, |range| used.contains(&range))
    }

    #[test]
    fn the_next_free_range_is_taken() {
        let at = |range: &str, next| Some((range.to_owned(), next));
        assert_eq!(free("10.244.7.9/16", 0, &[]), at("10.244.0.0/24", 1));
        assert_eq!(free("10.244.0.0/16", 0, &["10.244.0.0/24", "10.244.2.0/24"]), at("10.244.1.0/24", 2));
        assert_eq!(free("10.244.0.0/23", 1, &["10.244.1.0/24"]), at("10.244.0.0/24", 1));
        assert_eq!(free("10.244.0.0/23", 1, &[]), at("10.244.1.0/24", 0));
        assert_eq!(free("10.244.0.0/23", 0, &["10.244.0.0/24", "10.244.1.0/24"]), None);
        assert_eq!(free("fd00::/56", 0, &["fd00::/64"]), at("fd00:0:0:1::/64", 2));
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for bad in ["10.244.0.0", "10.244.0/16", "10.244.0.0/33", "10.244.0.0/25", "10.0.0.0/7", "fd00::/1", "x/24"] {
            assert!(Range::parse(bad, &daemon::pflag::defaults()).is_err(), "{bad}");
        }
    }
}
