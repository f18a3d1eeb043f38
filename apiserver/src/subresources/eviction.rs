//! Eviction: a delete that asks the disruption budgets first. Upstream: `EvictionREST`.

use std::sync::Arc;

use api::codec::Target as Kind;
use api::selector::LabelSelector;
use api::status::{Cause, Details, Qualified};
use api::{ApiError, Object, Resource};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::binding::set_condition;
use crate::admission::Operation;
use crate::call::Routed;
use crate::field_managers;
use crate::registry::Target;
use crate::request::decode;
use crate::request::options::{DeleteOptions, Write, WriteOptions};
use crate::request::query::Query;
use crate::response::{self, Answer};
use crate::stamps::timestamp;
use crate::watch_cache::ResourceCache;

/// Upstream's `EvictionsRetry`: how often a pod that changes all the time is tried again.
const ATTEMPTS: usize = 20;
/// Upstream's `MaxDisruptedPodSize`: so many evictions may be unseen by the budget's controller.
const MOST_DISRUPTED: usize = 2000;
const CONDITION: &str = "DisruptionAllowed";

/// `POST pods/{name}/eviction`.
pub(super) async fn create(routed: &Routed<'_>, bytes: Bytes, warnings: &mut Vec<String>) -> Result<Answer, ApiError> {
    let options = routed.call.write_options(Write::Create)?;
    let mut eviction =
        decode::of_kind(&kind(&bytes)?, routed.call.headers(), &bytes, options.field_validation, warnings)?;
    if eviction.name() != routed.call.info.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    same_dry_run(&eviction, options.dry_run)?;
    admit(routed, &mut eviction, &options, warnings).await?;
    let asked = eviction.get(&["deleteOptions"]).cloned().and_then(Object::from_value);
    let mut delete = DeleteOptions::read(&Query::default(), asked.or_else(|| Some(Object::default())))?;
    delete.dry_run |= options.dry_run;
    evict(routed, &delete).await?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(response::value(StatusCode::CREATED, routed.accept, &status))
}

/// A dry run that is asked for in two places is the same one.
fn same_dry_run(eviction: &Object, dry_run: bool) -> Result<(), ApiError> {
    let asked = eviction.get(&["deleteOptions", "dryRun"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let asked: Vec<&str> = asked.iter().map(|one| one.as_str().unwrap_or("")).collect();
    if !dry_run || asked.is_empty() || asked == ["All"] {
        return Ok(());
    }
    let asked = asked.join(" ");
    let why = format!("Non-matching dry-run options in request and content: [All] and [{asked}]");
    Err(ApiError::unclassified(why))
}

async fn admit(
    routed: &Routed<'_>,
    eviction: &mut Object,
    options: &WriteOptions,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    let (catalog, raw, target) = (routed.registry().catalog(), options.to_value(Write::Create), routed.target());
    let attributes = target.attributes(Operation::Create, &catalog, (options.dry_run, &raw));
    routed.registry().admission().admit(&attributes, eviction, warnings).await
}

/// The kind of the body. The first version is still taken, and looks the same.
fn kind(body: &[u8]) -> Result<Kind<'static>, ApiError> {
    let kind = Kind::builtin("policy", "v1", "Eviction").ok_or_else(|| ApiError::internal("Eviction has no schema"))?;
    let beta = serde_json::from_slice::<Value>(body).is_ok_and(|tree| tree["apiVersion"] == "policy/v1beta1");
    Ok(if beta { Kind { version: "v1beta1", ..kind } } else { kind })
}

/// What lets a pod go.
enum Consent {
    /// Whatever becomes of the pod meanwhile.
    Always,
    /// It does not run yet, and may begin to.
    WhilePending,
    /// It is not ready, but may become so, and then this budget protects it.
    WhileUnready(String),
}

/// Deletes the pod if the budgets consent, in the state in which they did.
async fn evict(routed: &Routed<'_>, asked: &DeleteOptions) -> Result<(), ApiError> {
    let target = Target { subresource: "", ..routed.target() };
    let mut attempt = 0;
    loop {
        let pod = routed.registry().get(&target, "").await?.object();
        let consent = consent(routed, &pod, asked.dry_run).await?;
        let mut delete = asked.clone();
        delete.uid.get_or_insert_with(|| pod.uid().to_owned());
        let is_own_condition = delete.resource_version.is_none() && !matches!(consent, Consent::Always);
        if is_own_condition {
            delete.resource_version = Some(pod.resource_version().to_owned());
        }
        let err = match remove(routed, &target, &pod, delete).await {
            Err(err) if err.is_conflict() && is_own_condition => err,
            other => return other,
        };
        match consent {
            Consent::WhileUnready(budget) => return Err(still_processed(&budget)),
            _ if attempt == ATTEMPTS => return Err(err),
            _ => attempt += 1,
        }
    }
}

/// Deletes the pod after its owner has been told why.
async fn remove(
    routed: &Routed<'_>,
    target: &Target<'_>,
    pod: &Object,
    mut delete: DeleteOptions,
) -> Result<(), ApiError> {
    if is_meant(pod, &delete) {
        let now = timestamp(Timestamp::now());
        let mark = |pod: &mut Object| {
            // Otherwise the delete will say so itself.
            if is_meant(pod, &delete) {
                mark(pod, &now);
            }
            Ok(())
        };
        let marked = routed.registry().modify(target, delete.dry_run, mark).await?;
        if has_mark(&marked.object, &now) && delete.resource_version.is_some() {
            // The mark is no change that a client could have known of.
            delete.resource_version = Some(marked.object.resource_version().to_owned());
        }
    }
    routed.registry().delete_admitted(target, &delete).await.map(drop)
}

/// Whether the preconditions of the delete hold.
fn is_meant(pod: &Object, delete: &DeleteOptions) -> bool {
    delete.uid.as_deref().is_none_or(|uid| uid == pod.uid())
        && delete.resource_version.as_deref().is_none_or(|version| version == pod.resource_version())
}

/// Tells the pod's owner why it goes.
fn mark(pod: &mut Object, now: &str) {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
    });
    set_condition(pod, condition);
}

