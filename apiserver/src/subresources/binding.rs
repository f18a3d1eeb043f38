//! Binding: the scheduler's decision where a pod runs. Upstream: `BindingREST`.

use std::sync::Arc;

use api::field::{FieldError, Path};
use api::status::Qualified;
use api::{ApiError, Object, Resource};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};
use crate::call::{Call, Routed, routed};
use crate::registry::check_name;
use crate::request::decode;
use crate::request::options::{Write, WriteOptions};
use crate::response::{self, Answer};
use crate::stamps::timestamp;

/// `POST pods/{name}/binding`.
pub(super) async fn create(routed: &Routed<'_>, bytes: Bytes, warnings: &mut Vec<String>) -> Result<Answer, ApiError> {
    let options = routed.call.write_options(Write::Create)?;
    let binding = read(routed.call, &options, &bytes, warnings)?;
    bind(routed, &routed.call.info.name, (binding, warnings), &options, (&routed.client_row, "binding")).await
}

/// `POST bindings`: the name of the pod is in the body. Admission is asked about what the client asked for.
pub(super) async fn create_unnamed(
    call: &Call<'_>,
    row: &Arc<Resource>,
    bytes: Bytes,
    warnings: &mut Vec<String>,
) -> Result<Answer, ApiError> {
    let options = call.write_options(Write::Create)?;
    let binding = read(call, &options, &bytes, warnings)?;
    let catalog = call.core.registry.catalog();
    let pods = catalog.resource("", "v1", "pods").ok_or_else(ApiError::unknown_resource)?;
    let routed = routed(call, pods)?;
    let name = binding.name().to_owned();
    if name.is_empty() {
        check_target(&binding)?;
        return Err(ApiError::bad_request("Name parameter required."));
    }
    bind(&routed, &name, (binding, warnings), &options, (row, "")).await
}

fn read(
    call: &Call<'_>,
    options: &WriteOptions,
    bytes: &Bytes,
    warnings: &mut Vec<String>,
) -> Result<Object, ApiError> {
    decode::builtin(("", "v1", "Binding"), call.headers(), bytes, options.field_validation, warnings)
}

async fn bind(
    routed: &Routed<'_>,
    name: &str,
    (mut binding, warnings): (Object, &mut Vec<String>),
    options: &WriteOptions,
    (asked, subresource): (&Arc<Resource>, &str),
) -> Result<Answer, ApiError> {
    if !binding.name().is_empty() && binding.name() != name {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    check_name(name, &mut binding)?;
    let target = crate::registry::Target { name, subresource: "binding", ..routed.target() };
    let raw = options.to_value(Write::Create);
    let catalog = routed.registry().catalog();
    let attributes = Attributes {
        operation: Operation::Create,
        resource: catalog.storage_row(asked),
        requested: asked,
        catalog: &catalog,
        subresource,
        namespace: target.namespace,
        name,
        user: routed.call.user,
        dry_run: options.dry_run,
        old: None,
        options: Some(&raw),
        reinvocation: None,
    };
    let admission = routed.registry().admission();
    admission.mutate(&attributes, Some(&mut binding), warnings).await?;
    check_target(&binding)?;
    admission.validate(&attributes, Some(&binding), warnings).await?;
    let now = timestamp(Timestamp::now());
    routed.registry().modify(&target, options.dry_run, |pod| assign(pod, &binding, &now)).await?;
    Ok(response::value(StatusCode::CREATED, routed.accept, &created()))
}

fn created() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

fn check_target(binding: &Object) -> Result<(), ApiError> {
    let at = Path::new("target");
    let kind = binding.text(&["target", "kind"]);
    let mut errors = Vec::new();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(&at.child("kind"), kind, &["Node", "<empty>"]));
    }
    if binding.text(&["target", "name"]).is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(ApiError::unclassified(one.to_string())),
        many => {
            let texts: Vec<String> = many.iter().map(ToString::to_string).collect();
            Err(ApiError::unclassified(format!("[{}]", texts.join(", "))))
        }
    }
}

fn assign(pod: &mut Object, binding: &Object, now: &str) -> Result<(), ApiError> {
    let what = Qualified { group: "", resource: "pods/binding" };
    let name = pod.name().to_owned();
    let conflict = |why: &str| Err(ApiError::conflict(what, &name, why));
    let uid = binding.uid();
    if !uid.is_empty() && uid != pod.uid() {
        return conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            pod.uid()
        ));
    }
    let version = binding.resource_version();
    if !version.is_empty() && version != pod.resource_version() {
        let found = pod.resource_version();
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {found}"
        );
        return conflict(&why);
    }
    if pod.is_being_deleted() {
        return conflict(&format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let assigned = pod.text(&["spec", "nodeName"]);
    if !assigned.is_empty() {
        return conflict(&format!("pod {name} is already assigned to node {assigned:?}"));
    }
    let gates = pod.get(&["spec", "schedulingGates"]).and_then(Value::as_array);
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return conflict(&format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod.set(&["spec", "nodeName"], binding.text(&["target", "name"]));
    // A nomination has no meaning any more (KEP-5278).
    pod.remove(&["status", "nominatedNodeName"]);
    for map in ["labels", "annotations"] {
        for (key, value) in binding.get(&["metadata", map]).and_then(Value::as_object).into_iter().flatten() {
            pod.set(&["metadata", map, key], value.clone());
        }
    }
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    set_condition(pod, scheduled);
    Ok(())
}

/// Sets a condition; the time of its transition moves only with its status.
pub(super) fn set_condition(object: &mut Object, mut fresh: Value) {
    let mut conditions = object.get(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    match conditions.iter_mut().find(|condition| condition["type"] == fresh["type"]) {
        Some(known) => {
            if known["status"] == fresh["status"] {
                fresh["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = fresh;
        }
        None => conditions.push(fresh),
    }
    object.set(&["status", "conditions"], conditions);
}
