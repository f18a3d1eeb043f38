//! NodeRestriction: a kubelet writes its own node, the pods on it and what belongs to them, and nothing else. Upstream's
//! installers switch it on; here it runs by default.

use std::sync::Arc;

use api::Object;
use async_trait::async_trait;
use serde_json::{Map, Value};

use super::pods::MIRROR;
use super::{Phases, Plugin};
use crate::admission::{Attributes, MutatingAdmission, Operation, Outcome, Warnings};
use crate::authz::{self, Chain, node_of};
use crate::watch_cache::{ResourceCache, settle};

/// Labels of these domains decide where pods go, so nodes may set only the ones that say what they are.
const LABEL_DOMAINS: [&str; 2] = ["kubernetes.io", "k8s.io"];
const OWN_LABELS: [&str; 16] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "kubernetes.io/instance-type",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/windows-build",
    "kubernetes.io/cluster-name",
];
const OWN_PREFIXES: [&str; 2] = ["kubelet.kubernetes.io/", "node.kubernetes.io/"];

pub(super) const PLUGIN: Plugin = Plugin::on("NodeRestriction", |server| {
    Phases::mutating(NodeRestriction {
        pods: server.cache.resource("pods")?,
        nodes: server.cache.resource("minions")?,
        claims: server.cache.resource("persistentvolumeclaims")?,
        volumes: server.cache.resource("persistentvolumes")?,
        drivers: server.cache.resource("csidrivers")?,
        authz: server.authz.clone(),
    })
});

struct NodeRestriction {
    pods: Arc<ResourceCache>,
    nodes: Arc<ResourceCache>,
    claims: Arc<ResourceCache>,
    volumes: Arc<ResourceCache>,
    drivers: Arc<ResourceCache>,
    /// Is asked for audiences that no pod has.
    authz: Arc<Chain>,
}

impl NodeRestriction {
    fn pod(&self, attributes: &Attributes<'_>, name: &str) -> Option<Object> {
        object_in(&self.pods, attributes.namespace, name)
    }

    fn pods(&self, attributes: &Attributes<'_>, node: &str, pod: Option<&Object>) -> Result<(), String> {
        match (attributes.operation, attributes.subresource) {
            (Operation::Create, "") => self.mirror(node, pod),
            (Operation::Create, "eviction") => {
                let evicted = self
                    .pod(attributes, attributes.name)
                    .ok_or_else(|| format!("pods {:?} not found", attributes.name))?;
                on_own_node(node, &evicted, "evict")
            }
            (Operation::Delete, "") => {
                match attributes.old.cloned().or_else(|| self.pod(attributes, attributes.name)) {
                    Some(deleted) => on_own_node(node, &deleted, "delete"),
                    None => Ok(()),
                }
            }
            (Operation::Update, "status" | "resize") => {
                let (Some(old), Some(new)) = (attributes.old, pod) else { return Ok(()) };
                on_own_node(node, old, "update status for")?;
                if old.get(&["metadata", "labels"]) == new.get(&["metadata", "labels"]) {
                    Ok(())
                } else {
                    Err(format!("node {node:?} cannot update labels through pod status"))
                }
            }
            (operation, subresource) => {
                Err(format!("unexpected operation {:?} on pods/{subresource}", operation.as_str()))
            }
        }
    }

