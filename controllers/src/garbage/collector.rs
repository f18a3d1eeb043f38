//! Carries out what the graph asks for, after asking the API server whether it is still true.

use std::sync::Arc;

use client::{Recorder, write};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::{ObjectMeta, PartialObjectMeta};
use serde_json::json;

use super::Shared;
use super::graph::{FOREGROUND, Node, ORPHAN, Owner, Task, Verdict, judge};
use crate::context::{Failure, Outcome};

pub(super) struct Collector {
    client: kube::Client,
    recorder: Recorder,
    shared: Arc<Shared>,
}

impl Collector {
    pub(super) fn new(client: kube::Client, recorder: Recorder, shared: Arc<Shared>) -> Self {
        Self { client, recorder, shared }
    }

    pub(super) async fn reconcile(&self, task: Task) -> Outcome {
        match task {
            Task::Collect(uid) => self.collect(&uid).await?,
            Task::Orphan(uid) => self.orphan(&uid).await?,
            Task::Tell { dependent, owner } => self.tell(&dependent, &owner),
        }
        Ok(None)
    }

    async fn collect(&self, uid: &str) -> Result<(), Failure> {
        let Some(node) = self.node(uid) else { return Ok(()) };
        if node.is_deleted && !node.deletes_dependents() {
            return Ok(());
        }
        let Some(live) = self.live(&node, uid).await? else {
            let tasks = self.shared.graph().remove(uid);
            self.shared.add_all(tasks);
            return Ok(());
        };
        if node.deletes_dependents() {
            return self.finish_foreground(uid, &node, live).await;
        }
        let mut owners = Vec::new();
        for reference in live.metadata.owner_references.iter().flatten() {
            owners.push((reference.uid.clone(), self.weigh(reference, &node).await?));
        }
        let dependents = self.shared.graph().dependents(uid);
        match judge(&owners, !dependents.is_empty()) {
            Verdict::Keep => Ok(()),
            Verdict::Detach(uids) => self.detach(&node, live, &uids).await,
            Verdict::Delete { foreground } => {
                if foreground {
                    self.break_cycle(&node, &live, &dependents).await?;
                }
                let has = |finalizer: &str| live.metadata.finalizers.iter().flatten().any(|known| known == finalizer);
                let policy = if has(ORPHAN) {
                    PropagationPolicy::Orphan
                } else if foreground || has(FOREGROUND) {
                    PropagationPolicy::Foreground
                } else {
                    PropagationPolicy::Background
                };
                self.delete(&node, uid, policy).await
            }
        }
    }

    /// Lets a foreground deletion go on once no dependent blocks it.
    async fn finish_foreground(
        &self,
        uid: &str,
        node: &Node,
        live: PartialObjectMeta<DynamicObject>,
    ) -> Result<(), Failure> {
        let blocking: Vec<String> = {
            let graph = self.shared.graph();
            let blocks = |dependent: &String| graph.get(dependent).is_some_and(|dependent| dependent.blocks(uid));
            graph.dependents(uid).into_iter().filter(blocks).collect()
        };
        if blocking.is_empty() {
            return self.remove_finalizer(node, live, FOREGROUND).await;
        }
        // They were told when the deletion began; those that were added since are told now.
        for dependent in blocking {
            let waits = self.node(&dependent).is_some_and(|node| !node.is_deleted);
            if waits {
                self.shared.queue.add(Task::Collect(dependent));
            }
        }
        Ok(())
    }

    /// Two objects that own each other would wait for each other for ever.
    async fn break_cycle(
        &self,
        node: &Node,
        live: &PartialObjectMeta<DynamicObject>,
        dependents: &[String],
    ) -> Result<(), Failure> {
        let is_cycle =
            dependents.iter().any(|uid| self.node(uid).is_some_and(|dependent| dependent.deletes_dependents()));
        if !is_cycle {
            return Ok(());
        }
        let mut owners = live.metadata.owner_references.clone().unwrap_or_default();
        owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
        self.patch(node, &json!({ "metadata": { "uid": live.metadata.uid, "ownerReferences": owners } })).await
    }

    async fn orphan(&self, uid: &str) -> Result<(), Failure> {
        let Some(node) = self.node(uid) else { return Ok(()) };
        let dependents = self.shared.graph().dependents(uid);
        for dependent in dependents {
            let Some(child) = self.node(&dependent) else { continue };
            if let Some(live) = self.live(&child, &dependent).await? {
                self.detach(&child, live, &[uid.to_owned()]).await?;
            }
        }
        match self.live(&node, uid).await? {
            Some(live) => self.remove_finalizer(&node, live, ORPHAN).await,
            None => Ok(()),
        }
    }

