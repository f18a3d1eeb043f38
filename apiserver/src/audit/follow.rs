//! A request from its beginning to its end, with a record of each stage (upstream: `endpoints/filters.WithAudit`).

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::ApiError;
use api::strategy::User;
use axum::body::Body;
use bytes::Bytes;
use futures::FutureExt as _;
use http::request::Parts;
use http_body::{Frame, SizeHint};

use super::event::Record;
use super::policy::{Level, Stage};
use super::{Audit, CURRENT};
use crate::request::info::RequestInfo;
use crate::response::Answer;

impl Audit {
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
        let decision = self.decide(user, info);
        if decision.level == Level::None {
            return serve().await;
        }
        let record = Arc::new(Record::new(decision, parts, info, user));
        let open = Open(Some((self.clone(), record.clone())));
        if !self.emit(&record, Stage::RequestReceived).await {
            open.close();
            self.metrics.rejected();
            return Err(ApiError::internal("failed to store audit event"));
        }
        let work = AssertUnwindSafe(async { serve().await }).catch_unwind();
        let result = match CURRENT.scope(record.clone(), work).await {
            Ok(result) => result,
            Err(panic) => {
                open.close();
                record.refused(&ApiError::internal("this request caused apiserver to panic"));
                self.emit(&record, Stage::Panic).await;
                resume_unwind(panic);
            }
        };
        self.answered(record, open, result, info.is_long_running()).await
    }

    /// Records how a request was answered.
    async fn answered(
        self: &Arc<Self>,
        record: Arc<Record>,
        open: Open,
        result: Result<Answer, ApiError>,
        long: bool,
    ) -> Result<Answer, ApiError> {
        let result = match result {
            Ok(answer) if long && answer.status().as_u16() < 400 => {
                record.answered(answer.status());
                open.close();
                let end = End { audit: self.clone(), record };
                self.emit(&end.record, Stage::ResponseStarted).await;
                return Ok(answer.map(|body| Body::new(Followed { body, _end: end })));
            }
            Ok(answer) => {
                record.answered(answer.status());
                noted(&record, answer).await
            }
            Err(err) => Err(err),
        };
        if let Err(err) = &result {
            record.refused(err);
        }
        open.close();
        self.emit(&record, Stage::ResponseComplete).await;
        result
    }
}

/// Looks at an answer, if its bytes are wanted.
async fn noted(record: &Record, answer: Answer) -> Result<Answer, ApiError> {
    if !record.wants_answer(answer.status()) {
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await;
    let bytes = bytes.map_err(|_| ApiError::internal("the answer could not be read"))?;
    record.response(&parts, &bytes);
    Ok(Answer::from_parts(parts, Body::from(bytes)))
}

/// A request that has no answer yet. If it is let go before it has one, that is recorded.
struct Open(Option<(Arc<Audit>, Arc<Record>)>);

impl Open {
    fn close(mut self) {
        self.0 = None;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some((audit, record)) = self.0.take() {
            record.unanswered();
            audit.emit_late(&record, Stage::ResponseComplete);
        }
    }
}

/// Records the last stage of a request when its answer has ended.
struct End {
    audit: Arc<Audit>,
    record: Arc<Record>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.audit.emit_late(&self.record, Stage::ResponseComplete);
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
