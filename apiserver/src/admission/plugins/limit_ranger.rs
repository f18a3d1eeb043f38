//! LimitRanger: containers, pods and claims get the default resources of their namespace, and stay within its bounds.

use std::sync::Arc;

use api::{ApiError, Object};
use async_trait::async_trait;
use facts::amounts::{Amounts, read};
use facts::pods::demand::Demand;
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
struct Said<'a> {
    requests: Amounts<'a>,
    limits: Amounts<'a>,
}

impl<'a> Said<'a> {
    fn of(holder: &'a Value) -> Self {
        let list = |name: &str| read(holder.get("resources").and_then(|resources| resources.get(name)));
        Self { requests: list("requests"), limits: list("limits") }
    }

    /// The pod's own, and what its containers need together.
    fn of_pod(spec: &'a Map<String, Value>) -> Self {
        let demand = Demand::of_tree(spec, None).without_overhead();
        Self { requests: demand.requests(), limits: demand.limits() }
    }
}

/// What is out of bounds.
fn exceeded(limit: &Value, kind: &str, said: &Said<'_>) -> Vec<String> {
    let mut errors = Vec::new();
    let request = |resource: &str| said.requests.get(resource).copied();
    let limited = |resource: &str| said.limits.get(resource).copied();
    for (resource, bound) in map_of(limit, "min").into_iter().flatten() {
        let Some(least) = Quantity::of_value(bound) else { continue };
        match (request(resource), limited(resource)) {
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
        match (limited(resource), request(resource)) {
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
        match (request(resource), limited(resource)) {
            (Some(request), Some(given)) if !request.is_zero() => {
                let ratio = given.to_f64() / request.to_f64();
                if ratio > most.to_f64() {
                    errors.push(format!("{resource} max limit to request ratio per {kind} is {most}, but provided ratio is {ratio:.6}"));
                }
            }
            (None, _) | (Some(_), None) => {
                let what = if request(resource).is_none() { "request" } else { "limit" };
                errors.push(format!("{resource} max limit to request ratio per {kind} is {most}, but no {what} is specified or {what} is 0"));
            }
            _ => errors.push(format!("{resource} max limit to request ratio per {kind} is {most}, but no request is specified or request is 0")),
        }
    }
    errors
}

fn pod_errors(limits: &[Value], pod: &Object) -> Vec<String> {
    let Some(spec) = pod.get(&["spec"]).and_then(Value::as_object) else { return Vec::new() };
    let list = |name: &str| spec.get(name).and_then(Value::as_array).into_iter().flatten();
    let containers: Vec<_> = list("containers").chain(list("initContainers")).map(Said::of).collect();
    let mut errors = Vec::new();
    for limit in limits {
        match limit.get("type").and_then(Value::as_str) {
            Some("Container") => errors.extend(containers.iter().flat_map(|said| exceeded(limit, "Container", said))),
            Some("Pod") => errors.extend(exceeded(limit, "Pod", &Said::of_pod(spec))),
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
            let said = Said::of(object.get(&["spec"]).unwrap_or(&Value::Null));
            of_type(&limits, "PersistentVolumeClaim")
                .flat_map(|limit| exceeded(limit, "PersistentVolumeClaim", &said))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a limit of two cores for pods says.
    fn check(spec: Value, expected: &[&str]) {
        let limit = json!({"type": "Pod", "max": {"cpu": "2"}});
        let pod = Object::from_value(json!({"spec": spec})).unwrap();
        assert_eq!(pod_errors(&[limit], &pod), expected, "{pod:?}");
    }

    fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"limits": {"cpu": cpu}, "requests": {"cpu": cpu}}})
    }

    #[test]
    fn sidecars_count_beside_the_containers() {
        let mut sidecar = container("1500m");
        check(json!({"containers": [container("1")], "initContainers": [sidecar.clone()]}), &[]);
        sidecar["restartPolicy"] = "Always".into();
        let why = "maximum cpu usage per Pod is 2, but limit is 2500m";
        check(json!({"containers": [container("1")], "initContainers": [sidecar]}), &[why]);
    }

    #[test]
    fn what_a_pod_says_for_itself_counts_and_its_overhead_does_not() {
        let sized = |cpu: &str| {
            let own = json!({"limits": {"cpu": cpu}, "requests": {"cpu": cpu}});
            json!({"containers": [{"name": "c"}], "resources": own, "overhead": {"cpu": "1"}})
        };
        check(sized("2"), &[]);
        check(sized("3"), &["maximum cpu usage per Pod is 2, but limit is 3"]);
    }
}