    /// Upstream's three classes, and its marker for what cannot be looked for.
    async fn weigh(&self, reference: &OwnerReference, node: &Node) -> Result<Owner, Failure> {
        {
            let graph = self.shared.graph();
            if graph.knows(reference, node.namespace.as_deref()) {
                let is_waiting = graph.get(&reference.uid).is_some_and(Node::deletes_dependents);
                return Ok(if is_waiting { Owner::Waiting } else { Owner::Solid });
            }
        }
        let Some(api) = self.owner_api(reference, node)? else { return Ok(Owner::Unresolvable) };
        let live = write::ignore_not_found(api.get_metadata(&reference.name).await)?;
        let live = live.filter(|live| live.metadata.uid.as_deref() == Some(&reference.uid));
        Ok(match live {
            None => Owner::Dangling,
            Some(live) => {
                let waits = live.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND);
                if waits && live.metadata.deletion_timestamp.is_some() { Owner::Waiting } else { Owner::Solid }
            }
        })
    }

    /// Where the owner would be: in the dependent's namespace, and nowhere if there is none. An owner of a kind or version
    /// nobody serves cannot be judged: that is an error, tried again later.
    fn owner_api(&self, reference: &OwnerReference, node: &Node) -> Result<Option<Api<DynamicObject>>, Failure> {
        let kinds = self.shared.kinds.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(kind) = kinds.iter().find(|kind| kind.is_called(&reference.api_version, &reference.kind)) else {
            let what =
                format!("owner {}/{} of {} is of an unknown kind", reference.api_version, reference.kind, node.name);
            return Err(Failure::NotYet(what));
        };
        Ok(match (kind.is_namespaced, &node.namespace) {
            (true, Some(namespace)) => Some(Api::namespaced_with(self.client.clone(), namespace, &kind.resource)),
            (true, None) => None,
            (false, _) => Some(Api::all_with(self.client.clone(), &kind.resource)),
        })
    }

    /// Says by an event that an owner lives in another namespace than what names it.
    fn tell(&self, uid: &str, owner: &str) {
        let Some(node) = self.node(uid) else { return };
        let Some(reference) = node.owners.iter().find(|reference| reference.uid == owner) else { return };
        let namespace = node.namespace.clone().unwrap_or_default();
        let OwnerReference { api_version, kind, name, uid: owner, .. } = reference;
        let message = format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {owner}] does not exist in \
             namespace {namespace:?}"
        );
        let about = ObjectReference {
            api_version: Some(node.resource.api_version),
            kind: Some(node.resource.kind),
            namespace: node.namespace,
            name: Some(node.name),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        self.recorder.warning(about, "OwnerRefInvalidNamespace", message);
    }

    fn node(&self, uid: &str) -> Option<Node> {
        self.shared.graph().get(uid).cloned()
    }

    fn api(&self, node: &Node) -> Api<DynamicObject> {
        match &node.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &node.resource),
            None => Api::all_with(self.client.clone(), &node.resource),
        }
    }

    async fn live(&self, node: &Node, uid: &str) -> Result<Option<PartialObjectMeta<DynamicObject>>, Failure> {
        let live = write::ignore_not_found(self.api(node).get_metadata(&node.name).await)?;
        Ok(live.filter(|live| live.metadata.uid.as_deref() == Some(uid)))
    }

    async fn delete(&self, node: &Node, uid: &str, policy: PropagationPolicy) -> Result<(), Failure> {
        let exactly = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params =
            DeleteParams { propagation_policy: Some(policy), preconditions: Some(exactly), ..DeleteParams::default() };
        match self.api(node).delete(&node.name, &params).await {
            Ok(_) => Ok(()),
            // Another object has the name now: ours is gone.
            Err(err) if write::is_not_found(&err) || write::is_conflict(&err) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    async fn detach(
        &self,
        node: &Node,
        live: PartialObjectMeta<DynamicObject>,
        uids: &[String],
    ) -> Result<(), Failure> {
        let ObjectMeta { uid, resource_version, owner_references, .. } = live.metadata;
        let mut kept = owner_references.unwrap_or_default();
        kept.retain(|reference| !uids.contains(&reference.uid));
        let change = json!({ "uid": uid, "resourceVersion": resource_version, "ownerReferences": kept });
        self.patch(node, &json!({ "metadata": change })).await
    }

    async fn remove_finalizer(
        &self,
        node: &Node,
        live: PartialObjectMeta<DynamicObject>,
        finalizer: &str,
    ) -> Result<(), Failure> {
        let ObjectMeta { uid, resource_version, finalizers, .. } = live.metadata;
        let mut kept = finalizers.unwrap_or_default();
        let before = kept.len();
        kept.retain(|known| known != finalizer);
        if kept.len() == before {
            return Ok(());
        }
        let change = json!({ "uid": uid, "resourceVersion": resource_version, "finalizers": kept });
        self.patch(node, &json!({ "metadata": change })).await
    }

    /// A merge patch, because custom resources know no other that every server supports.
    async fn patch(&self, node: &Node, change: &serde_json::Value) -> Result<(), Failure> {
        let patched = self.api(node).patch_metadata(&node.name, &PatchParams::default(), &Patch::Merge(change)).await;
        write::ignore_not_found(patched)?;
        Ok(())
    }
}
