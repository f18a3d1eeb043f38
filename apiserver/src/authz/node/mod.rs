//! The node authoriser: a kubelet may read and write what its own node and the pods on it need, and no more. Upstream:
//! `plugin/pkg/auth/authorizer/node`.
//!
//! What a request may change within an object is for the admission plugin NodeRestriction.

mod graph;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use api::selector::FieldSelector;
use api::strategy::User;
use async_trait::async_trait;

use self::graph::{Graph, Kind, Vertex};
use super::rule::Rule;
use super::{Attributes, Authorizer, Decision};
use crate::watch_cache::{ResourceCache, WatchCache, settle};

/// Kubelets are users of this group, named after their node.
const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
const LEASES: &str = "kube-node-lease";

/// The authoriser.
pub struct Nodes {
    graph: RwLock<Graph>,
    /// What the graph is made of.
    sources: Vec<Arc<ResourceCache>>,
    attachments: Option<Arc<ResourceCache>>,
    rules: Vec<Rule>,
}

/// The node whose kubelet a user is.
pub fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(PREFIX)?;
    (!name.is_empty() && user.groups.iter().any(|group| group == GROUP)).then_some(name)
}

impl Nodes {
    /// Follows pods and volumes in the cache; `rules` (those of the role `system:node`) say the rest.
    pub fn new(cache: &WatchCache, rules: Vec<Rule>) -> Self {
        let attachments = cache.resource("volumeattachments");
        let sources = ["pods", "persistentvolumes", "volumeattachments"];
        let sources = sources.into_iter().filter_map(|plural| cache.resource(plural)).collect();
        Self { graph: RwLock::new(Graph::new(cache)), sources, attachments, rules }
    }

