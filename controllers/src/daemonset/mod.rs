//! Runs a pod of each DaemonSet on every node that fits (upstream: `pkg/controller/daemon`).

mod backoff;
mod node;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::{Event, Expectations, Informer, ObjectKey, Recorder, WorkQueue, clock, events, write};
use facts::pods;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use kube::Api;
use kube::api::PostParams;
use kube::core::Selector;

use self::backoff::Backoff;
use self::plan::{Plan, Seen};
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::history::{History, REVISION, Recorded};
use crate::podcontrol::{self, PodControl};
use crate::{claim, meta, owners, selectors};

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "daemonset-controller",
    aliases: &["daemonset"],
    start: |start| {
        start.drive("daemonset", DaemonSets::new(start.context), start.config.tuning.concurrent_daemonset_syncs)
    },
};

/// Where the API server notes how often the template changed, and the label of pods that repeats it.
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

struct DaemonSets {
    client: kube::Client,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    history: History,
    expectations: Arc<Expectations>,
    control: PodControl,
    recorder: Recorder,
    backoff: Backoff,
}

impl DaemonSets {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let (sets, pods) = (context.informers.of::<DaemonSet>(), context.informers.of::<Pod>());
        let nodes = context.informers.of::<Node>();
        owners::add_ownership(&pods);
        let (queue, expectations) = (WorkQueue::new(), Arc::new(Expectations::new()));
        owners::watch_owners(&sets, &queue, &expectations);
        owners::watch_pods(&pods, &sets, &queue, &expectations, selector);
        watch_nodes(&nodes, &sets, &queue);
        let recorder = context.recorder.for_component("daemonset-controller");
        let controller = Self {
            client: context.client.clone(),
            sets,
            nodes,
            pods,
            history: History::new::<DaemonSet>(context, &queue, REVISION),
            control: PodControl::new(context.client.clone(), recorder.clone(), Arc::clone(&expectations)),
            expectations,
            recorder,
            backoff: Backoff::default(),
        };
        (controller, queue)
    }

    /// Deletes pods that ended badly, as often as the backoff allows; says when the next may go.
    fn failed(&self, set: &DaemonSet, failed: Vec<Arc<Pod>>, doomed: &mut Vec<Arc<Pod>>) -> Option<Duration> {
        let mut wait = None;
        for pod in failed {
            let node = node::of(&pod).unwrap_or_default();
            if let Some(left) = self.backoff.take(meta::uid(&set.metadata), node, clock::now()) {
                wait = wait.into_iter().chain([left]).min();
                continue;
            }
            let (namespace, name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
            let why = format!("Found failed daemon pod {namespace}/{name} on node {node}, will try to kill it");
            self.recorder.warning(events::about(set), "FailedDaemonPod", why);
            doomed.push(pod);
        }
        wait
    }

    async fn execute(&self, key: &ObjectKey, set: &DaemonSet, hash: &str, plan: Plan) -> Outcome {
        let mut doomed = plan.delete;
        for pod in doomed.iter().filter(|pod| pods::phase(pod) == "Succeeded") {
            let (namespace, name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
            let node = node::of(pod).unwrap_or_default();
            let why = format!("Found succeeded daemon pod {namespace}/{name} on node {node}, will try to delete it");
            self.recorder.normal(events::about(set), "SucceededDaemonPod", why);
        }
        let wait = self.failed(set, plan.failed, &mut doomed);
        let created: Vec<Pod> = plan.create.iter().map(|node| daemon(set, hash, node)).collect();
        let created = self.control.create_all(key, set, &created).await;
        self.control.delete_many(key, set, &doomed).await?;
        created?;
        Ok(wait)
    }

    /// Deletes the oldest revisions that no pod is of.
    async fn clean_up(
        &self,
        set: &DaemonSet,
        current: &ControllerRevision,
        known: &[Arc<ControllerRevision>],
    ) -> Result<(), Failure> {
        let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let owned = self.pods.by_index(owners::BY_CONTROLLER, meta::uid(&set.metadata));
        let hash = |labels: &Option<BTreeMap<String, String>>| labels.as_ref()?.get(REVISION).cloned();
        let live: BTreeSet<String> = owned.iter().filter_map(|pod| hash(&pod.metadata.labels)).collect();
        let old = known.iter().filter(|known| known.metadata.uid != current.metadata.uid);
        let surplus = old.clone().count().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let unneeded: Vec<_> =
            old.filter(|known| hash(&known.metadata.labels).is_none_or(|hash| !live.contains(&hash))).collect();
        self.history.truncate(&unneeded, surplus).await
    }

    async fn write_status(&self, key: &ObjectKey, set: &DaemonSet, status: DaemonSetStatus) -> Result<(), Failure> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let updated = DaemonSet { status: Some(status), ..set.clone() };
        let api: Api<DaemonSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = write::ignore_not_found(api.replace_status(&key.name, &PostParams::default(), &updated).await)?;
        written.iter().for_each(|set| self.expectations.wrote(key, &set.metadata));
        Ok(())
    }

    /// Brings pods and status to what the revision `current` says.
    async fn settle(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        current: &ControllerRevision,
        children: &[Arc<Pod>],
        pending: Option<Duration>,
    ) -> Outcome {
        let (nodes, mut template) = (self.nodes.list(), template(set).spec.unwrap_or_default());
        node::tolerate(&mut template);
        let hash =
            current.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION)).cloned().unwrap_or_default();
        let fits = nodes.iter().map(|node| (meta::name(&node.metadata), node::fit(&template, node)));
        let seen = Seen { set, nodes: fits.collect(), pods: Seen::by_node(children), hash: &hash, now: clock::now() };
        let done = match pending {
            None => self.execute(key, set, &hash, plan::plan(&seen)).await,
            Some(wait) => Ok(Some(wait)),
        };
        self.write_status(key, set, plan::status(&seen, pending.is_none())).await?;
        Ok(done?.into_iter().chain(plan::next_available(&seen)).min())
    }
}

