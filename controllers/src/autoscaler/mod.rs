//! Scales what HorizontalPodAutoscalers name by what metrics say (upstream: `pkg/controller/podautoscaler`).
//!
//! Each autoscaler is looked at once in a sync period: the scale of its target is read (`target`), its metrics are asked for
//! (`metrics`), each says a number of replicas (`evaluate`, `calculate`), the highest is brought between bounds and slowed down
//! (`plan`, `behavior`), and what comes of it is written: the scale if it changes, the status if it says something else. Without
//! autoscalers nothing happens.

mod behavior;
mod calculate;
mod evaluate;
mod known;
mod metrics;
mod monitor;
mod plan;
mod status;
mod target;
mod words;

use std::sync::Arc;
use std::time::Duration;

use api::selector::LabelSelector;
use client::{Event, Informer, ObjectKey, Recorder, WorkQueue, clock, events, write};
use facts::labels;
use futures::{StreamExt, stream};
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec, MetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use tokio::time::{Instant, timeout, timeout_at};

use self::behavior::{Behavior, History};
use self::calculate::{Patience, Scene};
use self::evaluate::{Proposal, Trouble, evaluate};
use self::known::Known;
use self::metrics::Source;
use self::monitor::{Fault, Monitor};
use self::plan::{Bounds, Course};
use self::status::{Condition, Draft};
use self::target::{Target, Targets};
use crate::config::Autoscaling;
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::meta;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "horizontal-pod-autoscaler-controller",
    aliases: &["horizontalpodautoscaling"],
    start: |start| {
        let tuning = &start.config.tuning.autoscaling;
        start.drive("horizontalpodautoscaler", Autoscalers::new(start.context, tuning), tuning.autoscaler_workers)
    },
};

/// How long a target's scale, and all metrics of an autoscaler together, may take: a server that hangs holds up a worker for
/// less than a usual period.
const PATIENCE: Duration = Duration::from_secs(10);
/// Metrics of an autoscaler that are asked for at the same time.
const AT_ONCE: usize = 8;

struct Autoscalers {
    client: kube::Client,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    targets: Targets,
    source: Source,
    known: Known,
    monitor: Monitor,
    recorder: Recorder,
    tuning: Autoscaling,
}

/// What became of an autoscaler.
struct Done {
    /// By how many replicas the target changes.
    change: i32,
    fault: Fault,
}

const UNCHANGED: Done = Done { change: 0, fault: Fault::None };
const FAILED: Done = Done { change: 0, fault: Fault::Internal };

impl Autoscalers {
    fn new(context: &Context, tuning: &Autoscaling) -> (Self, WorkQueue<ObjectKey>) {
        let period = tuning.sync_period;
        let queue = WorkQueue::with_backoff(period, period);
        let autoscalers = context.informers.of::<HorizontalPodAutoscaler>();
        let monitor = Monitor::new(&context.metrics);
        let (changed, count) = (queue.clone(), monitor.autoscalers.clone());
        autoscalers.on_event(move |event| match event {
            // Nothing is done more often, whatever changes: metrics are not newer for it.
            Event::Applied { old, .. } => {
                count.inc_by(old.is_none().into());
                changed.add_after(event.key(), period);
            }
            Event::Deleted(_) => {
                count.dec();
                changed.add(event.key());
            }
        });
        let targets = Targets::new(context);
        let new = Self {
            client: context.client.clone(),
            autoscalers,
            pods: context.informers.of::<Pod>(),
            source: Source::new(context.client.clone(), targets.clone()),
            targets,
            known: Known::default(),
            monitor,
            recorder: context.recorder.for_component("horizontal-pod-autoscaler"),
            tuning: tuning.clone(),
        };
        (new, queue)
    }

