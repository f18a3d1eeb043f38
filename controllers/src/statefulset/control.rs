//! What is written for the pods of a StatefulSet, and the events about it (upstream: `StatefulPodControl`).

use std::sync::Arc;

use client::{Expectations, Informer, ObjectKey, Recorder, events, write};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::{identity, retention};
use crate::context::Failure;
use crate::{meta, podcontrol};

/// Writes pods and claims in the name of one controller.
pub(super) struct Control {
    pub(super) client: kube::Client,
    pub(super) claims: Informer<PersistentVolumeClaim>,
    pub(super) expectations: Arc<Expectations>,
    pub(super) recorder: Recorder,
}

impl Control {
    /// Makes a pod, and before it the claims that it needs.
    pub(super) async fn create(
        &self,
        key: &ObjectKey,
        set: &StatefulSet,
        ordinal: i32,
        pod: &Pod,
    ) -> Result<(), Failure> {
        let name = meta::name(&pod.metadata);
        for (_, claim) in identity::claim_names(set, ordinal) {
            let known = self.claims.get(&ObjectKey::new(key.namespace.clone(), claim.clone()));
            if known.is_some_and(|known| retention::is_stale(&known, name)) {
                return Err(Failure::NotYet(format!("claim {claim} goes with the pod that was there before")));
            }
        }
        self.create_claims(key, set, ordinal).await?;
        self.expectations.expect_creations(key, 1);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let created = api.create(&PostParams::default(), pod).await;
        if created.is_err() {
            self.expectations.creation_observed(key);
        }
        match created {
            // Its name is its identity: the attempt follows when the other is gone.
            Err(err) if write::is_already_exists(&err) => Err(Failure::NameTaken(name.to_owned())),
            Err(err) if write::is_namespace_terminating(&err) => Ok(()),
            created => self.tell(set, "create", name, created.map(drop)),
        }
    }

    /// Makes the claims of an ordinal that are missing.
    pub(super) async fn create_claims(&self, key: &ObjectKey, set: &StatefulSet, ordinal: i32) -> Result<(), Failure> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        for claim in identity::claims(set, ordinal) {
            let name = meta::name(&claim.metadata);
            match self.claims.get(&ObjectKey::new(key.namespace.clone(), name)) {
                Some(known) if known.metadata.deletion_timestamp.is_some() => {
                    return Err(Failure::NotYet(format!("pvc {name} is being deleted")));
                }
                Some(_) => continue,
                None => {}
            }
            let pod = format!("{}-{ordinal}", key.name);
            match api.create(&PostParams::default(), &claim).await {
                Err(err) if write::is_already_exists(&err) => {}
                Ok(_) => {
                    let what = format!("create Claim {name} Pod {pod} in StatefulSet {} success", key.name);
                    self.recorder.normal(events::about(set), "SuccessfulCreate", what);
                }
                Err(err) => {
                    let why = write::status_message(&err);
                    let what =
                        format!("create Claim {name} for Pod {pod} in StatefulSet {} failed error: {why}", key.name);
                    self.recorder.warning(events::about(set), "FailedCreate", what);
                    return Err(err.into());
                }
            }
        }
        Ok(())
    }

    /// Deletes exactly this pod.
    pub(super) async fn delete(&self, key: &ObjectKey, set: &StatefulSet, pod: &Pod) -> Result<(), Failure> {
        let uid = meta::uid(&pod.metadata);
        self.expectations.expect_deletions(key, [uid.to_owned()]);
        let deleted = podcontrol::delete_pod(&self.client, pod).await;
        if !matches!(deleted, Ok(true)) {
            self.expectations.deletion_observed(key, uid);
        }
        match deleted {
            Ok(false) => Ok(()),
            deleted => self.tell(set, "delete", meta::name(&pod.metadata), deleted.map(drop)),
        }
    }

    /// Puts a pod's labels right, and who owns its claims.
    pub(super) async fn correct(
        &self,
        key: &ObjectKey,
        set: &StatefulSet,
        ordinal: i32,
        pod: &Pod,
    ) -> Result<(), Failure> {
        let name = meta::name(&pod.metadata);
        let labels = identity::missing_labels(pod, ordinal);
        if !labels.is_empty() {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
            let change = json!({ "metadata": { "uid": pod.metadata.uid, "labels": labels } });
            let changed = api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
            self.tell(set, "update", name, changed.map(drop))?;
        }
        if !identity::has_storage(set, pod, ordinal) {
            let set_name = &key.name;
            let why = format!(
                "update Pod {name} in StatefulSet {set_name} failed error: it does not mount its claims, and pods cannot change their volumes"
            );
            self.recorder.warning(events::about(set), "FailedUpdate", why);
        }
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        for (_, claim) in identity::claim_names(set, ordinal) {
            let Some(known) = self.claims.get(&ObjectKey::new(key.namespace.clone(), claim.clone())) else { continue };
            let Some(owners) = retention::owners(set, pod, &known) else { continue };
            let mut changed = (*known).clone();
            changed.metadata.owner_references = Some(owners);
            write::ignore_not_found(api.replace(&claim, &PostParams::default(), &changed).await)?;
        }
        Ok(())
    }

    fn tell(&self, set: &StatefulSet, verb: &str, pod: &str, done: kube::Result<()>) -> Result<(), Failure> {
        let title = match verb {
            "create" => "Create",
            "delete" => "Delete",
            _ => "Update",
        };
        let what = format!("{verb} Pod {pod} in StatefulSet {}", meta::name(&set.metadata));
        match done {
            Ok(()) => {
                let reason = format!("Successful{title}");
                self.recorder.normal(events::about(set), &reason, format!("{what} successful"));
                Ok(())
            }
            Err(err) => {
                let why = write::status_message(&err);
                let reason = format!("Failed{title}");
                self.recorder.warning(events::about(set), &reason, format!("{what} failed error: {why}"));
                Err(err.into())
            }
        }
    }
}
