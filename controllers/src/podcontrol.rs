//! Creates and deletes the pods of a controller, with expectations and events (upstream: `RealPodControl`).

use std::sync::Arc;

use client::{Expectations, ObjectKey, Recorder, Watchable, events, write};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};

use crate::context::Failure;
use crate::meta;

/// Upstream's `SlowStartInitialBatchSize`.
const FIRST_BATCH: usize = 1;

/// What became of pods that were to be created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Created {
    pub(crate) made: usize,
    pub(crate) refused: usize,
}

/// Writes pods in the name of a controller.
pub(crate) struct PodControl {
    client: kube::Client,
    recorder: Recorder,
    expectations: Arc<Expectations>,
}

impl PodControl {
    pub(crate) fn new(client: kube::Client, recorder: Recorder, expectations: Arc<Expectations>) -> Self {
        Self { client, recorder, expectations }
    }

    /// Creates `count` pods from a template.
    pub(crate) async fn create_many<O: Watchable>(
        &self,
        key: &ObjectKey,
        owner: &O,
        template: &PodTemplateSpec,
        count: usize,
    ) -> Result<(), Failure> {
        self.create_all(key, owner, &vec![pod_from_template(owner, template); count]).await
    }

    /// Creates these pods, in batches that double: when the first ones are refused (quota, admission), the API server is
    /// not asked hundreds of times.
    pub(crate) async fn create_all<O: Watchable>(
        &self,
        key: &ObjectKey,
        owner: &O,
        pods: &[Pod],
    ) -> Result<(), Failure> {
        self.create_counted(key, owner, pods, &mut Created::default()).await
    }

    /// The same; `count` says what became of those that were asked for.
    pub(crate) async fn create_counted<O: Watchable>(
        &self,
        key: &ObjectKey,
        owner: &O,
        pods: &[Pod],
        count: &mut Created,
    ) -> Result<(), Failure> {
        self.expectations.expect_creations(key, pods.len());
        let (mut left, mut batch) = (pods, FIRST_BATCH);
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            let created = join_all(now.iter().map(|pod| self.create_expected(key, owner, pod))).await;
            left = later;
            batch = batch.saturating_mul(2);
            let made = created.iter().filter(|created| created.is_ok()).count();
            (count.made, count.refused) = (count.made + made, count.refused + created.len() - made);
            if let Some(err) = created.into_iter().find_map(Result::err) {
                left.iter().for_each(|_| self.expectations.creation_observed(key));
                return if write::is_namespace_terminating(&err) { Ok(()) } else { Err(err.into()) };
            }
        }
        Ok(())
    }

    async fn create_expected<O: Watchable>(&self, key: &ObjectKey, owner: &O, pod: &Pod) -> kube::Result<Pod> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let created = api.create(&PostParams::default(), pod).await;
        match &created {
            Ok(pod) => {
                let message = format!("Created pod: {}", meta::name(&pod.metadata));
                self.recorder.normal(events::about(owner), "SuccessfulCreate", message);
            }
            Err(err) => {
                self.expectations.creation_observed(key);
                if !write::is_namespace_terminating(err) {
                    let message = format!("Error creating: {}", write::status_message(err));
                    self.recorder.warning(events::about(owner), "FailedCreate", message);
                }
            }
        }
        created
    }

    /// Deletes these pods; one that is gone already, or was replaced by another of its name, counts as deleted.
    pub(crate) async fn delete_many<O: Watchable>(
        &self,
        key: &ObjectKey,
        owner: &O,
        pods: &[Arc<Pod>],
    ) -> Result<(), Failure> {
        self.expectations.expect_deletions(key, pods.iter().map(|pod| meta::uid(&pod.metadata).to_owned()));
        let deleted = join_all(pods.iter().map(|pod| self.delete_expected(key, owner, pod))).await;
        deleted.into_iter().collect::<kube::Result<()>>().map_err(Into::into)
    }

    async fn delete_expected<O: Watchable>(&self, key: &ObjectKey, owner: &O, pod: &Pod) -> kube::Result<()> {
        let (name, uid) = (meta::name(&pod.metadata), meta::uid(&pod.metadata));
        let outcome = delete_pod(&self.client, pod).await;
        match &outcome {
            Ok(true) => self.recorder.normal(events::about(owner), "SuccessfulDelete", format!("Deleted pod: {name}")),
            Ok(false) => self.expectations.deletion_observed(key, uid),
            Err(err) => {
                self.expectations.deletion_observed(key, uid);
                let message = format!("Error deleting: {}", write::status_message(err));
                self.recorder.warning(events::about(owner), "FailedDelete", message);
            }
        }
        outcome.map(drop)
    }
}

/// Deletes exactly this pod (by uid); `false` when it is gone already.
pub(crate) async fn delete_pod(client: &kube::Client, pod: &Pod) -> kube::Result<bool> {
    let api: Api<Pod> = Api::namespaced(client.clone(), meta::namespace(&pod.metadata));
    let exactly = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() };
    match api.delete(meta::name(&pod.metadata), &params).await {
        Ok(_) => Ok(true),
        Err(err) if write::is_not_found(&err) || write::is_conflict(&err) => Ok(false),
        Err(err) => Err(err),
    }
}

/// A pod as the template says, controlled by `owner`; the API server finds its name.
pub(crate) fn pod_from_template<O: Watchable>(owner: &O, template: &PodTemplateSpec) -> Pod {
    let given = template.metadata.clone().unwrap_or_default();
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-", meta::name(owner.meta()))),
        namespace: owner.meta().namespace.clone(),
        labels: given.labels,
        annotations: given.annotations,
        finalizers: given.finalizers,
        owner_references: Some(vec![meta::controller_reference(owner)]),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: template.spec.clone(), status: None }
}