    /// Brings the target where it should be, and drafts what is said of it.
    async fn scale(&self, key: &ObjectKey, autoscaler: &HorizontalPodAutoscaler, draft: &mut Draft) -> Done {
        let spec = &autoscaler.spec;
        let found = timeout(PATIENCE, self.targets.scale(&key.namespace, &spec.scale_target_ref)).await;
        let target = match found.unwrap_or_else(|_| Err(out_of_time())) {
            Ok(target) => target,
            Err(why) => {
                let message = format!("the HPA controller was unable to get the target's current scale: {why}");
                draft.warn("FailedGetScale", why);
                draft.set(Condition::AbleToScale, false, "FailedGetScale", message);
                return FAILED;
            }
        };
        let read = "the HPA controller was able to get the target's current scale";
        draft.set(Condition::AbleToScale, true, "SucceededGetScale", read);
        let current = target.replicas();
        self.known.meet(key, meta::uid(&autoscaler.metadata), current, Instant::now());
        match Course::of(current, Bounds::of(spec)) {
            Course::Off => {
                let off = "scaling is disabled since the replica count of the target is zero";
                draft.set(Condition::ScalingActive, false, "ScalingDisabled", off);
                draft.take_away(Condition::ScaledToZero);
                draft.count(0, 0, Vec::new());
                UNCHANGED
            }
            Course::Into { replicas, reason } => {
                self.rescale(key, spec, target, (replicas, reason), draft, Vec::new()).await
            }
            Course::Measure => self.follow(key, spec, target, draft).await,
        }
    }

    /// Brings a target where its metrics want it.
    async fn follow(
        &self,
        key: &ObjectKey,
        spec: &HorizontalPodAutoscalerSpec,
        target: Target,
        draft: &mut Draft,
    ) -> Done {
        let (current, before) = (target.replicas(), draft.status.desired_replicas);
        let tally = match self.measure(key, spec, &target, draft).await {
            Ok(proposals) => plan::tally(draft, proposals, current),
            Err(why) => plan::Tally { wanted: Err(why), statuses: Vec::new(), broken: 0 },
        };
        let (wanted, name) = match tally.wanted {
            Ok(wanted) => wanted,
            Err(why) => {
                draft.count(current, before, tally.statuses);
                draft.warn("FailedComputeMetricsReplicas", why);
                return FAILED;
            }
        };
        let window = self.tuning.downscale_stabilization;
        let go =
            |history: &mut History| plan::go(draft, spec, history, (current, wanted, &name), window, Instant::now());
        // Without a memory the autoscaler was deleted meanwhile.
        let Some((replicas, reason)) = self.known.history(key, go) else { return UNCHANGED };
        let done = if replicas == current {
            draft.count(current, replicas, tally.statuses);
            UNCHANGED
        } else {
            self.rescale(key, spec, target, (replicas, &reason), draft, tally.statuses).await
        };
        if tally.broken == 0 { done } else { Done { fault: Fault::Internal, ..done } }
    }

    /// What each metric says; or why none can be asked.
    async fn measure(
        &self,
        key: &ObjectKey,
        spec: &HorizontalPodAutoscalerSpec,
        target: &Target,
        draft: &mut Draft,
    ) -> Result<Vec<Result<Proposal, Trouble>>, String> {
        let (selector, pods) = self.select(key, target, draft)?;
        let scene = Scene {
            pods: &pods,
            wanted: target.replicas(),
            there: target.there(),
            tolerances: plan::tolerances(spec.behavior.as_ref(), self.tuning.tolerance),
            patience: Patience {
                cpu_initialization: self.tuning.cpu_initialization_period,
                initial_readiness: self.tuning.initial_readiness_delay,
            },
            now: clock::now(),
        };
        let deadline = Instant::now() + PATIENCE;
        let metrics = spec.metrics.iter().flatten();
        let judged: Vec<_> =
            metrics.map(|metric| self.judge(&key.namespace, &scene, metric, &selector, deadline)).collect();
        Ok(stream::iter(judged).buffered(AT_ONCE).collect().await)
    }

    /// Asks for one metric, and judges it.
    async fn judge(
        &self,
        namespace: &str,
        scene: &Scene<'_>,
        metric: &MetricSpec,
        selector: &LabelSelector,
        deadline: Instant,
    ) -> Result<Proposal, Trouble> {
        let started = Instant::now();
        let reading = timeout_at(deadline, self.source.read(namespace, metric, selector)).await;
        let judged = evaluate(scene, metric, reading.unwrap_or_else(|_| Err(out_of_time())));
        let (change, fault) = match &judged {
            Ok(proposal) => (proposal.replicas.saturating_sub(scene.wanted), Fault::None),
            Err(trouble) if trouble.reason == evaluate::UNKNOWN => (0, Fault::Spec),
            Err(_) => (0, Fault::Internal),
        };
        self.monitor.computed(change, fault, started.elapsed(), &metric.type_);
        judged
    }

