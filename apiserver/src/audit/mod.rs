//! The audit log: who asked for what, and what became of it, as `audit.k8s.io/v1` events. Upstream:
//! `apiserver/pkg/audit`.
//!
//! ```text
//! authentication -> policy: how much is recorded? -> RequestReceived -> the request -> ResponseComplete
//!                   nothing: no cost from here on                      (a watch: ResponseStarted, and
//!                                                                       ResponseComplete at its end)
//!
//! event -> each backend: the file, the webhook -> text, cut down to what is allowed
//!       -> blocking: courier, and the request waits
//!       -> batch: buffer (bounded) -> worker: batches, throttle -> courier
//! ```
//!
//! Stages further down add annotations to the event of the request that they work for. They find it in the task that
//! answers the request ([`annotate`]), since few of them have to do with it and most requests have none.

mod backend;
mod buffer;
mod config;
mod courier;
mod event;
mod file;
mod flags;
mod follow;
mod metrics;
mod policy;
#[cfg(test)]
mod tests;
mod text;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::ApiError;
use api::strategy::User;
use http::HeaderMap;
use http::request::Parts;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::backend::Backend;
use self::buffer::Worker;
use self::event::Record;
use self::metrics::Metrics;
use self::policy::{Level, Policy, Recorded, Stage};
use crate::authz::Decision;
use crate::error::Error;
use crate::outbound::webhooks::Webhooks;
use crate::request::info::RequestInfo;

pub(crate) use self::event::{AUDIT_ID, AuditId};

pub use self::config::{
    AuditConfig, AuditLogConfig, AuditWebhookConfig, Batch, Delivery, Format, Mode, Rotation, Throttle, Truncate,
};
pub(crate) use self::flags::AuditArgs;

/// How long the last events may take when the server ends.
const LAST_EVENTS: Duration = Duration::from_secs(10);

/// The audit log.
pub(crate) struct Audit {
    policy: Policy,
    backends: Vec<Backend>,
    metrics: Metrics,
    workers: Mutex<Vec<Worker>>,
    running: TaskTracker,
    /// From then on no event is taken.
    closing: CancellationToken,
    /// From then on none is sent.
    closed: CancellationToken,
}

tokio::task_local! {
    /// The event of the request that this task answers.
    static CURRENT: Arc<Record>;
}

/// Adds an annotation to the event of the current request, if there is one; one that is there already stays.
pub(crate) fn annotate(key: &str, value: impl FnOnce() -> String) {
    let _not_recorded = CURRENT.try_with(|record| record.annotate(key, value()));
}

/// As [`annotate`], where the event shows what clients send.
pub(crate) fn annotate_content(key: &str, value: impl FnOnce() -> String) {
    let _not_recorded = CURRENT.try_with(|record| {
        if record.shows_content() {
            record.annotate(key, value());
        }
    });
}

/// Whether the current request has an event.
pub(crate) fn is_recorded() -> bool {
    CURRENT.try_with(|_| ()).is_ok()
}

/// Notes whom the current request acts as.
pub(crate) fn impersonated(user: &User) {
    let _not_recorded = CURRENT.try_with(|record| record.impersonated(user));
}

/// Notes what the client of the current request sent.
pub(crate) fn received(headers: &HeaderMap, body: &[u8]) {
    let _not_recorded = CURRENT.try_with(|record| record.request(headers, body));
}

/// Notes what the authorizer said of the current request.
pub(crate) fn decided(decision: &Decision) {
    let (word, reason) = match decision {
        Decision::Allow(reason) => ("allow", reason),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => ("forbid", reason),
    };
    annotate("authorization.k8s.io/decision", || word.to_owned());
    annotate("authorization.k8s.io/reason", || reason.clone());
}

impl Audit {
    /// Opens the log, if there is one and a policy for it. Nothing runs yet.
    pub(crate) fn new(
        config: &AuditConfig,
        webhooks: &Webhooks,
        process: &daemon::Metrics,
    ) -> Result<Option<Self>, Error> {
        let metrics = Metrics::register(process);
        let wanted = config.log.path.is_some() || config.webhook.file.is_some();
        let Some(policy) = &config.policy else {
            if wanted {
                tracing::warn!("no --audit-policy-file is given: no events are recorded");
            }
            return Ok(None);
        };
        let policy = Policy::read(policy).map_err(|why| Error::Flag { flag: "audit-policy-file", why })?;
        if !wanted {
            return Ok(None);
        }
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let (mut backends, mut workers) = (Vec::new(), Vec::new());
        // The file comes first: it keeps nobody waiting.
        if let Some((backend, worker)) = Backend::log(&config.log, &metrics, &closing)? {
            backends.push(backend);
            workers.extend(worker);
        }
        // Its connections outlive those to other webhooks, since the last events come when those are gone.
        let webhooks = webhooks.until(closed.clone());
        if let Some((backend, worker)) = Backend::webhook(&config.webhook, &webhooks, &metrics, &closing)? {
            backends.push(backend);
            workers.push(worker);
        }
        let (workers, running) = (Mutex::new(workers), TaskTracker::new());
        Ok(Some(Self { policy, backends, metrics, workers, running, closing, closed }))
    }

    /// Starts to send what waits.
    pub(crate) fn start(&self) {
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            self.running.spawn(self.closed.clone().run_until_cancelled_owned(worker.run()));
        }
    }

    /// Sends what still waits, but not for long. No event is taken any more.
    pub(crate) async fn finish(&self) {
        self.closing.cancel();
        self.running.close();
        if tokio::time::timeout(LAST_EVENTS, self.running.wait()).await.is_err() {
            let events: usize = self.backends.iter().map(Backend::waiting).sum();
            tracing::error!(events, "audit events are lost: they could not be sent before the end");
        }
        self.closed.cancel();
    }

    fn decide(&self, user: &User, info: &RequestInfo) -> Recorded {
        let recorded = self.policy.decide(user, info);
        self.metrics.level(recorded.level);
        recorded
    }

    /// Records a stage; `false` if the request must not go on.
    async fn emit(&self, record: &Record, stage: Stage) -> bool {
        let Some(event) = record.at(stage) else { return true };
        self.metrics.event();
        let mut taken = true;
        for backend in &self.backends {
            taken &= backend.take(&event).await;
        }
        taken
    }

    /// Records a stage of a request that nobody waits for any more.
    fn emit_late(&self, record: &Record, stage: Stage) {
        let Some(event) = record.at(stage) else { return };
        self.metrics.event();
        self.backends.iter().for_each(|backend| backend.take_late(&event));
    }

    /// Records a request without a user that it can be attributed to.
    pub(crate) async fn unauthenticated(&self, parts: &Parts, info: &RequestInfo) {
        let user = User::default();
        let decision = self.decide(&user, info);
        if decision.level == Level::None {
            return;
        }
        let record = Record::new(decision, parts, info, &user);
        record.refused(&ApiError::unauthorized());
        self.emit(&record, Stage::ResponseStarted).await;
    }
}
