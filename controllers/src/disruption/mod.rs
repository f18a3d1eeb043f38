//! Says of each PodDisruptionBudget how many more pods may be evicted (upstream: `pkg/controller/disruption`).
//!
//! Evictions take from that number and note the pod in `disruptedPods`, where it stays until it is gone, or two minutes
//! have passed. If the number cannot be worked out, nothing may be evicted.

mod expected;
mod plan;
mod stale;

use std::sync::Arc;
use std::time::Duration;

use client::{Event, Informer, ObjectKey, Recorder, WorkQueue, clock, events, write};
use facts::owners::controller_of;
use facts::pods;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::Api;
use kube::api::PostParams;
use kube::core::Selector;

use self::expected::{Expected, Owners};
use self::stale::StaleTargets;
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::{meta, selectors};

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "disruption-controller",
    aliases: &["disruption"],
    start: |start| {
        let workers = start.config.tuning.concurrent_syncs;
        start.drive("disruption", Budgets::new(start.context), workers)?;
        start.drive("stale disruption", StaleTargets::new(start.context), workers)
    },
};

struct Budgets {
    client: kube::Client,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    owners: Owners,
    recorder: Recorder,
}

impl Budgets {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let (budgets, pods) = (context.informers.of::<PodDisruptionBudget>(), context.informers.of::<Pod>());
        let recorder = context.recorder.for_component("controllermanager");
        let changed = queue.clone();
        budgets.on_event(move |event| changed.add(event.key()));
        watch_pods(&pods, &budgets, &queue, &recorder);
        let owners = Owners::new(context, &budgets, &queue);
        (Self { client: context.client.clone(), budgets, pods, owners, recorder }, queue)
    }

    fn pods(&self, key: &ObjectKey, budget: &PodDisruptionBudget) -> Vec<Arc<Pod>> {
        let Some(selector) = selector(budget) else { return Vec::new() };
        let mut pods = self.pods.list_in(&key.namespace);
        pods.retain(|pod| selectors::matches(&selector, &pod.metadata));
        pods
    }

    async fn observe(
        &self,
        key: &ObjectKey,
        budget: &PodDisruptionBudget,
        pods: &[Arc<Pod>],
    ) -> Result<Expected, Failure> {
        if pods.is_empty() {
            self.recorder.normal(events::about(budget), "NoPods", "No matching pods found");
        }
        let expected = match self.owners.expected(&key.namespace, budget, pods).await {
            Ok(expected) => expected,
            Err(err) => {
                let why = format!("Failed to calculate the number of expected pods: {}", err.words());
                self.recorder.warning(events::about(budget), "CalculateExpectedPodCountFailed", why);
                return Err(err);
            }
        };
        if expected.has_unmanaged {
            let why = "Some of the pods have no controller, so that it is not known how many there should be. \
                       To protect such pods, set .spec.minAvailable to a number.";
            self.recorder.warning(events::about(budget), "UnmanagedPods", why);
        }
        Ok(expected)
    }

    async fn write(
        &self,
        key: &ObjectKey,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<(), Failure> {
        if budget.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let updated = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), &key.namespace);
        write::ignore_not_found(api.replace_status(&key.name, &PostParams::default(), &updated).await)?;
        Ok(())
    }
}

impl Controller for Budgets {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(budget) = self.budgets.get(&key) else { return Ok(None) };
        let (pods, now) = (self.pods(&key, &budget), clock::now());
        let expected = match self.observe(&key, &budget, &pods).await {
            Ok(expected) => expected,
            Err(err) => {
                self.write(&key, &budget, plan::failed(&budget, &err.words(), now)).await?;
                return match err {
                    Failure::Impossible(_) => Ok(None),
                    err => Err(err),
                };
            }
        };
        let (status, late) = plan::status(&budget, &pods, &expected, now);
        for pod in late {
            let why = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
            self.recorder.warning(events::about(&**pod), "NotDeleted", why);
        }
        let recheck = plan::next_deadline(&status, now);
        self.write(&key, &budget, status).await?;
        Ok(recheck)
    }
}

/// What a budget protects: an empty selector selects all pods of the namespace, none selects nothing.
fn selector(budget: &PodDisruptionBudget) -> Option<Selector> {
    let selector = budget.spec.as_ref()?.selector.clone()?;
    Selector::try_from(selector).ok()
}

fn budgets_of(budgets: &Informer<PodDisruptionBudget>, pod: &Pod) -> Vec<Arc<PodDisruptionBudget>> {
    let mut found = budgets.list_in(meta::namespace(&pod.metadata));
    found.retain(|budget| selector(budget).is_some_and(|selector| selectors::matches(&selector, &pod.metadata)));
    found
}

fn watch_pods(
    pods: &Informer<Pod>,
    budgets: &Informer<PodDisruptionBudget>,
    queue: &WorkQueue<ObjectKey>,
    recorder: &Recorder,
) {
    let (budgets, queue, recorder) = (budgets.clone(), queue.clone(), recorder.clone());
    pods.on_event(move |event| {
        let before = match event {
            Event::Applied { old: Some(old), new } if facts(old) == facts(new) => return,
            Event::Applied { old: Some(old), .. } => budgets_of(&budgets, old),
            Event::Applied { old: None, .. } | Event::Deleted(_) => Vec::new(),
        };
        let pod = event.object();
        let found = budgets_of(&budgets, pod);
        if let ([first, _, ..], Event::Applied { .. }) = (found.as_slice(), event)
            && before.len() != found.len()
        {
            let (namespace, name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
            let chosen = meta::name(&first.metadata);
            let why = format!(
                "Pod {namespace:?}/{name:?} matches multiple PodDisruptionBudgets.  Chose {chosen:?} arbitrarily."
            );
            recorder.warning(events::about(&**pod), "MultiplePodDisruptionBudgets", why);
        }
        before.iter().chain(&found).for_each(|budget| queue.add(ObjectKey::of(&**budget)));
    });
}

/// What of a pod a budget's status depends on.
fn facts(pod: &Pod) -> impl PartialEq {
    let owner = controller_of(&pod.metadata).map(|owner| owner.uid.clone());
    (pod.metadata.labels.clone(), owner, pods::is_ready(pod), pods::is_terminating(pod))
}

/// A little later than due, so that what is due is past then.
fn after(wait: Duration) -> Duration {
    wait + Duration::from_millis(1)
}