    /// The pods that a target selects, if no other autoscaler's target selects one of them.
    fn select(
        &self,
        key: &ObjectKey,
        target: &Target,
        draft: &mut Draft,
    ) -> Result<(LabelSelector, Vec<Arc<Pod>>), String> {
        let Some(text) = target.selector() else {
            let why = "selector is required";
            draft.warn("SelectorRequired", why);
            let message = "the HPA target's scale is missing a selector";
            draft.set(Condition::ScalingActive, false, "InvalidSelector", message);
            return Err(why.to_owned());
        };
        let selector: LabelSelector = text.parse().map_err(|err| {
            let why = format!("couldn't convert selector into a corresponding internal selector object: {err}");
            refuse(draft, "InvalidSelector", why)
        })?;
        self.known.select(key, &selector);
        let mut pods = self.pods.list_in(&key.namespace);
        pods.retain(|pod| known::selects(&selector, labels::of(&pod.metadata)));
        let selecting = self.known.selecting(&key.namespace, &pods);
        if selecting.len() > 1 {
            let all = selecting.join(" ");
            let why = format!("pods by selector {text} are controlled by multiple HPAs: [{all}]");
            return Err(refuse(draft, "AmbiguousSelector", why));
        }
        Ok((selector, pods))
    }

    /// Writes another number of replicas.
    async fn rescale(
        &self,
        key: &ObjectKey,
        spec: &HorizontalPodAutoscalerSpec,
        target: Target,
        (replicas, reason): (i32, &str),
        draft: &mut Draft,
        metrics: Vec<MetricStatus>,
    ) -> Done {
        let (current, before) = (target.replicas(), draft.status.desired_replicas);
        if let Err(err) = target.set(replicas).await {
            let why = write::status_message(&err);
            draft.warn("FailedRescale", format!("New size: {replicas}; reason: {reason}; error: {why}"));
            let message = format!("the HPA controller was unable to update the target scale: {why}");
            draft.set(Condition::AbleToScale, false, "FailedUpdateScale", message);
            draft.count(current, before, metrics);
            return FAILED;
        }
        let message = format!("the HPA controller was able to update the target scale to {replicas}");
        draft.set(Condition::AbleToScale, true, "SucceededRescale", message);
        draft.tell("SuccessfulRescale", format!("New size: {replicas}; reason: {reason}"));
        draft.take_away(Condition::ScaledToZero);
        draft.count(current, replicas, metrics);
        draft.rescaled();
        if let Some(behavior) = &spec.behavior {
            let behavior = Behavior::of(behavior, self.tuning.downscale_stabilization);
            self.known.history(key, |history| behavior.note(history, current, replicas, Instant::now()));
        }
        Done { change: replicas.saturating_sub(current), fault: Fault::None }
    }

    async fn write(&self, key: &ObjectKey, autoscaler: &HorizontalPodAutoscaler, draft: Draft) -> Result<(), Failure> {
        let about = || events::about(autoscaler);
        for notice in &draft.notices {
            let (reason, message) = (notice.reason, notice.message.clone());
            if notice.is_warning {
                self.recorder.warning(about(), reason, message);
            } else {
                self.recorder.normal(about(), reason, message);
            }
        }
        if !draft.is_news(autoscaler) {
            return Ok(());
        }
        let updated = HorizontalPodAutoscaler { status: Some(draft.status), ..autoscaler.clone() };
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &updated).await;
        if let Err(err) = &written
            && !write::is_not_found(err)
        {
            self.recorder.warning(about(), "FailedUpdateStatus", write::status_message(err));
        }
        write::ignore_not_found(written)?;
        Ok(())
    }
}

impl Controller for Autoscalers {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(autoscaler) = self.autoscalers.get(&key) else {
            self.known.forget(&key);
            self.monitor.forget(&key.namespace, &key.name);
            return Ok(None);
        };
        let started = Instant::now();
        let mut draft = Draft::of(&autoscaler, clock::now());
        let done = self.scale(&key, &autoscaler, &mut draft).await;
        self.monitor.wants(&key.namespace, &key.name, draft.status.desired_replicas);
        self.monitor.reconciled(done.change, done.fault, started.elapsed());
        self.write(&key, &autoscaler, draft).await?;
        Ok(Some(self.tuning.sync_period))
    }
}

/// Says that a target's selector cannot be used.
fn refuse(draft: &mut Draft, reason: &'static str, why: String) -> String {
    draft.warn(reason, why.clone());
    draft.set(Condition::ScalingActive, false, reason, why.clone());
    why
}

fn out_of_time() -> String {
    format!("no answer within {} seconds", PATIENCE.as_secs())
}
