//! Bootstrap tokens: Secrets of kube-system with which new nodes ask for a certificate. Upstream:
//! `authenticator/token/bootstrap`.

use std::sync::Arc;

use api::Object;
use api::strategy::User;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{Authenticator, Rejected, Reviewed, bearer};
use crate::watch_cache::{ResourceCache, WatchCache};

/// The group of everyone with such a token; what a token adds begins with it, too.
const GROUP: &str = "system:bootstrappers";

/// Recognises users by bootstrap tokens.
pub struct BootstrapTokens {
    secrets: Arc<ResourceCache>,
}

impl BootstrapTokens {
    /// Reads Secrets from the cache.
    pub fn new(cache: &WatchCache) -> Option<Self> {
        Some(Self { secrets: cache.resource("secrets")? })
    }

    async fn user(&self, token: &str) -> Result<Option<User>, Rejected> {
        let parts = token.split_once('.').filter(|(id, secret)| is_part(id, 6) && is_part(secret, 16));
        let Some((id, secret)) = parts else { return Ok(None) };
        self.secrets.settle().await.map_err(|err| Rejected::because(err.to_string()))?;
        let key = self.secrets.key("kube-system", &format!("bootstrap-token-{id}"));
        let kept = self.secrets.get(&key);
        Ok(kept.and_then(|kept| user_of(&kept.object(), id, secret, Timestamp::now())))
    }
}

/// The user of a token whose Secret says that it is good.
fn user_of(object: &Object, id: &str, secret: &str, now: Timestamp) -> Option<User> {
    if object.text(&["type"]) != "bootstrap.kubernetes.io/token"
        || !object.text(&["metadata", "deletionTimestamp"]).is_empty()
    {
        return None;
    }
    let data = |field: &str| String::from_utf8(STANDARD.decode(object.text(&["data", field])).ok()?).ok();
    // Hashes take equally long to compare, whatever is in them.
    let same = |one: &str, other: &str| Sha256::digest(one) == Sha256::digest(other);
    if !same(&data("token-secret")?, secret) || data("token-id")? != id {
        return None;
    }
    let expires = data("expiration").filter(|text| !text.is_empty());
    if expires.is_some_and(|text| !text.parse::<Timestamp>().is_ok_and(|at| at > now)) {
        return None;
    }
    if data("usage-bootstrap-authentication").as_deref() != Some("true") {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    for group in data("auth-extra-groups").unwrap_or_default().split(',').filter(|group| !group.is_empty()) {
        if !is_group(group) {
            return None;
        }
        groups.push(group.to_owned());
    }
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

fn is_part(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Whether a token may add this group.
fn is_group(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().all(|byte| plain(byte) || matches!(byte, b':' | b'-'))
        && rest.bytes().last().is_some_and(plain)
}

#[async_trait]
impl Authenticator for BootstrapTokens {
    async fn authenticate(&self, request: &Parts) -> Result<Option<User>, Rejected> {
        match bearer(request)? {
            Some(token) => self.user(&token).await,
            None => Ok(None),
        }
    }

    async fn review(&self, token: &str, audiences: &[String]) -> Result<Option<Reviewed>, Rejected> {
        Ok(self.user(token).await?.map(|user| Reviewed { user, audiences: audiences.to_vec() }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "abcdef";
    const SECRET: &str = "0123456789abcdef";

    /// The user of the token, with some fields of its Secret changed.
    fn user(changes: &[(&str, Option<&str>)]) -> Option<User> {
        let mut fields = json!({
            "token-id": ID, "token-secret": SECRET, "usage-bootstrap-authentication": "true",
            "expiration": "2030-01-01T00:00:00Z", "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        });
        for (field, value) in changes {
            fields[*field] = value.map_or(Value::Null, Value::from);
        }
        let data: serde_json::Map<String, Value> = fields
            .as_object()
            .unwrap()
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), STANDARD.encode(value.as_str()?).into())))
            .collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token", "data": data,
        });
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        user_of(&Object::from_value(secret).unwrap(), ID, SECRET, now)
    }

    #[test]
    fn a_good_token_stands_for_a_bootstrapper() {
        let user = user(&[]).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"]);
        assert!(super::tests::user(&[("expiration", None)]).is_some(), "it need not expire");
    }

    #[test]
    fn what_is_wrong_with_its_secret_makes_a_token_no_token() {
        for change in [
            ("token-secret", Some("x")),
            ("token-id", Some("fedcba")),
            ("expiration", Some("2020-01-01T00:00:00Z")),
            ("expiration", Some("soon")),
            ("usage-bootstrap-authentication", None),
            ("auth-extra-groups", Some("system:masters")),
        ] {
            assert_eq!(user(&[change]), None, "{change:?}");
        }
    }
}
