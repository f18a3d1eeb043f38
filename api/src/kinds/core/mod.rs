//! Core kinds without a file of their own: ConfigMaps, Secrets, ServiceAccounts, Namespaces, Nodes, Endpoints,
//! Events, LimitRanges, ResourceQuotas, PodTemplates.

pub(crate) mod event;
pub(crate) mod limit_range;
pub(crate) mod node;
pub(crate) mod persistent_volume_claim;
pub(crate) mod pod;
pub(crate) mod secret;
pub(crate) mod service;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::pods::defaults;
use super::rules::tree;
use crate::kinds::rules::tree::{Fields, default_pointer, default_zero, each, is_zero, object, object_at, text};
use crate::object::Object;
use crate::strategy::WriteContext;

/// Defaults of a `Secret`; `stringData` is a way to write `data` and is never kept.
pub(crate) fn secret(object: &mut Object) {
    default_zero(object.root_mut(), "type", "Opaque");
    let Some(Value::Object(texts)) = object.remove(&["stringData"]) else { return };
    if texts.is_empty() {
        return;
    }
    let data = tree::object(object.root_mut(), "data");
    for (key, value) in texts {
        let encoded = STANDARD.encode(value.as_str().unwrap_or(""));
        data.insert(key, encoded.into());
    }
}

/// Defaults of a `Namespace`: its name is also a label, so that selectors can name it.
pub(crate) fn namespace(object: &mut Object) {
    let name = object.name().to_owned();
    if !name.is_empty() {
        tree::object(object.metadata_mut(), "labels").insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
    tree::object(object.root_mut(), "spec");
    default_zero(tree::object(object.root_mut(), "status"), "phase", "Active");
}

/// A new namespace is held by the namespace controller until its contents are gone.
pub(crate) fn prepare_namespace(_ctx: &WriteContext<'_>, new: &mut Object) {
    new.set(&["status"], json!({"phase": "Active"}));
    let spec = object(new.root_mut(), "spec");
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Value::Array(list) = finalizers {
        if !list.iter().any(|finalizer| finalizer == "kubernetes") {
            list.push("kubernetes".into());
        }
    } else {
        *finalizers = json!(["kubernetes"]);
    }
}

/// Only `/finalize` changes the finalizers of a namespace's spec.
pub(crate) fn prepare_namespace_update(ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    if ctx.subresource == "finalize" {
        return;
    }
    match old.get(&["spec", "finalizers"]).cloned() {
        Some(finalizers) => new.set(&["spec", "finalizers"], finalizers),
        None => {
            new.remove(&["spec", "finalizers"]);
        }
    }
}

/// A namespace that is being deleted says so.
pub(crate) fn begin_namespace_deletion(_ctx: &WriteContext<'_>, namespace: &mut Object) {
    namespace.set(&["status", "phase"], "Terminating");
}

/// A namespace stays until the finalizers of its spec are gone.
pub(crate) fn namespace_holds_deletion(namespace: &Object) -> bool {
    namespace.get(&["spec", "finalizers"]).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// Defaults of a `Node`; `podCIDR` is the first of `podCIDRs`.
pub(crate) fn node(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    let first = spec.get("podCIDRs").and_then(Value::as_array).and_then(|list| list.first()).cloned();
    match (text(spec, "podCIDR").to_owned(), first) {
        (_, Some(first)) => {
            spec.insert("podCIDR".to_owned(), first);
        }
        (single, None) if !single.is_empty() => {
            spec.insert("podCIDRs".to_owned(), json!([single]));
        }
        _ => {}
    }
}

/// The parts of a node's status that are always shown.
pub(crate) fn node_status(status: &mut Fields) {
    let endpoint = object(object(status, "daemonEndpoints"), "kubeletEndpoint");
    default_pointer(endpoint, "Port", 0);
    let info = object(status, "nodeInfo");
    for key in [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ] {
        default_pointer(info, key, "");
    }
    each(status, "conditions", |condition| {
        default_pointer(condition, "lastHeartbeatTime", Value::Null);
        default_pointer(condition, "lastTransitionTime", Value::Null);
    });
    if is_zero(status, "allocatable")
        && let Some(capacity) = status.get("capacity").filter(|c| c.is_object()).cloned()
    {
        status.insert("allocatable".to_owned(), capacity);
    }
}

/// Defaults of `Endpoints`.
pub(crate) fn endpoints(object: &mut Object) {
    each(object.root_mut(), "subsets", |subset| each(subset, "ports", |port| default_zero(port, "protocol", "TCP")));
}

/// Defaults of a `LimitRange`: what a container gets when it asks for nothing follows from the limits.
pub(crate) fn limit_range(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    each(spec, "limits", |item| {
        if text(item, "type") != "Container" {
            return;
        }
        fill_limits(item, "default", &["max"]);
        fill_limits(item, "defaultRequest", &["default", "min"]);
    });
}

/// Copies quantities that `target` lacks from `sources`, first source first.
fn fill_limits(item: &mut Fields, target: &str, sources: &[&str]) {
    for source in sources {
        let Some(from) = item.get(*source).and_then(Value::as_object).filter(|f| !f.is_empty()).cloned() else {
            continue;
        };
        let into = object(item, target);
        for (name, quantity) in from {
            into.entry(name).or_insert(quantity);
        }
    }
}

/// Defaults of a `PodTemplate`.
pub(crate) fn pod_template(object: &mut Object) {
    defaults::template(object.root_mut(), "template");
}

/// Defaults of an `Event` of the core group.
pub(crate) fn event(object: &mut Object) {
    let root = object.root_mut();
    tree::object(root, "involvedObject");
    tree::object(root, "source");
    for time in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        default_pointer(root, time, Value::Null);
    }
    default_pointer(root, "reportingComponent", "");
    default_pointer(root, "reportingInstance", "");
    object_at(root, "series");
}
