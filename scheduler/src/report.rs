//! Telling people why a pod has no node: its `PodScheduled` condition, its nomination and an event (upstream:
//! `handleSchedulingFailure`).

use std::sync::Arc;

use facts::pods;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::scheduling::v1alpha2::PodGroup;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};
use tracing::debug;

use crate::framework::PodInfo;

/// The most bytes of an event's message.
const NOTE_LIMIT: usize = 1024;

/// What a failed attempt makes of `status.nominatedNodeName`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nomination {
    Keep,
    End,
    Is(String),
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// `Unschedulable`, or `SchedulerError` when the scheduler is to blame.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) nomination: Nomination,
}

impl Failed {
    /// A pod that has no place, for this reason.
    pub(crate) fn unschedulable(message: String, nomination: Nomination) -> Self {
        Self { reason: "Unschedulable", message, nomination }
    }

    /// The message, no longer than events may say.
    pub(crate) fn note(&self) -> String {
        if self.message.len() <= NOTE_LIMIT {
            return self.message.clone();
        }
        let end = self.message.floor_char_boundary(NOTE_LIMIT - " ...".len());
        format!("{} ...", &self.message[..end])
    }
}

/// What became of a group of pods.
#[derive(Clone, Debug)]
pub(crate) struct GroupReport {
    pub(crate) group: Arc<PodGroup>,
    /// Why it has no places; `None` when enough of its pods have.
    pub(crate) unschedulable: Option<&'static str>,
}

impl GroupReport {
    /// Writes `PodGroupScheduled`, unless the group says so already. A group that was scheduled once stays so, whatever
    /// becomes of pods that come later.
    pub(crate) async fn write(&self, client: &kube::Client) {
        let Some(condition) = self.condition() else { return };
        let metadata = &self.group.metadata;
        let patch = json!({"metadata": {"uid": metadata.uid}, "status": {"conditions": [condition]}});
        let api: Api<PodGroup> = Api::namespaced(client.clone(), metadata.namespace.as_deref().unwrap_or_default());
        let name = metadata.name.as_deref().unwrap_or_default();
        if let Err(err) = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            debug!(group = name, error = &err as &dyn std::error::Error, "condition not written");
        }
    }

    fn condition(&self) -> Option<Condition> {
        let known = self.group.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let before = known.iter().find(|condition| condition.type_ == "PodGroupScheduled");
        let (status, reason) =
            if self.unschedulable.is_some() { ("False", "Unschedulable") } else { ("True", "Scheduled") };
        let message = self.unschedulable.unwrap_or_default();
        if before
            .is_some_and(|before| before.status == "True" || (before.status == status && before.message == message))
        {
            return None;
        }
        let since = before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
        Some(Condition {
            type_: "PodGroupScheduled".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: since.unwrap_or_else(client::clock::time),
            observed_generation: self.group.metadata.generation,
        })
    }
}

/// Writes `PodScheduled=False` and the nomination, unless the pod says so already.
pub(crate) async fn not_scheduled(client: &kube::Client, pod: &PodInfo, failed: &Failed) {
    let status = changes(pod, failed);
    if status.is_empty() {
        return;
    }
    // The uid refuses the write when the pod was replaced by another of its name.
    let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    if let Err(err) = api.patch_status(&pod.key.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        // The next attempt writes it again.
        debug!(pod = %pod.key, error = &err as &dyn std::error::Error, "condition not written");
    }
}

/// What is new in the pod's status.
fn changes(pod: &PodInfo, failed: &Failed) -> Map<String, Value> {
    let mut status = Map::new();
    if !says_already(pod, failed) {
        let condition = PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some(failed.reason.to_owned()),
            message: Some(failed.message.clone()),
            last_transition_time: Some(transition(pod)),
            observed_generation: pod.pod.metadata.generation,
            ..PodCondition::default()
        };
        status.insert("conditions".to_owned(), json!([condition]));
    }
    let nominated = match &failed.nomination {
        Nomination::Keep => pod.nominated_node(),
        Nomination::End => None,
        Nomination::Is(node) => Some(node.as_str()),
    };
    if nominated != pod.nominated_node() {
        status.insert("nominatedNodeName".to_owned(), json!(nominated));
    }
    status
}

fn says_already(pod: &PodInfo, failed: &Failed) -> bool {
    pods::condition(&pod.pod, "PodScheduled").is_some_and(|condition| {
        condition.status == "False"
            && condition.reason.as_deref() == Some(failed.reason)
            && condition.message.as_deref() == Some(&failed.message)
    })
}

/// When the condition became false: now, unless it is false already.
fn transition(pod: &PodInfo) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    let before = pods::condition(&pod.pod, "PodScheduled")
        .filter(|condition| condition.status == "False")
        .and_then(|condition| condition.last_transition_time.clone());
    before.unwrap_or_else(client::clock::time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: Value) -> PodInfo {
        PodInfo::new(Arc::new(serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()))
    }

    fn failed(nomination: Nomination) -> Failed {
        Failed { reason: "Unschedulable", message: "full".to_owned(), nomination }
    }

    fn check(status: Value, nomination: Nomination, want: Value) {
        let changes = changes(&pod(status.clone()), &failed(nomination));
        assert_eq!(changes.get("nominatedNodeName").cloned().unwrap_or(json!("kept")), want, "{status}");
    }

    #[test]
    fn only_what_is_new_is_written() {
        let known = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}]});
        assert!(changes(&pod(known), &failed(Nomination::Keep)).is_empty());
        assert!(changes(&pod(json!({})), &failed(Nomination::Keep)).contains_key("conditions"));
        let nominated = || json!({"nominatedNodeName": "a"});
        check(nominated(), Nomination::Keep, json!("kept"));
        check(nominated(), Nomination::End, json!(null));
        check(nominated(), Nomination::Is("a".into()), json!("kept"));
        check(nominated(), Nomination::Is("b".into()), json!("b"));
        check(json!({}), Nomination::End, json!("kept"));
    }

    #[test]
    fn a_group_is_told_what_is_new_and_stays_scheduled() {
        let told = |status: &str, message: &str, unschedulable| {
            let condition = json!({
                "type": "PodGroupScheduled", "status": status, "reason": "x", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            });
            let group = json!({"metadata": {"name": "g"}, "spec": {"schedulingPolicy": {}}, "status": {"conditions": [condition]}});
            let group = Arc::new(serde_json::from_value(group).unwrap());
            GroupReport { group, unschedulable }.condition().map(|condition| condition.status)
        };
        assert_eq!(told("False", "full", Some("full")), None);
        assert_eq!(told("False", "full", Some("waits")).as_deref(), Some("False"));
        assert_eq!(told("False", "full", None).as_deref(), Some("True"));
        assert_eq!(told("True", "", Some("full")), None);
    }

    #[test]
    fn a_long_message_is_cut_for_its_event() {
        let long = Failed { message: "ä".repeat(1000), ..failed(Nomination::Keep) };
        assert!(long.note().len() <= NOTE_LIMIT && long.note().ends_with("ä ..."));
        assert_eq!(failed(Nomination::Keep).note(), "full");
    }
}
