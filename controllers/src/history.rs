//! ControllerRevisions: what the pod templates of a DaemonSet or StatefulSet were (upstream: `pkg/controller/history`).

use std::sync::Arc;

use client::{Event, Informer, ObjectKey, Watchable, WorkQueue, write};
use facts::owners::controller_of;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{DeleteParams, PostParams};
use kube::core::Selector;
use kube::{Api, Resource};
use serde_json::{Value, json};

use crate::context::{Context, Failure};
use crate::{claim, hash, meta, owners};

/// The label of pods that says which revision they were made from.
pub(crate) const REVISION: &str = "controller-revision-hash";

/// The revisions of all owners of some kind.
pub(crate) struct History {
    client: kube::Client,
    revisions: Informer<ControllerRevision>,
    /// The label of revisions that has the hash of their template.
    label: &'static str,
}

/// What became of a template.
pub(crate) enum Recorded {
    As(Arc<ControllerRevision>),
    /// Another template has its name: the next attempt must count one collision more.
    Collision,
}

impl History {
    /// Follows revisions; a change is one of their owner of kind `O`. That one is gone is not: who has not heard yet that the
    /// owner is gone, too, would make it again and again, and the garbage collector delete it.
    pub(crate) fn new<O>(context: &Context, queue: &WorkQueue<ObjectKey>, label: &'static str) -> Self
    where
        O: Resource<DynamicType = ()>,
    {
        let revisions = context.informers.of::<ControllerRevision>();
        owners::add_ownership(&revisions);
        let queue = queue.clone();
        revisions.on_event(move |event| {
            if let Event::Applied { new, .. } = event
                && let Some(owner) = meta::controller_key::<O>(&new.metadata)
            {
                queue.add(owner);
            }
        });
        Self { client: context.client.clone(), revisions, label }
    }

    /// The revisions of `owner`, oldest first, after adoption of orphans.
    pub(crate) async fn of<O>(&self, owner: &O, selector: &Selector) -> Result<Vec<Arc<ControllerRevision>>, Failure>
    where
        O: Watchable + Resource<Scope = NamespaceResourceScope>,
    {
        let mut known = claim::children(&self.client, owner, selector, &self.revisions, |_| true).await?;
        known.sort_by(|a, b| {
            let created = |of: &ControllerRevision| of.metadata.creation_timestamp.clone().map(|time| time.0);
            let name = |of: &ControllerRevision| of.metadata.name.clone();
            (a.revision, created(a), name(a)).cmp(&(b.revision, created(b), name(b)))
        });
        Ok(known)
    }

    /// The revision of `template`: the newest, one of before that becomes the newest, or one that is made.
    pub(crate) async fn record<O>(
        &self,
        owner: &O,
        template: &PodTemplateSpec,
        collisions: Option<i32>,
        known: &[Arc<ControllerRevision>],
    ) -> Result<Recorded, Failure>
    where
        O: Watchable + Resource<Scope = NamespaceResourceScope>,
    {
        let data = data(template)?;
        let newest = known.last().map_or(0, |newest| newest.revision);
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), meta::namespace(owner.meta()));
        if let Some(equal) = known.iter().rfind(|known| is(known, &data)) {
            if equal.revision == newest {
                return Ok(Recorded::As(Arc::clone(equal)));
            }
            let newer = ControllerRevision { revision: newest + 1, ..(**equal).clone() };
            let name = meta::name(&equal.metadata);
            return Ok(Recorded::As(Arc::new(api.replace(name, &PostParams::default(), &newer).await?)));
        }
        let revision = self.build(owner, template, data.clone(), collisions, newest + 1)?;
        match api.create(&PostParams::default(), &revision).await {
            Ok(created) => Ok(Recorded::As(Arc::new(created))),
            Err(err) if write::is_already_exists(&err) => {
                let existing = api.get(meta::name(&revision.metadata)).await?;
                let is_ours = controller_of(&existing.metadata).map(|known| &known.uid) == owner.meta().uid.as_ref();
                // The cache does not show yet what an attempt before made.
                let is_same = is(&existing, &data) && is_ours;
                Ok(if is_same { Recorded::As(Arc::new(existing)) } else { Recorded::Collision })
            }
            Err(err) => Err(err.into()),
        }
    }

    fn build<O>(
        &self,
        owner: &O,
        template: &PodTemplateSpec,
        data: Value,
        collisions: Option<i32>,
        revision: i64,
    ) -> Result<ControllerRevision, Failure>
    where
        O: Watchable,
    {
        let hash = hash::of_template(template, collisions)?;
        let mut labels = template.metadata.clone().and_then(|metadata| metadata.labels).unwrap_or_default();
        labels.insert(self.label.to_owned(), hash.clone());
        let metadata = ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(owner.meta()))),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![meta::controller_reference(owner)]),
            ..ObjectMeta::default()
        };
        Ok(ControllerRevision { metadata, data: Some(RawExtension(data)), revision })
    }

    /// Deletes the oldest `surplus` of revisions that nobody needs.
    pub(crate) async fn truncate(&self, unneeded: &[&Arc<ControllerRevision>], surplus: usize) -> Result<(), Failure> {
        for revision in unneeded.iter().take(surplus) {
            let namespace = meta::namespace(&revision.metadata);
            let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), namespace);
            let name = meta::name(&revision.metadata);
            write::ignore_not_found(api.delete(name, &DeleteParams::default()).await)?;
        }
        Ok(())
    }
}

/// The patch that brings the owner's template back, as `kubectl rollout undo` applies it.
fn data(template: &PodTemplateSpec) -> Result<Value, Failure> {
    let mut template = serde_json::to_value(template)?;
    if let Some(template) = template.as_object_mut() {
        template.insert("$patch".to_owned(), json!("replace"));
    }
    Ok(json!({ "spec": { "template": template } }))
}

fn is(revision: &ControllerRevision, data: &Value) -> bool {
    revision.data.as_ref().is_some_and(|known| known.0 == *data)
}

/// The template that a revision holds.
pub(crate) fn template(revision: &ControllerRevision) -> Result<PodTemplateSpec, Failure> {
    let data = revision.data.as_ref().and_then(|data| data.0.pointer("/spec/template"));
    let mut template = data.cloned().unwrap_or_default();
    if let Some(template) = template.as_object_mut() {
        template.remove("$patch");
    }
    // As text, which the informers read, too: reading typed objects out of trees would be as much code again.
    Ok(serde_json::from_str(&template.to_string())?)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::from_value;

    use super::*;

    #[test]
    fn a_template_comes_back_from_its_revision() {
        let from = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c" }] } });
        let from: PodTemplateSpec = from_value(from).unwrap();
        let data = data(&from).unwrap();
        assert_eq!(data["spec"]["template"]["$patch"], "replace");
        let revision = ControllerRevision { data: Some(RawExtension(data)), ..ControllerRevision::default() };
        assert_eq!(template(&revision).unwrap(), from);
    }
}