fn has_mark(pod: &Object, now: &str) -> bool {
    pod.condition("DisruptionTarget").is_some_and(|mark| mark["lastTransitionTime"] == now)
}

/// Asks the budgets. Pods that do not run, or go already, disrupt nothing.
async fn consent(routed: &Routed<'_>, pod: &Object, dry_run: bool) -> Result<Consent, ApiError> {
    if pod.is_being_deleted() || matches!(pod.text(&["status", "phase"]), "Succeeded" | "Failed") {
        return Ok(Consent::Always);
    }
    if pod.text(&["status", "phase"]) == "Pending" {
        return Ok(Consent::WhilePending);
    }
    let budgets = routed.registry().named("policy", "poddisruptionbudgets")?;
    routed.registry().freshen().await?;
    let matching = matching(&budgets, pod)?;
    let [budget] = matching.as_slice() else {
        return match matching.len() {
            0 => Ok(Consent::Always),
            _ => Err(ApiError::unclassified(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            )),
        };
    };
    if !pod.has_condition("Ready") && lets_unhealthy_go(budget) {
        return Ok(Consent::WhileUnready(budget.name().to_owned()));
    }
    let target = Target::stored(&budgets, pod.namespace(), budget.name(), routed.call.user);
    let target = Target { subresource: "status", ..target };
    let now = timestamp(Timestamp::now());
    let take_one = |budget: &mut Object| take_one(budgets.row(), budget, pod, &now);
    routed.registry().modify(&target, dry_run, take_one).await?;
    Ok(Consent::Always)
}

/// A pod that is not healthy does not count, so that its going takes nothing from the budget.
fn lets_unhealthy_go(budget: &Object) -> bool {
    let (desired, healthy) = (number(budget, "desiredHealthy"), number(budget, "currentHealthy"));
    let is_met = healthy >= desired && desired > 0;
    is_met || budget.text(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
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

fn number(budget: &Object, field: &str) -> i64 {
    budget.integer(&["status", field]).unwrap_or(0)
}

fn still_processed(budget: &str) -> ApiError {
    refusal(format!("The disruption budget {budget} is still being processed by the server."), 10)
}

/// Why a budget that allows no disruption allows none.
fn no_more(budget: &Object) -> String {
    let name = budget.name();
    let denied = budget.condition(CONDITION).filter(|condition| condition["status"] == "False");
    let text = |field: &str| denied.and_then(|condition| condition[field].as_str()).unwrap_or_default();
    let (reason, message) = (text("reason"), text("message"));
    let (needed, healthy) = (number(budget, "desiredHealthy"), number(budget, "currentHealthy"));
    if reason == "SyncFailed" && !message.is_empty() {
        // The numbers are old then.
        return format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        );
    }
    if healthy <= needed {
        return format!("The disruption budget {name} needs {needed} healthy pods and has {healthy} currently");
    }
    let why = if message.is_empty() { String::new() } else { format!(" ({reason}): {message}") };
    format!("The disruption budget {name} does not allow evicting pods currently{why}")
}

fn take_one(row: &Resource, budget: &mut Object, pod: &Object, now: &str) -> Result<(), ApiError> {
    if number(budget, "observedGeneration") < budget.generation() {
        return Err(still_processed(budget.name()));
    }
    let forbidden = |why| {
        let what = Qualified { group: "policy", resource: "poddisruptionbudget" };
        Err(ApiError::forbidden(what, budget.name(), why))
    };
    let allowed = number(budget, "disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if budget
        .get(&["status", "disruptedPods"])
        .and_then(Value::as_object)
        .is_some_and(|pods| pods.len() > MOST_DISRUPTED)
    {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        return Err(refusal(no_more(budget), 0));
    }
    let before = budget.clone();
    budget.set(&["status", "disruptionsAllowed"], allowed - 1);
    budget.set(&["status", "disruptedPods", pod.name()], now);
    if allowed == 1 {
        let condition = json!({
            "type": CONDITION, "status": "False", "observedGeneration": number(budget, "observedGeneration"),
            "lastTransitionTime": now, "reason": "InsufficientPods", "message": "",
        });
        set_condition(budget, condition);
    }
    field_managers::track_own(row, "status", &before, budget);
    Ok(())
}

fn refusal(message: String, retry_after_seconds: u32) -> ApiError {
    const WHY: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
    let cause = Cause { reason: "DisruptionBudget".into(), message, ..Cause::default() };
    let details = Details { causes: vec![cause], retry_after_seconds, ..Details::default() };
    ApiError::too_many_requests(WHY, retry_after_seconds).with_details(details)
}
