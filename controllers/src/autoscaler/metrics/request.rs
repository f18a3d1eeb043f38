//! One question to a server of metrics: how long and how large its answer may be, and how failures are worded (as client-go
//! words them).

use std::fmt::Write as _;

use api::selector::LabelSelector;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::core::Status;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::answer::{Answer, failure};

/// Answers beyond this are refused: ten thousands of pods need less.
const MOST_BYTES: usize = 16 << 20;

/// All but what RFC 3986 lets stand, and the `*` that stands for all pods.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'*');

/// What is asked.
#[derive(Debug)]
pub(super) struct Query {
    group: &'static str,
    resource: String,
    name: String,
    path: String,
    parameters: Vec<(&'static str, String)>,
}

impl Query {
    pub(super) fn of(group: &'static str, version: &str) -> Self {
        let path = format!("/apis/{group}/{version}");
        Self { group, resource: String::new(), name: String::new(), path, parameters: Vec::new() }
    }

    pub(super) fn namespaced(self, namespace: &str, resource: &str) -> Self {
        let namespaced = self.part("namespaces").part(namespace).part(resource);
        Self { resource: resource.to_owned(), ..namespaced }
    }

    pub(super) fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.part(name) }
    }

    pub(super) fn part(mut self, part: &str) -> Self {
        // A String takes all that is written.
        let _ = write!(self.path, "/{}", utf8_percent_encode(part, ESCAPED));
        self
    }

    pub(super) fn labels(self, selector: &LabelSelector) -> Self {
        self.parameter("labelSelector", selector)
    }

    pub(super) fn metric(self, selector: &LabelSelector) -> Self {
        self.parameter("metricLabelSelector", selector)
    }

    fn parameter(mut self, name: &'static str, selector: &LabelSelector) -> Self {
        if !selector.is_everything() {
            self.parameters.push((name, selector.to_string()));
        }
        self
    }

    fn uri(&self) -> String {
        let encoded = |(name, value): &(&str, String)| format!("{name}={}", utf8_percent_encode(value, ESCAPED));
        let parameters: Vec<String> = self.parameters.iter().map(encoded).collect();
        if parameters.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, parameters.join("&")) }
    }

    /// Asks. Whoever calls it limits the time.
    pub(super) async fn ask<A: Answer>(self, client: &kube::Client) -> Result<A, String> {
        let request = Request::get(self.uri()).header(http::header::ACCEPT, "application/json").body(Body::empty());
        let answer = client.send(request.map_err(failure::<A>)?).await.map_err(failure::<A>)?;
        let status = answer.status();
        let body = whole(answer).await.map_err(failure::<A>)?;
        if !status.is_success() {
            return Err(failure::<A>(self.refusal(status, &body)));
        }
        serde_json::from_slice(&body).map_err(failure::<A>)
    }

    /// Why a server refused: in its own words if it has some.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> String {
        let said = serde_json::from_slice::<Status>(body).ok().filter(|said| !said.message.is_empty());
        if let Some(said) = said {
            return said.message;
        }
        let what = match status {
            StatusCode::NOT_FOUND => "the server could not find the requested resource".to_owned(),
            StatusCode::SERVICE_UNAVAILABLE => "the server is currently unable to handle the request".to_owned(),
            StatusCode::GATEWAY_TIMEOUT => {
                "the server was unable to return a response in the time allotted, but may still be processing the request"
                    .to_owned()
            }
            other => format!("the server responded with the status code {}", other.as_u16()),
        };
        let space = if self.name.is_empty() { "" } else { " " };
        format!("{what} (get {}.{}{space}{})", self.resource, self.group, self.name)
    }
}

async fn whole(answer: Response<Body>) -> Result<bytes::Bytes, String> {
    let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
    body.map(|body| body.to_bytes()).map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_selectors_of_users_stay_in_their_place() {
        let query = Query::of("custom.metrics.k8s.io", "v1beta2").namespaced("n", "pods").named("*").part("a?b c");
        let query = query.labels(&"app=web,x in (a,b)".parse().unwrap()).metric(&LabelSelector::everything());
        let path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/n/pods/*/a%3Fb%20c";
        assert_eq!(query.uri(), format!("{path}?labelSelector=app%3Dweb%2Cx%20in%20%28a%2Cb%29"));
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_server_or_of_client_go() {
        let query = Query::of("metrics.k8s.io", "v1beta1").namespaced("n", "pods");
        let said = br#"{"kind": "Status", "status": "Failure", "message": "no", "reason": "Forbidden", "code": 403}"#;
        assert_eq!(query.refusal(StatusCode::FORBIDDEN, said), "no");
        let words = query.refusal(StatusCode::NOT_FOUND, b"404 page not found");
        assert_eq!(words, "the server could not find the requested resource (get pods.metrics.k8s.io)");
        let words = query.named("*").refusal(StatusCode::SERVICE_UNAVAILABLE, b"<html>");
        assert_eq!(words, "the server is currently unable to handle the request (get pods.metrics.k8s.io *)");
    }
}
