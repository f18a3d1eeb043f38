//! Authorisation by a webhook (`--authorization-mode=Webhook`): it is shown a SubjectAccessReview, and its answers are
//! kept for a while.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use daemon::pflag::duration;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::conditions::Conditions;
use super::{Attributes, Authorizer, Decision};
use crate::outbound::expiring::Expiring;
use crate::outbound::review_version::ReviewVersion;
use crate::outbound::webhooks::{CallError, Webhook as Client};

/// Answers that are kept.
const MOST_ANSWERS: usize = 8192;
/// Requests whose parts are longer than this are not worth keeping: somebody may be filling the memory.
const MOST_CONTROLLED: usize = 10_000;

/// How a webhook is found, when it is asked, and what of its answers is kept. The default is that of the flags.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct WebhookConfig {
    /// What it is called in the log.
    #[arg(skip = "default".to_owned())]
    pub name: String,
    /// Where the authoriser Webhook is: a kubeconfig file.
    #[arg(id = "authorization-webhook-config-file", long)]
    pub file: Option<PathBuf>,
    /// The version of the reviews that it is sent: v1 or v1beta1.
    #[arg(id = "authorization-webhook-version", long, default_value = "v1beta1")]
    pub version: ReviewVersion,
    /// For how long it is remembered what it has allowed.
    #[arg(id = "authorization-webhook-cache-authorized-ttl", long, default_value = "5m0s", value_parser = duration)]
    pub authorized: Duration,
    /// For how long it is remembered what it has not allowed.
    #[arg(id = "authorization-webhook-cache-unauthorized-ttl", long, default_value = "30s", value_parser = duration)]
    pub unauthorized: Duration,
    /// How long one call may take.
    #[arg(skip = Duration::from_secs(30))]
    pub timeout: Duration,
    /// What counts when it gives no answer.
    #[arg(skip = FailurePolicy::NoOpinion)]
    pub failure: FailurePolicy,
    /// What must hold for it to be asked.
    #[arg(skip)]
    pub conditions: Conditions,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        daemon::pflag::defaults()
    }
}

/// What a webhook that gives no answer is taken to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The next authorizer is asked.
    NoOpinion,
    Deny,
}

/// The authorizer.
pub(crate) struct Webhook {
    client: Client,
    config: WebhookConfig,
    answers: Expiring<Status>,
}

/// The `status` of an answered review.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Status {
    allowed: bool,
    denied: bool,
    reason: String,
}

#[derive(Deserialize)]
struct Review {
    #[serde(default)]
    status: Status,
}

impl Webhook {
    pub(crate) fn new(client: Client, config: WebhookConfig) -> Self {
        Self { client, config, answers: Expiring::new(MOST_ANSWERS) }
    }

    /// Without an answer nothing is allowed: it is the next authorizer's turn, or nobody's.
    fn failed(&self, why: &str) -> Decision {
        tracing::error!(webhook = %self.config.name, %why, "failed to make webhook authorizer request");
        match self.config.failure {
            FailurePolicy::NoOpinion => Decision::NoOpinion(why.to_owned()),
            FailurePolicy::Deny => Decision::Deny(why.to_owned()),
        }
    }

    async fn ask(&self, spec: &Value) -> Result<Status, CallError> {
        let version = format!("authorization.k8s.io/{}", self.config.version.as_str());
        let review = json!({"apiVersion": version, "kind": "SubjectAccessReview", "metadata": {}, "spec": spec});
        let answer = self.client.ask(Bytes::from(review.to_string()), self.config.timeout).await?;
        let review: Review = serde_json::from_slice(&answer).map_err(|err| CallError::Refused {
            code: 200,
            why: format!("the webhook's answer is no review: {err}"),
        })?;
        Ok(review.status)
    }
}

