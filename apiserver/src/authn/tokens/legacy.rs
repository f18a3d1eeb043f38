//! Tokens that lie in Secrets of the type `kubernetes.io/service-account-token`: good for as long as they lie there
//! (upstream: `legacyValidator` of `pkg/serviceaccount`). The controller `serviceaccount-token-controller` makes them.

use api::Object;
use api::strategy::User;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use super::claims::LegacyClaims;
use super::{PREFIX, Reference, Rejected, Reviewed, Tokens, common, groups_of, object_in, reject};

/// Since when a token shall not be used any more.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

impl Tokens {
    pub(super) async fn verify_legacy(
        &self,
        token: &str,
        claims: &LegacyClaims,
        wanted: &[String],
    ) -> Result<Reviewed, Rejected> {
        // They name no audience: they are for this server.
        let audiences = common(&self.audiences, wanted)?;
        let user = User {
            name: format!("{PREFIX}{}:{}", claims.namespace, claims.account),
            uid: claims.account_uid.clone(),
            groups: groups_of(&claims.namespace),
            extra: Vec::new(),
        };
        if claims.sub != user.name {
            return Err(reject("sub claim is invalid"));
        }
        let secret = object_in(&self.secrets, &claims.namespace, &claims.secret).await?;
        check_secret(secret.as_ref(), token, claims)?;
        let account = Reference { name: claims.account.clone(), uid: claims.account_uid.clone() };
        self.check_account(&claims.namespace, &account, Timestamp::now().as_second()).await?;
        Ok(Reviewed { user, audiences })
    }
}

fn check_secret(secret: Option<&Object>, token: &str, claims: &LegacyClaims) -> Result<(), Rejected> {
    let alive = secret.filter(|secret| secret.get(&["metadata", "deletionTimestamp"]).is_none());
    let secret = alive.ok_or_else(|| reject("service account token has been invalidated"))?;
    let kept = secret.get(&["data", "token"]).and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
    if kept.as_deref() != Some(token.as_bytes()) {
        return Err(reject("service account token does not match server's copy"));
    }
    if secret.text(&["metadata", "labels", INVALID_SINCE]).parse::<Date>().is_ok() {
        let LegacyClaims { namespace, secret, account, .. } = claims;
        return Err(reject(&format!(
            "the token in secret {namespace}/{secret} for service account {namespace}/{account} has been marked invalid. \
             Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the \
             '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        )));
    }
    Ok(())
}