    fn graph(&self) -> RwLockReadGuard<'_, Graph> {
        let graph = self.graph.read().unwrap_or_else(PoisonError::into_inner);
        if !graph.is_behind() {
            return graph;
        }
        drop(graph);
        self.graph.write().unwrap_or_else(PoisonError::into_inner).catch_up();
        self.graph.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The decision on a node's request; `Err` is why there is none.
    fn decide(&self, node: &str, wanted: &Attributes) -> Result<(), String> {
        let (verb, subresource) = (wanted.verb.as_str(), wanted.subresource.as_str());
        if wanted.is_resource {
            match (wanted.group.as_str(), wanted.resource.as_str()) {
                ("", "secrets") => return self.read(node, Kind::Secret, wanted),
                ("", "configmaps") => return self.read(node, Kind::ConfigMap, wanted),
                ("", "persistentvolumeclaims") if subresource == "status" => return self.status(node, wanted),
                ("", "persistentvolumeclaims") => return self.get(node, Kind::Claim, wanted),
                ("", "persistentvolumes") => return self.get(node, Kind::Volume, wanted),
                ("resource.k8s.io", "resourceclaims") => return self.get(node, Kind::ResourceClaim, wanted),
                ("storage.k8s.io", "volumeattachments") => return self.attachment(node, wanted),
                ("", "serviceaccounts") if subresource == "token" && verb == "create" => {
                    return self.needs(node, Kind::ServiceAccount, wanted);
                }
                ("", "serviceaccounts") => return self.read(node, Kind::ServiceAccount, wanted),
                ("coordination.k8s.io", "leases") => return own(node, wanted, "node lease"),
                ("storage.k8s.io", "csinodes") => return own(node, wanted, "CSINode"),
                ("resource.k8s.io", "resourceslices") => return slices(node, wanted),
                ("", "nodes") if subresource.is_empty() && is_read(verb) => return own_node(node, wanted),
                ("", "pods") if subresource.is_empty() && verb == "get" => return self.needs(node, Kind::Pod, wanted),
                ("", "pods") if subresource.is_empty() && is_read(verb) => return own_pods(node, wanted),
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rule.allows(wanted)) { Ok(()) } else { Err(String::new()) }
    }

    fn read(&self, node: &str, kind: Kind, wanted: &Attributes) -> Result<(), String> {
        if !is_read(&wanted.verb) {
            return Err("can only read resources of this type".into());
        }
        if !wanted.subresource.is_empty() {
            return Err("cannot read subresource".into());
        }
        if wanted.namespace.is_empty() {
            return Err("can only read namespaced object of this type".into());
        }
        self.needs(node, kind, wanted)
    }

    fn get(&self, node: &str, kind: Kind, wanted: &Attributes) -> Result<(), String> {
        if wanted.verb != "get" {
            return Err("can only get individual resources of this type".into());
        }
        if !wanted.subresource.is_empty() {
            return Err("cannot get subresource".into());
        }
        self.needs(node, kind, wanted)
    }

    fn status(&self, node: &str, wanted: &Attributes) -> Result<(), String> {
        if !matches!(wanted.verb.as_str(), "get" | "update" | "patch") {
            return Err("can only get/update/patch this type".into());
        }
        self.needs(node, Kind::Claim, wanted)
    }

    fn needs(&self, node: &str, kind: Kind, wanted: &Attributes) -> Result<(), String> {
        if wanted.name.is_empty() {
            return Err("No Object name found".into());
        }
        let vertex = Vertex::new(kind, &wanted.namespace, &wanted.name);
        if self.graph().needs(node, &vertex) { Ok(()) } else { Err(unrelated(node)) }
    }

    fn attachment(&self, node: &str, wanted: &Attributes) -> Result<(), String> {
        if wanted.verb != "get" || wanted.name.is_empty() {
            return Err("can only get individual resources of this type".into());
        }
        let cached = self.attachments.as_ref().and_then(|cache| cache.get(&cache.key("", &wanted.name)));
        let is_own = cached.is_some_and(|cached| cached.object().text(&["spec", "nodeName"]) == node);
        if is_own { Ok(()) } else { Err(unrelated(node)) }
    }
}

/// Whether the answer lies in what the pods of the node refer to.
fn asks_what_pods_need(wanted: &Attributes) -> bool {
    let named = match wanted.resource.as_str() {
        "secrets"
        | "configmaps"
        | "persistentvolumeclaims"
        | "persistentvolumes"
        | "resourceclaims"
        | "serviceaccounts"
        | "volumeattachments" => true,
        "pods" => wanted.subresource.is_empty() && wanted.verb == "get",
        _ => false,
    };
    wanted.is_resource && named
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn is_read(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

/// Objects that carry the node's name.
fn own(node: &str, wanted: &Attributes, what: &str) -> Result<(), String> {
    if !matches!(wanted.verb.as_str(), "get" | "create" | "update" | "patch" | "delete") {
        return Err(format!("can only get, create, update, patch, or delete a {what}"));
    }
    if !wanted.subresource.is_empty() {
        return Err(format!("cannot authorize {what} subresources"));
    }
    if wanted.resource == "leases" && wanted.namespace != LEASES {
        return Err(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    // The name in a body is checked by admission.
    if wanted.verb != "create" && wanted.name != node {
        return Err(format!("can only access {what} with the same name as the requesting node"));
    }
    Ok(())
}

fn own_node(node: &str, wanted: &Attributes) -> Result<(), String> {
    match wanted.name.as_str() {
        name if name == node => Ok(()),
        "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
        name => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
    }
}

fn own_pods(node: &str, wanted: &Attributes) -> Result<(), String> {
    if selects(&wanted.field_selector, "spec.nodeName", node) {
        return Ok(());
    }
    Err("can only list/watch pods with spec.nodeName field selector".into())
}

fn slices(node: &str, wanted: &Attributes) -> Result<(), String> {
    if !wanted.subresource.is_empty() {
        return Err("cannot authorize ResourceSlice subresources".into());
    }
    match wanted.verb.as_str() {
        // Admission checks whose they are.
        "create" | "get" | "update" | "patch" | "delete" => Ok(()),
        "list" | "watch" | "deletecollection" if selects(&wanted.field_selector, "spec.nodeName", node) => Ok(()),
        "list" | "watch" | "deletecollection" => Err("can only list/watch/deletecollection resourceslices with nodeName field selector".into()),
        _ => Err("only the following verbs are allowed for a ResourceSlice: [create delete deletecollection get list patch update watch]".into()),
    }
}

/// Whether a field selector demands this value.
fn selects(selector: &str, field: &str, value: &str) -> bool {
    FieldSelector::demanded(selector, field).is_some_and(|demanded| demanded == value)
}

#[async_trait]
impl Authorizer for Nodes {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        let Some(node) = node_of(&attributes.user) else { return Decision::NoOpinion(String::new()) };
        if asks_what_pods_need(attributes)
            && let Err(err) = settle(&self.sources).await
        {
            return Decision::NoOpinion(err.to_string());
        }
        match self.decide(node, attributes) {
            Ok(()) => Decision::Allow(String::new()),
            Err(why) => Decision::NoOpinion(why),
        }
    }
}
