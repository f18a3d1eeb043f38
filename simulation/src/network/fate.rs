//! What becomes of one request.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use tower::BoxError;

use super::Broken;
use crate::dice::Dice;
use crate::plan::Faults;

/// What becomes of one request.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) before: Duration,
    pub(super) after: Duration,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answered,
    NeverArrives,
    AnswerLost,
    Refused(StatusCode),
}

/// Whether it asks for a stream of changes.
pub(super) fn is_watch<B>(request: &Request<B>) -> bool {
    query(request).any(|part| matches!(part, "watch=true" | "watch=1"))
}

fn query<B>(request: &Request<B>) -> impl Iterator<Item = &str> {
    request.uri().query().unwrap_or_default().split('&')
}

/// Whether it is a watch that goes on where an earlier one ended.
fn resumes<B>(request: &Request<B>) -> bool {
    let is_past =
        |part: &str| part.strip_prefix("resourceVersion=").is_some_and(|version| !matches!(version, "" | "0"));
    is_watch(request) && query(request).any(is_past)
}

impl Fate {
    pub(super) fn of<B>(request: &Request<B>, faults: &Faults, dice: &mut Dice) -> Self {
        let end = Self::end(request, faults, dice);
        let mut some = || if faults.delay == 0 { Duration::ZERO } else { dice.millis(0..faults.delay) };
        Self { before: some(), after: some(), end }
    }

    fn end<B>(request: &Request<B>, faults: &Faults, dice: &mut Dice) -> End {
        if resumes(request) && dice.chance(faults.gone) {
            return End::Refused(StatusCode::GONE);
        }
        if dice.chance(faults.lose_request) {
            return End::NeverArrives;
        }
        if dice.chance(faults.lose_answer) {
            return End::AnswerLost;
        }
        if dice.chance(faults.refuse) {
            let mut codes = vec![
                StatusCode::TOO_MANY_REQUESTS,
                StatusCode::INTERNAL_SERVER_ERROR,
                StatusCode::SERVICE_UNAVAILABLE,
                StatusCode::GATEWAY_TIMEOUT,
            ];
            codes.extend((request.method() == Method::PUT).then_some(StatusCode::CONFLICT));
            return End::Refused(*dice.pick(&codes));
        }
        End::Answered
    }

    pub(super) fn is_notable(&self) -> bool {
        self.end != End::Answered
    }

    pub(super) fn what(&self) -> String {
        match self.end {
            End::Answered => "arrives".to_owned(),
            End::NeverArrives => "never arrives".to_owned(),
            End::AnswerLost => "the answer is lost".to_owned(),
            End::Refused(code) => format!("refused with {code}"),
        }
    }

    pub(super) fn loses_answer(&self) -> bool {
        self.end == End::AnswerLost
    }

    /// The answer, if the server is never asked.
    pub(super) fn answered_at_once(&self) -> Option<Result<Response<Body>, BoxError>> {
        match self.end {
            End::Answered | End::AnswerLost => None,
            End::NeverArrives => Some(Err(Broken::Reset.into())),
            End::Refused(code) => Some(Ok(refusal(code))),
        }
    }
}

/// The answer of a server that says no, as upstream's words it.
fn refusal(code: StatusCode) -> Response<Body> {
    let reason = match code {
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::GONE => "Expired",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "Timeout",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code.as_u16(),
        "message": "the simulation says no", "reason": reason,
    });
    let answer = Response::builder().status(code).header("content-type", "application/json");
    let answer = if code == StatusCode::TOO_MANY_REQUESTS { answer.header("retry-after", "1") } else { answer };
    answer.body(Body::from(status.to_string())).expect("these headers are valid")
}
