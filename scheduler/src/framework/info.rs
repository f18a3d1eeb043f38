//! Pods and nodes with everything precomputed that a cycle asks for again and again (upstream: `PodInfo`, `NodeInfo`).

use std::collections::HashMap;
use std::sync::Arc;

use client::ObjectKey;
use facts::labels::{self, Labels};
use facts::nodes;
use facts::pods::ports::{HostPort, host_ports};
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeAffinity, Pod, PodSpec, Taint};

use crate::framework::Affinity;
use crate::framework::claim::{Claim, WrongClaim};
use crate::framework::resources::{Resources, parse_requests};

/// A pod.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub key: ObjectKey,
    pub uid: String,
    pub priority: i32,
    /// What it asks for.
    pub requests: Resources,
    /// What it is taken to use when nodes are compared.
    pub assumed: Resources,
    pub ports: Vec<HostPort>,
    affinity: Option<Box<Affinity>>,
    claim: Option<Box<Result<Claim, WrongClaim>>>,
}

impl PodInfo {
    /// Precomputes.
    pub fn new(pod: Arc<Pod>) -> Self {
        let spec = pod.spec.as_ref();
        let (requests, assumed) = parse_requests(&pod);
        Self {
            key: ObjectKey::of(&*pod),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            priority: spec.and_then(|spec| spec.priority).unwrap_or(0),
            claim: Claim::of(&pod, &requests).map(Box::new),
            requests,
            assumed,
            ports: spec.map(host_ports).unwrap_or_default(),
            affinity: spec.and_then(|spec| Affinity::of(spec, pod.metadata.namespace.as_deref().unwrap_or_default())),
            pod,
        }
    }

    /// Whether `other` asks the same of a node itself, whatever is around it: its room, ports, images, labels, taints and
    /// name.
    pub fn is_alike(&self, other: &Self) -> bool {
        let is_same = match (self.spec(), other.spec()) {
            (Some(one), Some(other)) => ask_the_same(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        is_same && self.requests == other.requests && self.assumed == other.assumed && self.ports == other.ports
    }

    /// Whether `other` wants and tolerates the same nodes.
    pub(crate) fn wants_same_nodes(&self, other: &Pod) -> bool {
        match (self.spec(), other.spec.as_ref()) {
            (Some(one), Some(other)) => want_the_same(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// The images of its containers and image volumes.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.spec().into_iter().flat_map(images_of)
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        labels::of(&self.pod.metadata)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("")
    }

    /// Its spec.
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// What it asks of the pods around it.
    pub fn affinity(&self) -> &Affinity {
        self.affinity.as_deref().unwrap_or(Affinity::none())
    }

    /// What it may come to ask for, if it says so in a way that can be.
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_deref()?.as_ref().ok()
    }

    /// What is wrong with what it claims.
    pub fn wrong_claim(&self) -> Option<&WrongClaim> {
        self.claim.as_deref()?.as_ref().err()
    }

    /// The node that it is nominated for, as its status says.
    pub fn nominated_node(&self) -> Option<&str> {
        nominated_node(&self.pod)
    }

    /// Whether it has been deleted and may still be running.
    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }
}

fn ask_the_same(one: &PodSpec, other: &PodSpec) -> bool {
    one.node_name == other.node_name && want_the_same(one, other) && images_of(one).eq(images_of(other))
}

fn want_the_same(one: &PodSpec, other: &PodSpec) -> bool {
    one.node_selector == other.node_selector
        && one.tolerations == other.tolerations
        && node_affinity(one) == node_affinity(other)
}

fn node_affinity(spec: &PodSpec) -> Option<&NodeAffinity> {
    spec.affinity.as_ref()?.node_affinity.as_ref()
}

fn images_of(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
    containers.filter_map(|container| container.image.as_deref()).chain(volumes)
}

/// The node that a pod is nominated for, as its status says.
pub(crate) fn nominated_node(pod: &Pod) -> Option<&str> {
    let name = pod.status.as_ref()?.nominated_node_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

/// A node and the pods on it, those assumed included.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub name: Arc<str>,
    pub allocatable: Resources,
    /// How many pods may be on it.
    pub allowed_pods: usize,
    pub requested: Resources,
    pub assumed: Resources,
    pub pods: Vec<Arc<PodInfo>>,
    /// Those of the pods that have an affinity or anti-affinity to others,
    pub with_affinity: Vec<Arc<PodInfo>>,
    /// and those whose anti-affinity is required.
    pub with_anti_affinity: Vec<Arc<PodInfo>>,
    /// Those that claim something.
    pub with_claims: Vec<Arc<PodInfo>>,
    pub ports: Vec<HostPort>,
    /// Sizes of the images on the node in bytes, by each of their names.
    pub images: Arc<HashMap<String, i64>>,
}

impl NodeInfo {
    /// A node without pods.
    pub fn new(node: Arc<Node>) -> Self {
        let mut info = Self {
            name: node.metadata.name.as_deref().unwrap_or("").into(),
            allocatable: Resources::default(),
            allowed_pods: 0,
            requested: Resources::default(),
            assumed: Resources::default(),
            pods: Vec::new(),
            with_affinity: Vec::new(),
            with_anti_affinity: Vec::new(),
            with_claims: Vec::new(),
            ports: Vec::new(),
            images: Arc::default(),
            node: Arc::clone(&node),
        };
        info.set_node(node);
        info
    }

    /// Replaces the node and keeps the pods.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        self.allocatable = Resources::from_list(allocatable);
        let pods = allocatable.and_then(|list| list.get("pods")?.0.parse::<usize>().ok());
        self.allowed_pods = pods.unwrap_or(0);
        self.images = Arc::new(images(&node));
        self.node = node;
    }

    /// Adds a pod.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.assumed.add(&pod.assumed);
        self.ports.extend(pod.ports.iter().cloned());
        if pod.affinity.is_some() {
            self.with_affinity.push(Arc::clone(&pod));
        }
        if !pod.affinity().required_anti.is_empty() {
            self.with_anti_affinity.push(Arc::clone(&pod));
        }
        if pod.claim.is_some() {
            self.with_claims.push(Arc::clone(&pod));
        }
        self.pods.push(pod);
    }

    /// Removes a pod by uid.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|pod| pod.uid == uid)?;
        let pod = self.pods.swap_remove(at);
        for pods in [&mut self.with_affinity, &mut self.with_anti_affinity, &mut self.with_claims] {
            if let Some(at) = pods.iter().position(|pod| pod.uid == uid) {
                pods.swap_remove(at);
            }
        }
        self.requested.subtract(&pod.requests);
        self.assumed.subtract(&pod.assumed);
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(pod)
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        labels::of(&self.node.metadata)
    }

    /// Its taints.
    pub fn taints(&self) -> &[Taint] {
        nodes::taints(&self.node)
    }
}

fn images(node: &Node) -> HashMap<String, i64> {
    let images = node.status.iter().flat_map(|status| status.images.iter().flatten());
    let named = |image: &ContainerImage| {
        let size = image.size_bytes.unwrap_or(0);
        image.names.clone().unwrap_or_default().into_iter().map(move |name| (name, size))
    };
    images.flat_map(named).collect()
}
