//! What each node needs: the objects that its pods refer to, kept current from the watch cache.

use std::collections::HashMap;

use api::Object;
use serde_json::Value;

use crate::authz::follow::{Change, Follower};
use crate::watch_cache::{Cached, WatchCache};

/// Something that a pod or volume refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Vertex {
    pub(super) kind: Kind,
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ServiceAccount,
    ResourceClaim,
}

impl Vertex {
    pub(super) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

/// The graph and the two resources that it is made of.
pub(super) struct Graph {
    edges: Edges,
    pods: Option<Follower>,
    volumes: Option<Follower>,
}

#[derive(Default)]
struct Edges {
    /// How often pods on a node refer to something.
    needed: HashMap<Vertex, HashMap<Box<str>, usize>>,
    /// What each pod put into `needed`, to take it out again.
    pods: HashMap<Box<str>, (Box<str>, Vec<Vertex>)>,
    /// Volumes and their secrets are needed by whom their claim is needed.
    through_claims: HashMap<Vertex, Vec<Vertex>>,
    volumes: HashMap<Box<str>, (Vertex, Vec<Vertex>)>,
}

impl Graph {
    pub(super) fn new(cache: &WatchCache) -> Self {
        let follow = |plural: &str| cache.resource(plural).map(Follower::new);
        Self { edges: Edges::default(), pods: follow("pods"), volumes: follow("persistentvolumes") }
    }

    pub(super) fn is_behind(&self) -> bool {
        [&self.pods, &self.volumes].into_iter().flatten().any(Follower::is_behind)
    }

    pub(super) fn catch_up(&mut self) {
        let edges = &mut self.edges;
        if let Some(pods) = &mut self.pods {
            pods.catch_up(|change| match change {
                Change::Reset => edges.forget_pods(),
                Change::Put(pod) => edges.put_pod(pod),
                Change::Gone(pod) => edges.remove_pod(&pod.key),
            });
        }
        if let Some(volumes) = &mut self.volumes {
            volumes.catch_up(|change| match change {
                Change::Reset => edges.forget_volumes(),
                Change::Put(volume) => edges.put_volume(volume),
                Change::Gone(volume) => edges.remove_volume(&volume.key),
            });
        }
    }

    /// Whether a pod on the node needs it.
    pub(super) fn needs(&self, node: &str, wanted: &Vertex) -> bool {
        let directly = |vertex: &Vertex| self.edges.needed.get(vertex).is_some_and(|nodes| nodes.contains_key(node));
        directly(wanted) || self.edges.through_claims.get(wanted).is_some_and(|claims| claims.iter().any(directly))
    }
}

impl Edges {
    fn forget_pods(&mut self) {
        self.needed.clear();
        self.pods.clear();
    }

    fn forget_volumes(&mut self) {
        self.through_claims.clear();
        self.volumes.clear();
    }

    fn put_pod(&mut self, cached: &Cached) {
        self.remove_pod(&cached.key);
        let pod = cached.object();
        let node = pod.text(&["spec", "nodeName"]);
        if node.is_empty() {
            return;
        }
        let needs = needs_of(&pod);
        for vertex in &needs {
            *self.needed.entry(vertex.clone()).or_default().entry(node.into()).or_default() += 1;
        }
        self.pods.insert((*cached.key).into(), (node.into(), needs));
    }

    fn remove_pod(&mut self, key: &str) {
        let Some((node, needs)) = self.pods.remove(key) else { return };
        for vertex in needs {
            let Some(nodes) = self.needed.get_mut(&vertex) else { continue };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.needed.remove(&vertex);
            }
        }
    }

    fn put_volume(&mut self, cached: &Cached) {
        self.remove_volume(&cached.key);
        let volume = cached.object();
        let of_claim = |field: &str| volume.text(&["spec", "claimRef", field]);
        if of_claim("name").is_empty() {
            return;
        }
        let claim = Vertex::new(Kind::Claim, of_claim("namespace"), of_claim("name"));
        let mut reached = vec![Vertex::new(Kind::Volume, "", volume.name())];
        let spec = volume.get(&["spec"]).and_then(Value::as_object);
        for source in spec.into_iter().flatten().map(|(_, source)| source) {
            reached.extend(secrets_of_source(source, of_claim("namespace")));
        }
        for vertex in &reached {
            self.through_claims.entry(vertex.clone()).or_default().push(claim.clone());
        }
        self.volumes.insert((*cached.key).into(), (claim, reached));
    }

