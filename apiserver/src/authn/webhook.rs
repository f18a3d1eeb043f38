//! Bearer tokens that a webhook knows (`--authentication-token-webhook-config-file`): it is shown a TokenReview, and its
//! answers are kept for a while.

use std::path::PathBuf;
use std::time::Duration;

use api::strategy::User;
use async_trait::async_trait;
use bytes::Bytes;
use daemon::pflag::duration;
use http::request::Parts;
use serde::Deserialize;
use serde_json::json;

use super::{Authenticator, Rejected, Reviewed, bearer};
use crate::outbound::expiring::Expiring;
use crate::outbound::review_version::ReviewVersion;
use crate::outbound::webhooks::Webhook as Client;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Answers that are kept.
const MOST_ANSWERS: usize = 4096;
/// Longer tokens are nobody's.
const MOST_TOKEN: usize = 64 << 10;

/// How the webhook is found and for how long its answers count.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct TokenWebhookConfig {
    /// Where the webhook is that knows bearer tokens: a kubeconfig file.
    #[arg(id = "authentication-token-webhook-config-file", long)]
    pub file: Option<PathBuf>,
    /// The version of the reviews that it is sent: v1 or v1beta1.
    #[arg(id = "authentication-token-webhook-version", long, default_value = "v1beta1")]
    pub version: ReviewVersion,
    /// For how long its answers are remembered.
    #[arg(id = "authentication-token-webhook-cache-ttl", long, default_value = "2m0s", value_parser = duration)]
    pub keep: Duration,
}

impl Default for TokenWebhookConfig {
    fn default() -> Self {
        daemon::pflag::defaults()
    }
}

/// The authenticator.
pub(crate) struct TokenWebhook {
    client: Client,
    config: TokenWebhookConfig,
    /// Audiences of this server.
    audiences: Vec<String>,
    answers: Expiring<Option<Reviewed>>,
}

#[derive(Deserialize)]
struct Review {
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: ReviewedUser,
    audiences: Vec<String>,
    error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewedUser {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: std::collections::BTreeMap<String, Vec<String>>,
}

impl TokenWebhook {
    /// `audiences` are those of this server.
    pub(crate) fn new(client: Client, config: TokenWebhookConfig, audiences: Vec<String>) -> Self {
        Self { client, config, audiences, answers: Expiring::new(MOST_ANSWERS) }
    }

    async fn known(&self, token: &str, audiences: &[String]) -> Result<Option<Reviewed>, Rejected> {
        if token.len() > MOST_TOKEN {
            return Ok(None);
        }
        let question = json!([token, audiences]).to_string();
        if let Some(known) = self.answers.get(question.as_bytes()) {
            return Ok(known);
        }
        let status = self.ask(token, audiences).await?;
        let error = status.error.clone();
        let answer = reviewed(status, audiences, &self.audiences);
        // An error may be gone the next time.
        if error.is_empty() || answer.is_some() {
            self.answers.put(question.as_bytes(), answer.clone(), self.config.keep);
            return Ok(answer);
        }
        Err(Rejected::because(error))
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Status, Rejected> {
        let version = format!("authentication.k8s.io/{}", self.config.version.as_str());
        let mut review =
            json!({"apiVersion": version, "kind": "TokenReview", "metadata": {}, "spec": {"token": token}});
        if !audiences.is_empty() {
            review["spec"]["audiences"] = audiences.into();
        }
        let answer = self.client.ask(Bytes::from(review.to_string()), TIMEOUT).await.map_err(|err| {
            tracing::error!(error = &err as &dyn std::error::Error, "failed to make webhook authenticator request");
            Rejected::because(err.to_string())
        })?;
        let review: Review = serde_json::from_slice(&answer)
            .map_err(|err| Rejected::because(format!("the webhook's answer is no review: {err}")))?;
        Ok(review.status)
    }
}

/// Whose token it is. A webhook that says nothing of audiences vouches for `own`, those of this server, alone.
fn reviewed(status: Status, wanted: &[String], own: &[String]) -> Option<Reviewed> {
    if !status.authenticated || status.user.username.is_empty() {
        return None;
    }
    let good = if status.audiences.is_empty() { own } else { &status.audiences };
    let audiences: Vec<String> = wanted.iter().filter(|audience| good.contains(audience)).cloned().collect();
    if audiences.is_empty() && !wanted.is_empty() {
        return None;
    }
    let ReviewedUser { username, uid, groups, extra } = status.user;
    let user = User { name: username, uid, groups, extra: extra.into_iter().collect() };
    Some(Reviewed { user, audiences })
}

#[async_trait]
impl Authenticator for TokenWebhook {
    async fn authenticate(&self, request: &Parts) -> Result<Option<User>, Rejected> {
        let Some(token) = bearer(request)? else { return Ok(None) };
        Ok(self.known(&token, &self.audiences).await?.map(|reviewed| reviewed.user))
    }

    async fn review(&self, token: &str, audiences: &[String]) -> Result<Option<Reviewed>, Rejected> {
        self.known(token, audiences).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(audiences: &[&str]) -> Status {
        let user = ReviewedUser { username: "jane".into(), ..ReviewedUser::default() };
        let audiences = audiences.iter().map(|&audience| audience.to_owned()).collect();
        Status { authenticated: true, user, audiences, error: String::new() }
    }

    #[test]
    fn a_token_is_good_for_the_audiences_that_both_name() {
        let wanted = ["a".to_owned(), "b".to_owned()];
        let audiences =
            |given: &[&str]| reviewed(status(given), &wanted, &["a".to_owned()]).map(|reviewed| reviewed.audiences);
        assert_eq!(audiences(&["b", "c"]), Some(vec!["b".to_owned()]));
        assert_eq!(audiences(&["c"]), None);
        assert_eq!(audiences(&[]), Some(vec!["a".to_owned()]));
        assert!(reviewed(status(&[]), &wanted, &["c".to_owned()]).is_none());
        assert!(reviewed(Status { authenticated: false, ..status(&[]) }, &wanted, &wanted).is_none());
        assert!(reviewed(Status { user: ReviewedUser::default(), ..status(&[]) }, &wanted, &wanted).is_none());
    }
}
