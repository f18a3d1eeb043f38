//! Service account tokens, bound to the pod and renewed before they expire (upstream: pkg/kubelet/token).
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ServiceAccount, ServiceAccountTokenProjection};
use k8s_openapi::api::storage::v1::TokenRequest as DriverToken;
use kube::Api;
use kube::api::PostParams;

use super::{Pass, Reason, State};
use crate::pod;

const DEFAULT_SECONDS: i64 = 3600;
/// No token is used for longer than a day, whatever its lifetime.
const MAX_AGE: i64 = 24 * 3600;

/// A token and when to ask for the next.
pub(super) struct Token {
    text: String,
    expires: Timestamp,
    pub(super) renew_at: Timestamp,
}

impl Token {
    /// The token itself.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Until when it holds.
    pub(super) fn expires(&self) -> Timestamp {
        self.expires
    }
}

impl Pass<'_> {
    /// The token of a projection, from before if it is still fresh.
    pub(super) async fn token(
        &self,
        id: &str,
        source: &ServiceAccountTokenProjection,
        state: &mut State,
    ) -> Result<String, Reason> {
        let now = client::clock::now();
        if let Some(token) = state.tokens.get(id).filter(|token| now < token.renew_at) {
            return Ok(token.text.clone());
        }
        match self.request(source.audience.as_deref(), source.expiration_seconds).await {
            Ok(token) => {
                let text = token.text.clone();
                state.tokens.insert(id.to_owned(), token);
                Ok(text)
            }
            Err(reason) => match state.tokens.get_mut(id) {
                // The old token holds for a while yet; try again soon.
                Some(token) => {
                    token.renew_at = now.checked_add(SignedDuration::from_secs(30)).unwrap_or(now);
                    Ok(token.text.clone())
                }
                None => Err(reason),
            },
        }
    }

    /// The token for someone that a driver talks to, from before if it is still fresh.
    pub(super) async fn driver_token<'a>(
        &self,
        volume: &str,
        wanted: &DriverToken,
        state: &'a mut State,
    ) -> Result<&'a Token, Reason> {
        let id = format!("{volume}/{}", wanted.audience);
        let is_fresh = state.driver_tokens.get(&id).is_some_and(|token| client::clock::now() < token.renew_at);
        if !is_fresh {
            let token = self.request(Some(&wanted.audience), wanted.expiration_seconds).await?;
            state.driver_tokens.insert(id.clone(), token);
        }
        Ok(&state.driver_tokens[&id])
    }

    async fn request(&self, audience: Option<&str>, seconds: Option<i64>) -> Result<Token, Reason> {
        let account = pod::spec(self.pod).service_account_name.as_deref().unwrap_or("default");
        let seconds = seconds.unwrap_or(DEFAULT_SECONDS);
        let audiences = audience.filter(|audience| !audience.is_empty()).map(|audience| vec![audience.to_owned()]);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences,
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(pod::name(self.pod).to_owned()),
                    uid: Some(pod::uid(self.pod).to_owned()),
                }),
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.context.client.clone(), pod::namespace(self.pod));
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .map_err(|err| format!("failed to fetch token: {}", crate::failure::answer(&err)))?;
        let status = answer.status.ok_or("failed to fetch token: the answer has no status")?;
        let now = client::clock::now();
        let (Some(text), Some(expires)) = (status.token, status.expiration_timestamp) else {
            return Err("failed to fetch token: the answer has no token".into());
        };
        let lifetime = expires.0.duration_since(now).as_secs().max(1);
        let use_for = (lifetime * 8 / 10).min(MAX_AGE);
        let renew_at = now.checked_add(SignedDuration::from_secs(use_for)).unwrap_or(now);
        Ok(Token { text, expires: expires.0, renew_at })
    }
}
