//! The audit log: who asked for what, and what became of it, as `audit.k8s.io/v1` events, one JSON object a line.
//!
//! ```text
//! authentication -> policy: how much is recorded? -> RequestReceived -> the request -> ResponseComplete
//!                   nothing: no cost from here on                      (a watch: ResponseStarted, and
//!                                                                       ResponseComplete at its end)
//! ```
//!
//! Stages further down add annotations to the event of the request that they work for. They find it in the task that
//! answers the request ([`annotate`]), since few of them have to do with it and most requests have none.

mod event;
mod file;
mod policy;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::ApiError;
use api::strategy::User;
use axum::body::Body;
use bytes::Bytes;
use futures::FutureExt as _;
use http::HeaderMap;
use http::request::Parts;
use http_body::{Frame, SizeHint};

use self::event::Record;
use self::file::LogFile;
use self::policy::{Level, Policy, Stage};
use crate::authz::Decision;
use crate::error::Error;
use crate::request_info::RequestInfo;
use crate::response::Answer;

/// What the flags say of the audit log.
#[derive(Clone, Debug, Default)]
pub struct AuditConfig {
    pub policy: Option<PathBuf>,
    /// `-` for the standard output.
    pub path: Option<PathBuf>,
    pub mode: Mode,
    pub rotation: Rotation,
}

/// When a new file is begun, and how long old ones are kept; 0 for never and for ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rotation {
    pub max_days: u32,
    pub max_backups: u32,
    pub max_megabytes: u32,
}

/// What happens to a request whose event cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Blocking,
    /// It is refused.
    BlockingStrict,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "blocking" => Ok(Self::Blocking),
            "blocking-strict" => Ok(Self::BlockingStrict),
            "batch" => Err("events are not batched here: choose blocking or blocking-strict".to_owned()),
            _ => Err("choose blocking or blocking-strict".to_owned()),
        }
    }
}

/// The audit log.
pub(crate) struct Audit {
    policy: Policy,
    file: LogFile,
    mode: Mode,
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
    /// Opens the log, if there is one and a policy for it.
    pub(crate) fn new(config: &AuditConfig) -> Result<Option<Self>, Error> {
        let Some(path) = &config.path else { return Ok(None) };
        let Some(policy) = &config.policy else {
            tracing::warn!("no --audit-policy-file is given: nothing is written to the audit log");
            return Ok(None);
        };
        let policy = Policy::read(policy).map_err(|why| Error::Flag { flag: "audit-policy-file", why })?;
        let file = LogFile::open(path, config.rotation)
            .map_err(|err| Error::Flag { flag: "audit-log-path", why: format!("{}: {err}", path.display()) })?;
        Ok(Some(Self { policy, file, mode: config.mode }))
    }

    /// Writes an event; an error is for the log, unless the request must not go on without it.
    fn emit(&self, record: &Record, stage: Stage) -> Result<(), ApiError> {
        let Some(line) = record.line(stage) else { return Ok(()) };
        let Err(err) = self.file.write(&line) else { return Ok(()) };
        tracing::error!(error = &err as &dyn std::error::Error, "an audit event is lost");
        let refused = self.mode == Mode::BlockingStrict && stage == Stage::RequestReceived;
        if refused { Err(ApiError::internal("failed to write the audit event")) } else { Ok(()) }
    }

    /// As [`Self::emit`], where it is too late to refuse.
    fn note(&self, record: &Record, stage: Stage) {
        let _too_late = self.emit(record, stage);
    }

    /// Records a request without a user that it can be attributed to.
    pub(crate) fn unauthenticated(&self, parts: &Parts, info: &RequestInfo) {
        let user = User::default();
        let decision = self.policy.decide(&user, info);
        if decision.level == Level::None {
            return;
        }
        let record = Record::new(decision, parts, info, &user);
        record.refused(&ApiError::unauthorized());
        self.note(&record, Stage::ResponseStarted);
    }

    /// Answers a request with `serve`, and records it.
    pub(crate) async fn follow<F>(
        self: &Arc<Self>,
        parts: &Parts,
        info: &RequestInfo,
        user: &User,
        serve: impl FnOnce() -> F,
    ) -> Result<Answer, ApiError>
    where
        F: Future<Output = Result<Answer, ApiError>>,
    {
        let decision = self.policy.decide(user, info);
        if decision.level == Level::None {
            return serve().await;
        }
        let record = Arc::new(Record::new(decision, parts, info, user));
        self.emit(&record, Stage::RequestReceived)?;
        let long = info.is_long_running();
        let work = AssertUnwindSafe(async { serve().await }).catch_unwind();
        let result = match CURRENT.scope(record.clone(), work).await {
            Ok(result) => result,
            Err(panic) => {
                record.refused(&ApiError::internal("this request caused apiserver to panic"));
                self.note(&record, Stage::Panic);
                resume_unwind(panic);
            }
        };
        self.finish(record, result, long).await
    }

    async fn finish(
        self: &Arc<Self>,
        record: Arc<Record>,
        result: Result<Answer, ApiError>,
        long: bool,
    ) -> Result<Answer, ApiError> {
        let answer = match result {
            Ok(answer) => answer,
            Err(err) => {
                record.refused(&err);
                self.note(&record, Stage::ResponseComplete);
                return Err(err);
            }
        };
        record.answered(answer.status());
        if long && answer.status().as_u16() < 400 {
            self.note(&record, Stage::ResponseStarted);
            let end = End { audit: self.clone(), record };
            return Ok(answer.map(|body| Body::new(Followed { body, _end: end })));
        }
        let answer = if record.wants_answer(answer.status()) {
            let (parts, body) = answer.into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX).await;
            let bytes = bytes.map_err(|_| ApiError::internal("the answer could not be read"))?;
            record.response(&parts, &bytes);
            Answer::from_parts(parts, Body::from(bytes))
        } else {
            answer
        };
        self.note(&record, Stage::ResponseComplete);
        Ok(answer)
    }
}

/// Writes the last event of a request when its answer has ended.
struct End {
    audit: Arc<Audit>,
    record: Arc<Record>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.audit.note(&self.record, Stage::ResponseComplete);
    }
}

/// The body of an answer whose end is recorded.
struct Followed {
    body: Body,
    _end: End,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