    /// Nodes create mirror pods of their own static pods only, which refer to nothing.
    fn mirror(&self, node: &str, pod: Option<&Object>) -> Result<(), String> {
        let Some(pod) = pod else { return Ok(()) };
        if pod.annotation(MIRROR).is_none() {
            return Err(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
        }
        on_own_node(node, pod, "create")?;
        let owners = pod.get(&["metadata", "ownerReferences"]).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if let [owner, ..] = owners {
            let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or("");
            let uid = self.nodes.get(&self.nodes.key("", node)).map(|cached| cached.object().uid().to_owned());
            let is_own = owners.len() == 1
                && text("kind") == "Node"
                && text("name") == node
                && uid.as_deref() == Some(text("uid"));
            if !is_own {
                return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
            }
        }
        let refuse = |what: &str| Err(format!("node {node:?} can not create pods that reference {what}"));
        if !pod.text(&["spec", "serviceAccountName"]).is_empty() {
            return refuse("a service account");
        }
        let text = pod.get(&["spec"]).map(Value::to_string).unwrap_or_default();
        let references = [
            ("\"secretKeyRef\":", "secrets"),
            ("\"secretRef\":", "secrets"),
            ("\"secretName\":", "secrets"),
            ("\"configMapKeyRef\":", "configmaps"),
            ("\"configMapRef\":", "configmaps"),
            ("\"configMap\":", "configmaps"),
            ("\"persistentVolumeClaim\":", "persistentvolumeclaims"),
            ("\"resourceClaims\":", "resourceclaims"),
            ("\"serviceAccountToken\":", "a service account"),
        ];
        match references.iter().find(|(mark, _)| text.contains(mark)) {
            Some((_, what)) => refuse(what),
            None => Ok(()),
        }
    }

    async fn token(&self, attributes: &Attributes<'_>, node: &str, request: Option<&Object>) -> Result<(), String> {
        let Some(request) = request else { return Ok(()) };
        let bound = |field: &str| request.text(&["spec", "boundObjectRef", field]);
        if bound("kind") != "Pod" || bound("name").is_empty() || bound("uid").is_empty() {
            return Err("node requested token not bound to a pod".into());
        }
        let pod = self.pod(attributes, bound("name")).filter(|pod| pod.uid() == bound("uid"));
        let pod =
            pod.ok_or_else(|| format!("node requested token bound to a pod that does not exist: {}", bound("name")))?;
        if pod.text(&["spec", "nodeName"]) != node {
            return Err("node requested token bound to a pod scheduled on a different node".into());
        }
        let audiences = request.get(&["spec", "audiences"]).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let audience = match audiences {
            [] => "",
            [one] => one.as_str().unwrap_or(""),
            _ => return Err("node may only request 0 or 1 audiences".into()),
        };
        self.audience(attributes, &pod, audience).await
    }

    /// A node asks for tokens for those that its pod talks to (upstream's ServiceAccountNodeAudienceRestriction), and for
    /// others if a role lets it.
    async fn audience(&self, attributes: &Attributes<'_>, pod: &Object, audience: &str) -> Result<(), String> {
        match self.is_for(pod, audience).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(why) => return Err(format!("error validating audience {audience:?}: {why}")),
        }
        let wanted = authz::Attributes {
            user: attributes.user.clone(),
            verb: "request-serviceaccounts-token-audience".into(),
            namespace: attributes.namespace.into(),
            version: "v1".into(),
            resource: audience.into(),
            name: attributes.name.into(),
            is_resource: true,
            ..authz::Attributes::default()
        };
        let user = &attributes.user.name;
        let refused = format!(
            "audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this audience"
        );
        self.authz.authorize(&wanted).await.map_err(|_| refused)
    }

    /// Whether a volume of the pod, or the driver of one, wants tokens for an audience.
    async fn is_for(&self, pod: &Object, audience: &str) -> Result<bool, String> {
        settle(&[self.claims.clone(), self.volumes.clone(), self.drivers.clone()])
            .await
            .map_err(|err| err.to_string())?;
        let mut errors = Vec::new();
        for volume in pod.get(&["spec", "volumes"]).and_then(Value::as_array).into_iter().flatten() {
            let sources = volume.pointer("/projected/sources").and_then(Value::as_array).into_iter().flatten();
            let mut projected = sources.filter_map(|source| source.get("serviceAccountToken"));
            if projected.any(|token| has_audience(token, audience)) {
                return Ok(true);
            }
            match self.driver_is_for(pod, volume, audience) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(why) => errors.push(why),
            }
        }
        if errors.is_empty() { Ok(false) } else { Err(errors.join(", ")) }
    }

    fn driver_is_for(&self, pod: &Object, volume: &Value, audience: &str) -> Result<bool, String> {
        let text = |at: &str| volume.pointer(at).and_then(Value::as_str);
        let claim = match text("/persistentVolumeClaim/claimName") {
            Some(name) => Some(name.to_owned()),
            None if volume.get("ephemeral").is_some() => text("/name").map(|name| format!("{}-{name}", pod.name())),
            None => None,
        };
        let driver = match (text("/csi/driver"), claim) {
            (Some(driver), _) => driver.to_owned(),
            (None, Some(claim)) => self.driver_of(pod.namespace(), &claim)?,
            (None, None) => String::new(),
        };
        if driver.is_empty() {
            return Ok(false);
        }
        let object = object_in(&self.drivers, "", &driver)
            .ok_or_else(|| format!("csidriver.storage.k8s.io {driver:?} not found"))?;
        let requests = object.get(&["spec", "tokenRequests"]).and_then(Value::as_array).into_iter().flatten();
        Ok(requests.into_iter().any(|request| has_audience(request, audience)))
    }

    /// The driver of the volume that a claim is bound to; `""` if it is bound to none, or to one without.
    fn driver_of(&self, namespace: &str, claim: &str) -> Result<String, String> {
        let claim = object_in(&self.claims, namespace, claim)
            .ok_or_else(|| format!("persistentvolumeclaim {claim:?} not found"))?;
        let name = claim.text(&["spec", "volumeName"]);
        if name.is_empty() {
            return Ok(String::new());
        }
        let volume =
            object_in(&self.volumes, "", name).ok_or_else(|| format!("persistentvolume {name:?} not found"))?;
        Ok(volume.text(&["spec", "csi", "driver"]).to_owned())
    }
}

fn object_in(cache: &ResourceCache, namespace: &str, name: &str) -> Option<Object> {
    cache.get(&cache.key(namespace, name)).map(|cached| cached.object())
}