#[async_trait]
impl Authorizer for Webhook {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        match self.config.conditions.hold(&spec_of(attributes, ReviewVersion::V1)) {
            Ok(true) => {}
            Ok(false) => return Decision::NoOpinion(String::new()),
            Err(why) => return self.failed(&why),
        }
        let spec = spec_of(attributes, self.config.version);
        let question = spec.to_string();
        if let Some(known) = self.answers.get(question.as_bytes()) {
            return decision(known);
        }
        match self.ask(&spec).await {
            Ok(status) => {
                if controlled(attributes) < MOST_CONTROLLED {
                    let life = if status.allowed { self.config.authorized } else { self.config.unauthorized };
                    self.answers.put(question.as_bytes(), status.clone(), life);
                }
                decision(status)
            }
            Err(err) => self.failed(&err.to_string()),
        }
    }
}

fn decision(status: Status) -> Decision {
    match (status.denied, status.allowed) {
        (true, true) => {
            Decision::Deny("webhook subject access review returned both allow and deny response".to_owned())
        }
        (true, false) => Decision::Deny(status.reason),
        (false, true) => Decision::Allow(status.reason),
        (false, false) => Decision::NoOpinion(status.reason),
    }
}

/// Bytes that whoever asks decides on.
fn controlled(attributes: &Attributes) -> usize {
    [
        &attributes.namespace,
        &attributes.verb,
        &attributes.group,
        &attributes.version,
        &attributes.resource,
        &attributes.subresource,
        &attributes.name,
        &attributes.path,
    ]
    .iter()
    .map(|part| part.len())
    .sum()
}

/// The `spec` of a review; empty parts are left out, as Go does.
fn spec_of(attributes: &Attributes, version: ReviewVersion) -> Value {
    let filled = |fields: &[(&str, &str)]| {
        let fields = fields.iter().filter(|(_, value)| !value.is_empty());
        Value::Object(fields.map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect::<Map<_, _>>())
    };
    let user = &attributes.user;
    let mut spec = filled(&[("user", &user.name), ("uid", &user.uid)]);
    if attributes.is_resource {
        spec["resourceAttributes"] = filled(&[
            ("namespace", &attributes.namespace),
            ("verb", &attributes.verb),
            ("group", &attributes.group),
            ("version", &attributes.version),
            ("resource", &attributes.resource),
            ("subresource", &attributes.subresource),
            ("name", &attributes.name),
        ]);
    } else {
        spec["nonResourceAttributes"] = filled(&[("path", &attributes.path), ("verb", &attributes.verb)]);
    }
    if !user.groups.is_empty() {
        // The old version calls them by the singular.
        let name = if version == ReviewVersion::V1 { "groups" } else { "group" };
        spec[name] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        let extra = user.extra.iter().map(|(key, values)| (key.clone(), Value::from(values.clone())));
        spec["extra"] = Value::Object(extra.collect());
    }
    spec
}

#[cfg(test)]
mod tests {
    use api::strategy::User;

    use super::*;

    #[test]
    fn reviews_say_what_is_asked_and_by_whom() {
        let user = User { name: "jane".into(), groups: vec!["dev".into()], ..User::default() };
        let mut attributes = Attributes {
            user,
            verb: "get".into(),
            resource: "pods".into(),
            namespace: "n".into(),
            is_resource: true,
            ..Attributes::default()
        };
        let wanted = json!({"user": "jane", "groups": ["dev"],
            "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "n"}});
        assert_eq!(spec_of(&attributes, ReviewVersion::V1), wanted);
        attributes.is_resource = false;
        attributes.path = "/metrics".into();
        let wanted =
            json!({"user": "jane", "group": ["dev"], "nonResourceAttributes": {"path": "/metrics", "verb": "get"}});
        assert_eq!(spec_of(&attributes, ReviewVersion::V1beta1), wanted);
    }

    #[test]
    fn an_answer_is_a_yes_a_no_or_nothing() {
        let status = |allowed, denied| Status { allowed, denied, reason: "r".into() };
        assert_eq!(decision(status(true, false)), Decision::Allow("r".into()));
        assert_eq!(decision(status(false, true)), Decision::Deny("r".into()));
        assert_eq!(decision(status(false, false)), Decision::NoOpinion("r".into()));
        assert!(matches!(decision(status(true, true)), Decision::Deny(why) if why.contains("both allow and deny")));
    }
}