impl Controller for DaemonSets {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(set) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(None);
        };
        if !self.expectations.shows(&key, &set.metadata) {
            return Ok(None);
        }
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let Some(selector) = selector(&set) else {
            let why = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.recorder.warning(events::about(&*set), "SelectingAll", why);
            return Ok(None);
        };
        let pending = self.expectations.outstanding(&key);
        let known = self.history.of(&*set, &selector).await?;
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let Recorded::As(current) = self.history.record(&*set, &template(&set), collisions, &known).await? else {
            let mut status = set.status.clone().unwrap_or_default();
            status.collision_count = Some(collisions.unwrap_or(0).saturating_add(1));
            self.write_status(&key, &set, status).await?;
            return Ok(None);
        };
        let children = claim::children(&self.client, &*set, &selector, &self.pods, |_| true).await?;
        let wait = self.settle(&key, &set, &current, &children, pending).await?;
        if pending.is_none() {
            self.clean_up(&set, &current, &known).await?;
        }
        Ok(wait)
    }
}

fn template(set: &DaemonSet) -> PodTemplateSpec {
    set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default()
}

/// The pod of a set for a node.
fn daemon(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let mut pod = podcontrol::pod_from_template(set, &template(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION.to_owned(), hash.to_owned());
    let generation = set.metadata.annotations.as_ref().and_then(|all| all.get(GENERATION_ANNOTATION));
    if let Some(generation) = generation.filter(|generation| generation.parse::<i64>().is_ok()) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.clone());
    }
    let spec = pod.spec.get_or_insert_default();
    node::tolerate(spec);
    node::bind(spec, node);
    pod
}

fn selector(set: &DaemonSet) -> Option<Selector> {
    selectors::selector(&set.spec.as_ref()?.selector)
}

fn watch_nodes(nodes: &Informer<Node>, sets: &Informer<DaemonSet>, queue: &WorkQueue<ObjectKey>) {
    let (sets, queue) = (sets.clone(), queue.clone());
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
    nodes.on_event(move |event| {
        if let Event::Applied { old: Some(old), new } = event
            && old.metadata.labels == new.metadata.labels
            && taints(old) == taints(new)
        {
            return;
        }
        sets.list().iter().for_each(|set| queue.add(ObjectKey::of(&**set)));
    });
}