/// Whether a token is asked for with this audience; `""` is the API server's own.
fn has_audience(asked: &Value, audience: &str) -> bool {
    asked.get("audience").and_then(Value::as_str).unwrap_or("") == audience
}

fn on_own_node(node: &str, pod: &Object, what: &str) -> Result<(), String> {
    if pod.text(&["spec", "nodeName"]) == node {
        return Ok(());
    }
    Err(format!("node {node:?} can only {what} pods with spec.nodeName set to itself"))
}

fn own_node(attributes: &Attributes<'_>, node: &str, object: Option<&Object>) -> Result<(), String> {
    let name = if attributes.name.is_empty() { object.map_or("", Object::name) } else { attributes.name };
    if name != node {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let Some(new) = object else {
        // A node does not delete itself: it would lose its taints and come back without.
        return Err(format!("node {node:?} is not allowed to delete node {name:?}"));
    };
    let labels = |object: Option<&Object>| object.and_then(Object::labels).cloned().unwrap_or_default();
    let forbidden = forbidden_labels(&labels(Some(new)), &labels(attributes.old));
    if !forbidden.is_empty() {
        return Err(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
    }
    let Some(old) = attributes.old else {
        if new.get(&["spec", "configSource"]).is_some() {
            return Err(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
        }
        return Ok(());
    };
    if attributes.subresource.is_empty() && old.get(&["spec", "taints"]) != new.get(&["spec", "taints"]) {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    if old.get(&["metadata", "ownerReferences"]) != new.get(&["metadata", "ownerReferences"]) {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    Ok(())
}

/// Changed labels that a node must not change.
fn forbidden_labels(new: &Map<String, Value>, old: &Map<String, Value>) -> Vec<String> {
    let mut keys: Vec<&String> = new.keys().chain(old.keys()).filter(|key| new.get(*key) != old.get(*key)).collect();
    keys.sort();
    keys.dedup();
    let is_restricted = |key: &str| {
        let Some((domain, _)) = key.split_once('/') else { return false };
        let in_domain = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|head| head.ends_with('.'));
        let isolation = in_domain("node-restriction.kubernetes.io");
        let of_kubernetes = LABEL_DOMAINS.iter().any(|of| in_domain(of));
        let own = OWN_LABELS.contains(&key)
            || OWN_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
            || domain.ends_with(".kubelet.kubernetes.io")
            || domain.ends_with(".node.kubernetes.io");
        isolation || (of_kubernetes && !own)
    };
    keys.into_iter().filter(|key| is_restricted(key)).cloned().collect()
}

/// Objects that carry the node's name: its lease and its CSINode.
fn named_as_node(attributes: &Attributes<'_>, node: &str, object: Option<&Object>) -> Result<(), String> {
    let name = if attributes.name.is_empty() { object.map_or("", Object::name) } else { attributes.name };
    let kind = &attributes.resource.kind;
    if name == node {
        Ok(())
    } else {
        Err(format!("node {node:?} is not allowed to access {kind} {name:?}: can only access its own"))
    }
}

#[async_trait]
impl MutatingAdmission for NodeRestriction {
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        let Some(node) = node_of(attributes.user) else { return Ok(()) };
        settle(&[self.pods.clone(), self.nodes.clone()]).await?;
        let object = object.as_deref();
        let resource = attributes.resource;
        let outcome = match (resource.group.as_ref(), resource.plural.as_ref()) {
            ("", "pods") => self.pods(attributes, node, object),
            ("", "nodes") => own_node(attributes, node, object),
            ("", "serviceaccounts") if attributes.subresource == "token" => self.token(attributes, node, object).await,
            ("coordination.k8s.io", "leases") | ("storage.k8s.io", "csinodes") => {
                named_as_node(attributes, node, object)
            }
            ("resource.k8s.io", "resourceslices") => {
                let of = object.or(attributes.old).map_or("", |slice| slice.text(&["spec", "nodeName"]));
                if of == node {
                    Ok(())
                } else {
                    Err("can only write ResourceSlices with spec.nodeName set to the requesting node".to_owned())
                }
            }
            _ => Ok(()),
        };
        outcome.map_err(|why| attributes.forbidden(&why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_change_only_labels_that_say_what_they_are() {
        let map = |tree: Value| tree.as_object().cloned().unwrap();
        let new = map(json!({
            "kubernetes.io/hostname": "a", "example.com/x": "y", "node.kubernetes.io/x": "y",
            "node-restriction.kubernetes.io/zone": "1", "foo.kubernetes.io/x": "y", "kept.k8s.io/x": "z",
        }));
        let old = map(json!({"kept.k8s.io/x": "z"}));
        assert_eq!(forbidden_labels(&new, &old), ["foo.kubernetes.io/x", "node-restriction.kubernetes.io/zone"]);
    }
}
