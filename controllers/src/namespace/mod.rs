//! Empties a namespace that is being deleted, then lets it go.
//!
//! Pods go first, and everything else when the last pod has ended: a pod that shuts down may still need its
//! configuration (upstream's ordered namespace deletion).

mod conditions;

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Event, Informer, ObjectKey, WorkQueue, clock, write};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::{Api, Resource};

use self::conditions::Findings;
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::discovery::{self, Kind};
use crate::meta;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "namespace-controller",
    aliases: &["namespace"],
    start: |start| {
        start.drive("namespace", Namespaces::new(start.context), start.config.tuning.concurrent_namespace_syncs)
    },
};

const FINALIZER: &str = "kubernetes";
/// How many kinds are emptied at once.
const PARALLEL: usize = 8;
/// A namespace that waits for finalizers of others is looked at again, less and less often.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_secs(15);

pub(crate) struct Namespaces {
    client: kube::Client,
    namespaces: Informer<Namespace>,
    pods: Informer<Pod>,
}

/// What is left of one kind after an attempt to delete all of it.
#[derive(Debug, Default)]
struct Remains {
    count: usize,
    finalizers: BTreeMap<String, usize>,
}

impl Namespaces {
    pub(crate) fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::with_backoff(FIRST_LOOK, LAST_LOOK);
        let namespaces = context.informers.of::<Namespace>();
        let changed = queue.clone();
        namespaces.on_event(move |event| {
            if is_ending(event.object()) {
                changed.add(event.key());
            }
        });
        let pods = context.informers.of::<Pod>();
        let (changed, known, left) = (queue.clone(), namespaces.clone(), pods.clone());
        pods.on_event(move |event| {
            let Event::Deleted(pod) = event else { return };
            let key = ObjectKey::cluster(meta::namespace(&pod.metadata));
            let is_last = !left.has_any_in(&key.name);
            if is_last && known.get(&key).is_some_and(|namespace| is_ending(&namespace)) {
                changed.add(key);
            }
        });
        (Self { client: context.client.clone(), namespaces, pods }, queue)
    }

    async fn empty(&self, name: &str) -> Findings {
        let mut findings = Findings::default();
        let kinds = match discovery::kinds(&self.client).await {
            Ok(kinds) => kinds,
            Err(err) => {
                findings.discovery = Some(err.to_string());
                return findings;
            }
        };
        let is_emptied = |kind: &Kind| kind.is_namespaced && kind.serves(&["deletecollection"]);
        let (pods, others): (Vec<_>, Vec<_>) =
            kinds.into_iter().filter(is_emptied).partition(|kind| kind.name() == "pods");
        self.empty_kinds(name, pods, &mut findings).await;
        if findings.is_empty() {
            self.empty_kinds(name, others, &mut findings).await;
        }
        findings
    }

    async fn empty_kinds(&self, namespace: &str, kinds: Vec<Kind>, findings: &mut Findings) {
        let emptied = kinds.into_iter().map(|kind| async move {
            let outcome = self.empty_kind(namespace, &kind).await;
            (kind, outcome)
        });
        let mut outcomes = stream::iter(emptied).buffer_unordered(PARALLEL);
        while let Some((kind, outcome)) = outcomes.next().await {
            match outcome {
                Ok(remains) => findings.add(&kind.name(), remains.count, remains.finalizers),
                Err(err) => findings.failures.push(format!("{}: {err}", kind.name())),
            }
        }
    }

    /// Deletes the collection, a second time if there was something, so as to see what resists.
    async fn empty_kind(&self, namespace: &str, kind: &Kind) -> kube::Result<Remains> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
        let first = delete_all(&api).await?;
        if first.count == 0 { Ok(first) } else { delete_all(&api).await }
    }

    async fn report(&self, namespace: &Namespace, findings: &Findings) -> Result<(), Failure> {
        let status = namespace.status.clone().unwrap_or_default();
        let conditions = conditions::updated(status.conditions.clone().unwrap_or_default(), findings, clock::now());
        if status.conditions.as_ref() == Some(&conditions) {
            return Ok(());
        }
        let mut changed = namespace.clone();
        changed.status = Some(NamespaceStatus { conditions: Some(conditions), ..status });
        let api: Api<Namespace> = Api::all(self.client.clone());
        let written = api.replace_status(meta::name(&namespace.metadata), &PostParams::default(), &changed).await;
        match written {
            // The next look reports again.
            Err(err) if write::is_conflict(&err) || write::is_not_found(&err) => Ok(()),
            outcome => outcome.map(drop).map_err(Into::into),
        }
    }

    async fn finalize(&self, name: &str) -> Result<(), Failure> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let finalized = write::retry_on_conflict(|| async {
            let Some(mut live) = api.get_opt(name).await? else { return Ok(()) };
            let spec = live.spec.get_or_insert_default();
            spec.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
            api.replace_subresource("finalize", name, &PostParams::default(), &live).await.map(drop)
        });
        write::ignore_not_found(finalized.await)?;
        Ok(())
    }
}

/// Every delete-collection answers with what it found, so an empty answer proves that nothing is left.
async fn delete_all(api: &Api<DynamicObject>) -> kube::Result<Remains> {
    let found = api.delete_collection(&DeleteParams::background(), &ListParams::default()).await;
    let list = match found {
        Ok(either) => either.left(),
        // The kind was removed since it was discovered, or forbids it: nothing of it can be here.
        Err(err) if write::is_not_found(&err) || is_not_allowed(&err) => return Ok(Remains::default()),
        Err(err) => return Err(err),
    };
    let mut remains = Remains::default();
    for object in list.into_iter().flat_map(|list| list.items) {
        remains.count += 1;
        for finalizer in object.meta().finalizers.iter().flatten() {
            *remains.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }
    Ok(remains)
}

fn is_not_allowed(err: &kube::Error) -> bool {
    matches!(err, kube::Error::Api(status) if status.code == 405)
}

fn is_ending(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
    namespace.metadata.deletion_timestamp.is_some() && finalizers.into_iter().any(|finalizer| finalizer == FINALIZER)
}

impl Controller for Namespaces {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(namespace) = self.namespaces.get(&key).filter(|namespace| is_ending(namespace)) else {
            return Ok(None);
        };
        let findings = self.empty(&key.name).await;
        if findings.is_empty() {
            self.finalize(&key.name).await?;
            return Ok(None);
        }
        self.report(&namespace, &findings).await?;
        // The end of the last pod wakes this controller; only what has no such event needs another look.
        let waits_for_pods = findings.is_only("pods") && self.pods.has_any_in(&key.name);
        if waits_for_pods { Ok(Some(LAST_LOOK)) } else { Err(Failure::NotYet(findings.summary())) }
    }
}
