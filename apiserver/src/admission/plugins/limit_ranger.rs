//! LimitRanger: containers, pods and claims get the default resources of their namespace, and stay within its bounds.

use std::sync::Arc;

use api::{ApiError, Object};
use async_trait::async_trait;
use facts::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::pods::containers_mut;
use super::{Phases, Plugin, in_namespace};
use crate::admission::{Attributes, MutatingAdmission, Operation, Outcome, ValidatingAdmission, Warnings};
use crate::watch_cache::ResourceCache;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(super) const PLUGIN: Plugin =
    Plugin::on("LimitRanger", |server| Phases::both(LimitRanger { ranges: server.cache.resource("limitranges")? }));

struct LimitRanger {
    ranges: Arc<ResourceCache>,
}

impl LimitRanger {
    /// The `limits` of all ranges of a namespace.
    fn limits(&self, namespace: &str) -> Vec<Value> {
        let snapshot = self.ranges.snapshot();
        let ranges = in_namespace(&self.ranges, &snapshot, namespace);
        let limits = ranges.filter_map(|range| range.tree().get(&["spec", "limits"])?.as_array());
        limits.flatten().cloned().collect()
    }
}

fn concerns(attributes: &Attributes<'_>) -> bool {
    attributes.creates("", "pods")
        || (attributes.is("", "persistentvolumeclaims")
            && matches!(attributes.operation, Operation::Create | Operation::Update))
}

fn of_type<'a>(limits: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    limits.iter().filter(move |limit| limit.get("type").and_then(Value::as_str) == Some(kind))
}

fn map_of<'a>(tree: &'a Value, field: &str) -> Option<&'a Map<String, Value>> {
    tree.get(field).and_then(Value::as_object)
}

#[async_trait]
impl MutatingAdmission for LimitRanger {
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        let Some(pod) = object.filter(|_| concerns(attributes) && attributes.resource.plural == "pods") else {
            return Ok(());
        };
        self.ranges.settle().await?;
        let limits = self.limits(attributes.namespace);
        let mut notes = Vec::new();
        for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
            for container in containers_mut(pod, list) {
                let name = container.get("name").and_then(Value::as_str).unwrap_or("").to_owned();
                for (defaults, field, word) in
                    [("defaultRequest", "requests", "request"), ("default", "limits", "limit")]
                {
                    let mut set = Vec::new();
                    for limit in of_type(&limits, "Container") {
                        set.extend(fill(container, field, map_of(limit, defaults)));
                    }
                    if !set.is_empty() {
                        set.sort();
                        notes.push(format!("{} {word} for {what} {name}", set.join(", ")));
                    }
                }
            }
        }
        if !notes.is_empty() {
            pod.set(&["metadata", "annotations", ANNOTATION], format!("LimitRanger plugin set: {}", notes.join("; ")));
        }
        Ok(())
    }
}

/// Adds the defaults that a container lacks; tells which.
fn fill(container: &mut Value, field: &str, defaults: Option<&Map<String, Value>>) -> Vec<String> {
    let mut set = Vec::new();
    for (resource, amount) in defaults.into_iter().flatten() {
        if container.pointer(&format!("/resources/{field}/{}", resource.replace('/', "~1"))).is_none() {
            let Some(fields) = container.as_object_mut() else { continue };
            let resources = fields.entry("resources").or_insert_with(|| json!({}));
            resources[field][resource] = amount.clone();
            set.push(resource.clone());
        }
    }
    set
}

/// What somebody asks for and is limited to.
#[derive(Default)]
struct Amounts {
    requests: Map<String, Value>,
    limits: Map<String, Value>,
}

impl Amounts {
    fn of(holder: &Value) -> Self {
        let map = |field: &str| {
            holder.pointer(&format!("/resources/{field}")).and_then(Value::as_object).cloned().unwrap_or_default()
        };
        Self { requests: map("requests"), limits: map("limits") }
    }

    /// Adds what another container needs at the same time.
    fn add(&mut self, other: &Self) {
        for (sum, more) in [(&mut self.requests, &other.requests), (&mut self.limits, &other.limits)] {
            for (resource, amount) in more {
                let total = [sum.get(resource), Some(amount)]
                    .into_iter()
                    .flatten()
                    .filter_map(Quantity::of_value)
                    .reduce(|a, b| a + b);
                if let Some(total) = total {
                    sum.insert(resource.clone(), total.to_string().into());
                }
            }
        }
    }

    /// Raises to what another container needs at another time.
    fn raise(&mut self, other: &Self) {
        for (sum, more) in [(&mut self.requests, &other.requests), (&mut self.limits, &other.limits)] {
            for (resource, amount) in more {
                let known = sum.get(resource).and_then(Quantity::of_value);
                if known.is_none_or(|known| Quantity::of_value(amount).is_some_and(|amount| amount > known)) {
                    sum.insert(resource.clone(), amount.clone());
                }
            }
        }
    }
}

