//! What a Deployment says about its rollout: the fields `kubectl rollout status` reads and the conditions.

use std::time::Duration;

use facts::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::sets::{self, Limits};
use crate::meta;

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const COMPLETE: &str = "NewReplicaSetAvailable";

/// The numbers of the status, and whether enough pods are available.
pub(super) fn calculate(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    all: &[&ReplicaSet],
    limits: Limits,
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |number: fn(&ReplicaSet) -> i32| all.iter().map(|set| number(set)).sum::<i32>();
    let available = sum(sets::available);
    let some = |number: i32| (number != 0).then_some(number);
    let old = deployment.status.clone().unwrap_or_default();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(actual)),
        updated_replicas: some(new.map_or(0, actual)),
        ready_replicas: some(sum(ready)),
        available_replicas: some(available),
        unavailable_replicas: some((sum(sets::replicas) - available).max(0)),
        terminating_replicas: Some(sum(terminating)),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let (value, reason, message) = if available >= limits.min_available() {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set_condition(&mut status, AVAILABLE, value, reason, message.to_owned(), now);
    status
}

fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

fn terminating(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0)
}

/// Adds to `status` how the rollout goes: complete, progressing, or stuck for longer than the deadline.
pub(super) fn report_progress(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    all: &[&ReplicaSet],
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    if deadline(deployment).is_none() {
        remove_condition(status, PROGRESSING);
    } else {
        let known = condition(deployment.status.as_ref(), PROGRESSING).cloned();
        let is_settled = status.replicas == status.updated_replicas
            && known.as_ref().is_some_and(|known| is_reason(known, COMPLETE));
        if !is_settled {
            report_unsettled(deployment, new, status, known, now);
        }
    }
    match all.iter().find_map(|set| replica_failure(set)) {
        Some(failure) => replace_condition(status, failure),
        None => remove_condition(status, REPLICA_FAILURE),
    }
}

fn report_unsettled(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    status: &mut DeploymentStatus,
    known: Option<DeploymentCondition>,
    now: Timestamp,
) {
    let subject = match new {
        Some(set) => format!("ReplicaSet \"{}\"", meta::name(&set.metadata)),
        None => format!("Deployment \"{}\"", meta::name(&deployment.metadata)),
    };
    let is_complete = is_complete(deployment, status);
    if is_complete {
        let message = format!("{subject} has successfully progressed.");
        set_condition(status, PROGRESSING, "True", COMPLETE, message, now);
    } else if has_progressed(deployment.status.as_ref(), status) {
        let message = format!("{subject} is progressing.");
        let mut fresh = make_condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
        if let Some(known) = known.filter(|known| known.status == "True") {
            fresh.last_transition_time = known.last_transition_time;
        }
        // Replaced even when nothing but the time changed: the deadline counts from the last progress.
        replace_condition(status, fresh);
    } else if is_timed_out(deployment, known.as_ref(), now) {
        let message = format!("{subject} has timed out progressing.");
        set_condition(status, PROGRESSING, "False", TIMED_OUT, message, now);
    }
}

/// All pods are new, there are as many as wanted, and all are available.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let is_wanted = |number: Option<i32>| number.unwrap_or(0) == wanted;
    is_wanted(status.updated_replicas)
        && is_wanted(status.replicas)
        && is_wanted(status.available_replicas)
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(old: Option<&DeploymentStatus>, new: &DeploymentStatus) -> bool {
    let numbers = |status: &DeploymentStatus| {
        let updated = status.updated_replicas.unwrap_or(0);
        let others = status.replicas.unwrap_or(0) - updated;
        (updated, others, status.ready_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0))
    };
    let (old, new) = (old.map(numbers).unwrap_or_default(), numbers(new));
    new.0 > old.0 || new.1 < old.1 || new.2 > old.2 || new.3 > old.3
}

fn is_timed_out(deployment: &Deployment, known: Option<&DeploymentCondition>, now: Timestamp) -> bool {
    match (known, deadline(deployment)) {
        (Some(known), _) if is_reason(known, COMPLETE) => false,
        (Some(known), Some(_)) if is_reason(known, TIMED_OUT) => true,
        (Some(known), Some(deadline)) => due(known, deadline).is_some_and(|due| due < now),
        _ => false,
    }
}

/// When to look again at a rollout that makes no progress.
pub(super) fn next_look(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let known = condition(Some(status), PROGRESSING)?;
    if is_complete(deployment, status) || is_reason(known, TIMED_OUT) || is_reason(known, COMPLETE) {
        return None;
    }
    Some(pods::until(due(known, deadline(deployment)?)?, now) + Duration::from_secs(1))
}

/// Says that the rollout stands still because it was paused, or that it goes on; the deadline starts anew.
pub(super) fn report_pause(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    let known = condition(Some(status), PROGRESSING);
    if deadline(deployment).is_none() || known.is_some_and(|known| is_reason(known, TIMED_OUT)) {
        return;
    }
    let was_paused = known.is_some_and(|known| is_reason(known, "DeploymentPaused"));
    let (reason, message) = match (is_paused, was_paused) {
        (true, false) => ("DeploymentPaused", "Deployment is paused"),
        (false, true) => ("DeploymentResumed", "Deployment is resumed"),
        _ => return,
    };
    set_condition(status, PROGRESSING, "Unknown", reason, message.to_owned(), now);
}

/// `None` for no deadline: upstream takes the largest number for that, too.
fn deadline(deployment: &Deployment) -> Option<SignedDuration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)?;
    Some(SignedDuration::from_secs(seconds.into()))
}

fn due(known: &DeploymentCondition, deadline: SignedDuration) -> Option<Timestamp> {
    known.last_update_time.as_ref()?.0.checked_add(deadline).ok()
}

fn replica_failure(set: &ReplicaSet) -> Option<DeploymentCondition> {
    let conditions = set.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE)?;
    Some(DeploymentCondition {
        type_: REPLICA_FAILURE.to_owned(),
        status: failure.status.clone(),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        last_update_time: failure.last_transition_time.clone(),
        last_transition_time: failure.last_transition_time.clone(),
    })
}

pub(super) fn condition<'a>(status: Option<&'a DeploymentStatus>, kind: &str) -> Option<&'a DeploymentCondition> {
    status?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn is_reason(condition: &DeploymentCondition, reason: &str) -> bool {
    condition.reason.as_deref() == Some(reason)
}

fn make_condition(kind: &str, value: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Sets a condition unless it has this status and reason already; the transition time moves only with the status.
pub(super) fn set_condition(
    status: &mut DeploymentStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let mut fresh = make_condition(kind, value, reason, message, now);
    if let Some(known) = condition(Some(status), kind) {
        if known.status == value && is_reason(known, reason) {
            return;
        }
        if known.status == value {
            fresh.last_transition_time.clone_from(&known.last_transition_time);
        }
    }
    replace_condition(status, fresh);
}

fn replace_condition(status: &mut DeploymentStatus, fresh: DeploymentCondition) {
    let all = status.conditions.get_or_insert_default();
    if !all.contains(&fresh) {
        all.retain(|known| known.type_ != fresh.type_);
        all.push(fresh);
    }
}

fn remove_condition(status: &mut DeploymentStatus, kind: &str) {
    if let Some(all) = &mut status.conditions {
        all.retain(|known| known.type_ != kind);
    }
    status.conditions = status.conditions.take().filter(|all| !all.is_empty());
}