    fn remove_volume(&mut self, key: &str) {
        let Some((claim, reached)) = self.volumes.remove(key) else { return };
        for vertex in reached {
            let Some(claims) = self.through_claims.get_mut(&vertex) else { continue };
            if let Some(at) = claims.iter().position(|known| *known == claim) {
                claims.swap_remove(at);
            }
            if claims.is_empty() {
                self.through_claims.remove(&vertex);
            }
        }
    }
}

/// The secrets that a volume source names, with their namespace where it says one.
fn secrets_of_source(source: &Value, namespace: &str) -> Vec<Vertex> {
    let references = [
        "secretRef",
        "nodePublishSecretRef",
        "nodeStageSecretRef",
        "controllerPublishSecretRef",
        "nodeExpandSecretRef",
    ];
    let named = references.iter().filter_map(|field| source.get(field)).filter_map(|reference| {
        let of = reference.get("namespace").and_then(Value::as_str).filter(|of| !of.is_empty()).unwrap_or(namespace);
        Some(Vertex::new(Kind::Secret, of, reference.get("name")?.as_str()?))
    });
    let plain = source.get("secretName").and_then(Value::as_str).map(|name| {
        let of = source.get("secretNamespace").and_then(Value::as_str).unwrap_or(namespace);
        Vertex::new(Kind::Secret, of, name)
    });
    named.chain(plain).collect()
}

/// The pod itself and all that its node must read for it.
fn needs_of(pod: &Object) -> Vec<Vertex> {
    let namespace = pod.namespace();
    let mut needs = vec![Vertex::new(Kind::Pod, namespace, pod.name())];
    // A mirror pod shows what a file on the node says: it gives the node nothing.
    if pod.annotation("kubernetes.io/config.mirror").is_some() {
        return needs;
    }
    let mut add = |kind: Kind, name: Option<&Value>| {
        let name = name.and_then(Value::as_str).filter(|name| !name.is_empty());
        needs.extend(name.map(|name| Vertex::new(kind, namespace, name)));
    };
    add(Kind::ServiceAccount, pod.get(&["spec", "serviceAccountName"]));
    let items = |path: &[&str]| pod.get(path).and_then(Value::as_array).into_iter().flatten();
    items(&["spec", "imagePullSecrets"]).for_each(|secret| add(Kind::Secret, secret.get("name")));
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(&["spec", list]) {
            needs_of_container(container, &mut add);
        }
    }
    for claim in items(&["status", "resourceClaimStatuses"]).chain(items(&["spec", "resourceClaims"])) {
        add(Kind::ResourceClaim, claim.get("resourceClaimName"));
    }
    for volume in items(&["spec", "volumes"]) {
        needs_of_volume(volume, pod.name(), &mut add);
    }
    let volumes = items(&["spec", "volumes"]).filter_map(Value::as_object).flatten();
    let secrets: Vec<Vertex> = volumes.flat_map(|(_, source)| secrets_of_source(source, namespace)).collect();
    needs.extend(secrets);
    needs
}

fn needs_of_container(container: &Value, add: &mut impl FnMut(Kind, Option<&Value>)) {
    let items = |field: &str| container.get(field).and_then(Value::as_array).into_iter().flatten();
    for variable in items("env") {
        add(Kind::Secret, variable.pointer("/valueFrom/secretKeyRef/name"));
        add(Kind::ConfigMap, variable.pointer("/valueFrom/configMapKeyRef/name"));
    }
    for source in items("envFrom") {
        add(Kind::Secret, source.pointer("/secretRef/name"));
        add(Kind::ConfigMap, source.pointer("/configMapRef/name"));
    }
}

fn needs_of_volume(volume: &Value, pod: &str, add: &mut impl FnMut(Kind, Option<&Value>)) {
    add(Kind::ConfigMap, volume.pointer("/configMap/name"));
    add(Kind::Claim, volume.pointer("/persistentVolumeClaim/claimName"));
    if volume.get("ephemeral").is_some() {
        let name = volume.get("name").and_then(Value::as_str).unwrap_or("");
        add(Kind::Claim, Some(&Value::from(format!("{pod}-{name}"))));
    }
    for source in volume.pointer("/projected/sources").and_then(Value::as_array).into_iter().flatten() {
        add(Kind::Secret, source.pointer("/secret/name"));
        add(Kind::ConfigMap, source.pointer("/configMap/name"));
    }
}
