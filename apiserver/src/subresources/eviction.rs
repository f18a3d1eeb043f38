//! Eviction: a delete that asks the disruption budgets first.

use std::sync::Arc;

use api::codec::Target as Kind;
use api::selector::LabelSelector;
use api::status::{Cause, Details};
use api::{ApiError, Object, Resource};
use axum::body::Body;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::binding::set_condition;
use crate::admission::{Attributes, Operation};
use crate::decode;
use crate::handler::{Routed, read_body};
use crate::managed;
use crate::options::{DeleteOptions, Write, WriteOptions};
use crate::query::Query;
use crate::registry::{Target, timestamp};
use crate::response::{self, Answer};
use crate::watch_cache::ResourceCache;

/// `POST pods/{name}/eviction`.
pub(super) async fn create(routed: &Routed<'_>, body: Body) -> Result<Answer, ApiError> {
    let options = routed.call.write_options(Write::Create)?;
    let bytes = read_body(body).await?;
    let mut warnings = Vec::new();
    let mut eviction =
        decode::of_kind(&kind(&bytes)?, routed.call.headers(), &bytes, options.field_validation, &mut warnings)?;
    let name = routed.call.info.name.as_str();
    if eviction.name() != name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    admit(routed, &mut eviction, &options, &mut warnings).await?;
    let target = Target { subresource: "", ..routed.target() };
    let pod = routed.registry().get(&target, "").await?.object();
    let asked = eviction.get(&["deleteOptions"]).cloned().and_then(Object::from_value);
    let mut delete = DeleteOptions::read(&Query::default(), asked.or_else(|| Some(Object::default())))?;
    delete.dry_run |= options.dry_run;
    if !ignores_budgets(&pod) {
        disrupt(routed, &pod, delete.dry_run).await?;
    }
    delete.uid.get_or_insert_with(|| pod.uid().to_owned());
    if is_meant(&pod, &delete) {
        let now = timestamp(Timestamp::now());
        let marked = routed.registry().modify(&target, delete.dry_run, |pod| mark(pod, &now)).await?;
        if let Some(version) = &mut delete.resource_version {
            // The mark is no change that a client could have known of.
            marked.object.resource_version().clone_into(version);
        }
    }
    routed.registry().delete_admitted(&target, &delete).await?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let mut answer = response::value(StatusCode::CREATED, routed.accept, &status);
    response::add_warnings(answer.headers_mut(), &warnings);
    Ok(answer)
}

async fn admit(
    routed: &Routed<'_>,
    eviction: &mut Object,
    options: &WriteOptions,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    let (catalog, raw, target) = (routed.registry().catalog(), options.to_value(Write::Create), routed.target());
    let attributes = Attributes {
        operation: Operation::Create,
        resource: routed.cache.row(),
        requested: &routed.row,
        catalog: &catalog,
        subresource: "eviction",
        namespace: target.namespace,
        name: target.name,
        user: target.user,
        dry_run: options.dry_run,
        old: None,
        options: Some(&raw),
        reinvocation: None,
    };
    routed.registry().admission().admit(&attributes, eviction, warnings).await
}

/// The kind of the body. The first version is still taken, and looks the same.
fn kind(body: &[u8]) -> Result<Kind<'static>, ApiError> {
    let kind = Kind::builtin("policy", "v1", "Eviction").ok_or_else(|| ApiError::internal("Eviction has no schema"))?;
    let beta = serde_json::from_slice::<Value>(body).is_ok_and(|tree| tree["apiVersion"] == "policy/v1beta1");
    Ok(if beta { Kind { version: "v1beta1", ..kind } } else { kind })
}

/// Whether the preconditions of the delete hold; if not, it will say so itself.
fn is_meant(pod: &Object, delete: &DeleteOptions) -> bool {
    delete.uid.as_deref().is_none_or(|uid| uid == pod.uid())
        && delete.resource_version.as_deref().is_none_or(|version| version == pod.resource_version())
}

/// Tells the pod's owner why it goes.
fn mark(pod: &mut Object, now: &str) -> Result<(), ApiError> {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
    });
    set_condition(pod, condition);
    Ok(())
}

/// Pods that do not run, or go already, disrupt nothing.
fn ignores_budgets(pod: &Object) -> bool {
    pod.is_being_deleted() || matches!(pod.text(&["status", "phase"]), "Pending" | "Succeeded" | "Failed")
}

/// Takes one allowed disruption from the pod's budget, or says that there is none.
async fn disrupt(routed: &Routed<'_>, pod: &Object, dry_run: bool) -> Result<(), ApiError> {
    let budgets = routed.registry().named("policy", "poddisruptionbudgets")?;
    let matching = matching(&budgets, pod)?;
    let [budget] = matching.as_slice() else {
        return match matching.len() {
            0 => Ok(()),
            _ => Err(ApiError::unclassified(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            )),
        };
    };
    if !is_ready(pod) && budget.text(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow" {
        return Ok(());
    }
    let target = Target {
        cache: &budgets,
        requested: budgets.row(),
        namespace: pod.namespace(),
        name: budget.name(),
        subresource: "status",
        user: routed.call.user,
    };
    let now = timestamp(Timestamp::now());
    routed.registry().modify(&target, dry_run, |budget| take_one(budgets.row(), budget, pod, &now)).await.map(|_| ())
}

fn matching(budgets: &Arc<ResourceCache>, pod: &Object) -> Result<Vec<Object>, ApiError> {
    let prefix = format!("{}{}/", budgets.prefix(), pod.namespace());
    let mut matching = Vec::new();
    for cached in budgets.snapshot().objects.values().filter(|cached| cached.key.starts_with(&prefix)) {
        let budget = cached.object();
        if LabelSelector::of_value(budget.get(&["spec", "selector"]))?.matches(pod) {
            matching.push(budget);
        }
    }
    Ok(matching)
}

fn is_ready(pod: &Object) -> bool {
    let conditions = pod.get(&["status", "conditions"]).and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn take_one(row: &Resource, budget: &mut Object, pod: &Object, now: &str) -> Result<(), ApiError> {
    let number = |budget: &Object, field: &str| budget.integer(&["status", field]).unwrap_or(0);
    if number(budget, "observedGeneration") < budget.generation() {
        let err = ApiError::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 10);
        let message = format!("The disruption budget {} is still being processed by the server.", budget.name());
        return Err(with_cause(err, message, 10));
    }
    let allowed = number(budget, "disruptionsAllowed");
    if allowed < 1 {
        let err = ApiError::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 0);
        let (needed, healthy) = (number(budget, "desiredHealthy"), number(budget, "currentHealthy"));
        let message =
            format!("The disruption budget {} needs {needed} healthy pods and has {healthy} currently", budget.name());
        return Err(with_cause(err, message, 0));
    }
    let before = budget.clone();
    budget.set(&["status", "disruptionsAllowed"], allowed - 1);
    budget.set(&["status", "disruptedPods", pod.name()], now);
    if allowed == 1 {
        let condition = json!({
            "type": "DisruptionAllowed", "status": "False", "observedGeneration": number(budget, "observedGeneration"),
            "lastTransitionTime": now, "reason": "InsufficientPods", "message": "",
        });
        set_condition(budget, condition);
    }
    managed::track_own(row, "status", &before, budget);
    Ok(())
}

fn with_cause(err: ApiError, message: String, retry_after_seconds: u32) -> ApiError {
    let cause = Cause { reason: "DisruptionBudget".into(), message, ..Cause::default() };
    err.with_details(Details { causes: vec![cause], retry_after_seconds, ..Details::default() })
}
