//! Probes: one task per probe of a running container, from its start to its end. A startup probe holds the others back
//! (upstream: pkg/kubelet/prober).
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use crate::context::Context;
use crate::pod;
use crate::pods::actions::Health;

mod attempt;
pub(crate) mod counts;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Says that the container is up; nothing else is asked before.
    Startup,
    /// Says that it must be restarted.
    Liveness,
    /// Says that it takes traffic.
    Readiness,
}

impl Kind {
    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

type Verdicts = Arc<Mutex<BTreeMap<String, Health>>>;

/// The probes of one pod.
pub(crate) struct Probes {
    context: Arc<Context>,
    verdicts: Verdicts,
    wake: Arc<Notify>,
    running: BTreeMap<(String, Kind), AbortHandle>,
    tasks: JoinSet<()>,
    /// The pod whose attempts are counted.
    counted: Option<String>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.counted.iter().for_each(|uid| self.context.probed.forget(uid));
    }
}

/// A container whose probes should run.
pub(crate) struct Target<'a> {
    /// Its spec.
    pub(crate) container: &'a Container,
    /// Its id.
    pub(crate) id: &'a str,
    /// When it started.
    pub(crate) started_at: jiff::Timestamp,
}

impl Probes {
    /// No probes yet; `wake` is notified when a verdict changes.
    pub(crate) fn new(context: Arc<Context>, wake: Arc<Notify>) -> Self {
        let (running, tasks) = (BTreeMap::new(), JoinSet::new());
        Self { context, verdicts: Verdicts::default(), wake, running, tasks, counted: None }
    }

    /// What is known, by container id.
    pub(crate) fn health(&self) -> BTreeMap<String, Health> {
        lock(&self.verdicts).clone()
    }

    /// Takes over a verdict from the pod's status, so that a restart of the kubelet changes no readiness.
    pub(crate) fn remember(&self, id: &str, health: Health) {
        lock(&self.verdicts).insert(id.to_owned(), health);
    }

    /// Starts the probes of new containers and stops those of ended ones.
    pub(crate) fn sync(&mut self, pod: &Arc<Pod>, pod_ip: Option<IpAddr>, targets: &[Target<'_>]) {
        let alive = |id: &str| targets.iter().any(|target| target.id == id);
        self.retain(alive);
        lock(&self.verdicts).retain(|id, _| alive(id));
        while self.tasks.try_join_next().is_some() {}
        for target in targets {
            let health = lock(&self.verdicts).entry(target.id.to_owned()).or_default().to_owned();
            let started = target.container.startup_probe.is_none() || health.started == Some(true);
            if !started {
                self.start(Kind::Startup, pod, pod_ip, target);
                continue;
            }
            if let Some(task) = self.running.remove(&(target.id.to_owned(), Kind::Startup)) {
                task.abort();
            }
            self.start(Kind::Liveness, pod, pod_ip, target);
            self.start(Kind::Readiness, pod, pod_ip, target);
        }
    }

    /// Of a pod that stops nobody asks any more whether it is up or must be restarted, but whether it takes traffic: who
    /// sends some until the end relies on it. What the other probes said last stays.
    pub(crate) fn stop_all_but_readiness(&mut self) {
        self.running.retain(|(_, kind), task| {
            let keep = *kind == Kind::Readiness;
            if !keep {
                task.abort();
            }
            keep
        });
    }

    /// Stops every probe; what they said last stays.
    pub(crate) fn stop(&mut self) {
        self.running.clear();
        self.tasks.abort_all();
    }

    /// Stops the probes of containers that are not alive.
    pub(crate) fn retain(&mut self, alive: impl Fn(&str) -> bool) {
        self.running.retain(|(id, _), task| {
            let keep = alive(id);
            if !keep {
                task.abort();
            }
            keep
        });
    }

    fn start(&mut self, kind: Kind, pod: &Arc<Pod>, pod_ip: Option<IpAddr>, target: &Target<'_>) {
        let key = (target.id.to_owned(), kind);
        let Some(probe) = kind.of(target.container).filter(|_| !self.running.contains_key(&key)) else { return };
        let worker = Worker {
            context: Arc::clone(&self.context),
            pod: Arc::clone(pod),
            container: target.container.clone(),
            id: target.id.to_owned(),
            pod_ip,
            kind,
            probe: probe.clone(),
            started_at: target.started_at,
            verdicts: Arc::clone(&self.verdicts),
            wake: Arc::clone(&self.wake),
        };
        self.context.probed.begin(pod::uid(pod));
        self.counted = Some(pod::uid(pod).to_owned());
        let task = self.tasks.spawn(worker.run());
        self.running.insert(key, task);
    }
}

struct Worker {
    context: Arc<Context>,
    pod: Arc<Pod>,
    container: Container,
    id: String,
    pod_ip: Option<IpAddr>,
    kind: Kind,
    probe: Probe,
    started_at: jiff::Timestamp,
    verdicts: Verdicts,
    wake: Arc<Notify>,
}

impl Worker {
    async fn run(self) {
        let period = seconds(self.probe.period_seconds, 10);
        let delay = Duration::from_secs(u64::try_from(self.probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0));
        let age = client::clock::now().duration_since(self.started_at);
        tokio::time::sleep(delay.saturating_sub(Duration::try_from(age).unwrap_or_default())).await;
        let mut streak = (false, 0);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let outcome = self.attempt().await;
            let passed = outcome.is_ok();
            self.context.probed.add(pod::uid(&self.pod), &self.container.name, self.kind.title(), passed);
            streak = if streak.0 == passed { (passed, streak.1 + 1) } else { (passed, 1) };
            match outcome {
                Ok(None) => {}
                Ok(Some(doubt)) => self.tell("ProbeWarning", &format!("warning: {doubt}")),
                Err(reason) => self.tell("Unhealthy", &format!("failed: {reason}")),
            }
            let threshold = if passed {
                self.probe.success_threshold.unwrap_or(1)
            } else {
                self.probe.failure_threshold.unwrap_or(3)
            };
            if streak.1 >= threshold.max(1) && self.settle(passed) {
                return;
            }
        }
    }

    fn tell(&self, reason: &str, what: &str) {
        let message = format!("{} probe {what}", self.kind.title());
        self.context.container_event(&self.pod, &self.container.name, "Warning", reason, message);
    }

    /// Records a verdict; says whether the probe is over.
    fn settle(&self, passed: bool) -> bool {
        let changed = {
            let mut verdicts = lock(&self.verdicts);
            let health = verdicts.entry(self.id.clone()).or_default();
            let place = match self.kind {
                Kind::Startup => &mut health.started,
                Kind::Liveness => &mut health.live,
                Kind::Readiness => &mut health.ready,
            };
            place.replace(passed) != Some(passed)
        };
        if changed {
            self.wake.notify_one();
        }
        // A condemned container waits for its end; a started one needs no more asking.
        match self.kind {
            Kind::Startup => true,
            Kind::Liveness => !passed,
            Kind::Readiness => false,
        }
    }

    async fn attempt(&self) -> Result<Option<String>, String> {
        let limit = seconds(self.probe.timeout_seconds, 1);
        attempt::once(&self.context, &self.container, &self.id, self.pod_ip, &self.probe, limit).await
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    let value = value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    Duration::from_secs(value.unwrap_or(default))
}

fn lock(verdicts: &Verdicts) -> std::sync::MutexGuard<'_, BTreeMap<String, Health>> {
    verdicts.lock().unwrap_or_else(PoisonError::into_inner)
}