/// What is out of bounds.
fn exceeded(limit: &Value, kind: &str, amounts: &Amounts) -> Vec<String> {
    let mut errors = Vec::new();
    let get = |map: &Map<String, Value>, resource: &str| map.get(resource).and_then(Quantity::of_value);
    for (resource, bound) in map_of(limit, "min").into_iter().flatten() {
        let Some(least) = Quantity::of_value(bound) else { continue };
        match (get(&amounts.requests, resource), get(&amounts.limits, resource)) {
            (None, _) => {
                errors.push(format!("minimum {resource} usage per {kind} is {least}.  No request is specified"))
            }
            (Some(request), _) if request < least => {
                errors.push(format!("minimum {resource} usage per {kind} is {least}, but request is {request}"));
            }
            (_, Some(given)) if given < least => {
                errors.push(format!("minimum {resource} usage per {kind} is {least}, but limit is {given}"))
            }
            _ => {}
        }
    }
    for (resource, bound) in map_of(limit, "max").into_iter().flatten() {
        let Some(most) = Quantity::of_value(bound) else { continue };
        match (get(&amounts.limits, resource), get(&amounts.requests, resource)) {
            (None, Some(request)) if kind == "PersistentVolumeClaim" && request <= most => {}
            (None, Some(request)) if kind == "PersistentVolumeClaim" => {
                errors.push(format!("maximum {resource} usage per {kind} is {most}, but request is {request}"));
            }
            (None, _) => errors.push(format!("maximum {resource} usage per {kind} is {most}.  No limit is specified")),
            (Some(given), _) if given > most => {
                errors.push(format!("maximum {resource} usage per {kind} is {most}, but limit is {given}"))
            }
            (_, Some(request)) if request > most => {
                errors.push(format!("maximum {resource} usage per {kind} is {most}, but request is {request}"));
            }
            _ => {}
        }
    }
    for (resource, bound) in map_of(limit, "maxLimitRequestRatio").into_iter().flatten() {
        let Some(most) = Quantity::of_value(bound) else { continue };
        match (get(&amounts.requests, resource), get(&amounts.limits, resource)) {
            (Some(request), Some(given)) if !request.is_zero() => {
                let ratio = given.to_f64() / request.to_f64();
                if ratio > most.to_f64() {
                    errors.push(format!("{resource} max limit to request ratio per {kind} is {most}, but provided ratio is {ratio:.6}"));
                }
            }
            (None, _) | (Some(_), None) => {
                let what = if get(&amounts.requests, resource).is_none() { "request" } else { "limit" };
                errors.push(format!("{resource} max limit to request ratio per {kind} is {most}, but no {what} is specified or {what} is 0"));
            }
            _ => errors.push(format!("{resource} max limit to request ratio per {kind} is {most}, but no request is specified or request is 0")),
        }
    }
    errors
}

fn pod_errors(limits: &[Value], pod: &Object) -> Vec<String> {
    let containers = |list: &str| pod.get(&["spec", list]).and_then(Value::as_array).cloned().unwrap_or_default();
    let (main, init) = (containers("containers"), containers("initContainers"));
    let mut errors = Vec::new();
    for limit in limits {
        match limit.get("type").and_then(Value::as_str) {
            Some("Container") => errors.extend(
                main.iter().chain(&init).flat_map(|container| exceeded(limit, "Container", &Amounts::of(container))),
            ),
            Some("Pod") => {
                let mut total = Amounts::default();
                main.iter().for_each(|container| total.add(&Amounts::of(container)));
                init.iter().for_each(|container| total.raise(&Amounts::of(container)));
                errors.extend(exceeded(limit, "Pod", &total));
            }
            _ => {}
        }
    }
    errors
}

#[async_trait]
impl ValidatingAdmission for LimitRanger {
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, _: &mut Warnings) -> Outcome {
        let Some(object) = object.filter(|_| concerns(attributes)) else { return Ok(()) };
        self.ranges.settle().await?;
        let limits = self.limits(attributes.namespace);
        let errors = if attributes.resource.plural == "pods" {
            pod_errors(&limits, object)
        } else {
            let amounts = object.get(&["spec"]).map(Amounts::of).unwrap_or_default();
            of_type(&limits, "PersistentVolumeClaim")
                .flat_map(|limit| exceeded(limit, "PersistentVolumeClaim", &amounts))
                .collect()
        };
        let why = match errors.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        Err(ApiError::forbidden(attributes.resource.qualified(), object.name(), &why))
    }
}
