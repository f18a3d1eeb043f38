//! Rules for the statuses that workload controllers write: counts are not negative, and parts not more than the whole.

use crate::kinds::rules::tree::{Errors, Node};

const WHOLE: &str = "cannot be greater than status.replicas";

fn counts(status: &Node<'_, '_>, keys: &[&str], errors: &mut Errors) {
    for key in keys {
        errors.non_negative(&status.field(key));
    }
}

fn parts(status: &Node<'_, '_>, keys: &[&str], errors: &mut Errors) {
    let whole = status.field("replicas").number();
    for key in keys {
        let part = status.field(key);
        if part.number() > whole {
            errors.invalid(&part, WHOLE);
        }
    }
}

fn available_are_ready(status: &Node<'_, '_>, errors: &mut Errors) {
    let available = status.field("availableReplicas");
    if available.number() > status.field("readyReplicas").number() {
        errors.invalid(&available, "cannot be greater than readyReplicas");
    }
}

/// The status of a `Deployment`.
pub(crate) fn deployment(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    counts(
        &status,
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        errors,
    );
    parts(&status, &["updatedReplicas", "readyReplicas", "availableReplicas"], errors);
    available_are_ready(&status, errors);
    let (now, then) = (status.field("collisionCount"), old.field("status"));
    if now.number() < then.field("collisionCount").number() {
        errors.invalid_value(&now, now.number(), "cannot be decremented");
    }
}

/// The status of a `ReplicaSet` or `ReplicationController`.
pub(crate) fn replica_set(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    counts(
        &status,
        &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "terminatingReplicas",
            "observedGeneration",
        ],
        errors,
    );
    parts(&status, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], errors);
    available_are_ready(&status, errors);
}

/// The status of a `StatefulSet`.
pub(crate) fn stateful_set(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    counts(
        &status,
        &[
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ],
        errors,
    );
    parts(&status, &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"], errors);
    let available = status.field("availableReplicas");
    if available.number() > status.field("readyReplicas").number() {
        errors.invalid(&available, "cannot be greater than status.readyReplicas");
    }
}

/// The status of a `DaemonSet`.
pub(crate) fn daemon_set(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    counts(
        &new.field("status"),
        &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
        errors,
    );
}

/// The status of a `HorizontalPodAutoscaler`.
pub(crate) fn autoscaler(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    counts(&new.field("status"), &["currentReplicas", "desiredReplicas"], errors);
}

/// The status of a `PodDisruptionBudget`.
pub(crate) fn disruption_budget(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    counts(&new.field("status"), &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"], errors);
}
