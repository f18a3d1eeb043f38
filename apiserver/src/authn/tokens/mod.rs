//! ServiceAccount tokens: signed here, accepted as long as the account and the object that they are bound to live.
//! Upstream: `pkg/serviceaccount`.

mod claims;
mod keys;
mod legacy;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::Object;
use api::strategy::User;
use async_trait::async_trait;
use http::request::Parts;
use jiff::Timestamp;
use jsonwebtoken::Validation;
use serde_json::{Value, from_value, json};
use sha2::{Digest as _, Sha256};

use self::keys::Keys;
use super::{Authenticator, Rejected, Reviewed, bearer};
use crate::config::Config;
use crate::watch_cache::{ResourceCache, WatchCache};

pub use claims::{Audiences, Claims, Private, Reference};
use claims::{LEGACY_ISSUER, Signed};
use keys::Error as KeyError;
pub(crate) use keys::public_key_of;

/// Users of ServiceAccounts are named `system:serviceaccount:NAMESPACE:NAME`.
pub const PREFIX: &str = "system:serviceaccount:";
/// Seconds that a token stays good after its pod or account began to be deleted.
const AFTER_DELETION: i64 = 60;
/// Tokens whose signature is remembered as good.
const REMEMBERED: usize = 4096;

/// The issuer and judge of ServiceAccount tokens.
pub struct Tokens {
    keys: Keys,
    issuers: Vec<String>,
    audiences: Vec<String>,
    accounts: Arc<ResourceCache>,
    pods: Arc<ResourceCache>,
    nodes: Arc<ResourceCache>,
    secrets: Arc<ResourceCache>,
    good: Mutex<HashMap<[u8; 32], Arc<Signed>>>,
}

/// The groups of a namespace's ServiceAccounts.
pub fn groups_of(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

/// Namespace and name of the ServiceAccount that a user is.
pub fn account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

impl Tokens {
    /// Reads the keys of a configuration. `None` if the resources it judges by are not served.
    pub fn new(config: &Config, cache: &WatchCache) -> Result<Option<Self>, KeyError> {
        let resources = ["serviceaccounts", "pods", "minions", "secrets"].map(|plural| cache.resource(plural));
        let [Some(accounts), Some(pods), Some(nodes), Some(secrets)] = resources else { return Ok(None) };
        let keys = Keys::read(config.service_account_signing_key.as_deref(), &config.service_account_keys)?;
        let issuers = config.service_account_issuers.clone();
        let audiences = if config.api_audiences.is_empty() { issuers.clone() } else { config.api_audiences.clone() };
        Ok(Some(Self { keys, issuers, audiences, accounts, pods, nodes, secrets, good: Mutex::default() }))
    }

    /// The audiences of this server.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The issuer of new tokens.
    pub fn issuer(&self) -> &str {
        self.issuers.first().map_or("", String::as_str)
    }

    /// Signs a token.
    pub fn sign(&self, claims: &Claims) -> Result<String, daemon::SignError> {
        self.keys.signer.sign(claims)
    }

    /// The keys that tokens can be checked with, as a JWKS document.
    pub fn key_set(&self) -> Value {
        json!({"keys": self.keys.verifiers.iter().map(|verifier| &verifier.document).collect::<Vec<_>>()})
    }

    /// The OpenID provider document.
    pub fn discovery(&self, jwks_uri: &str) -> Value {
        let mut algorithms: Vec<String> =
            self.keys.verifiers.iter().map(|verifier| format!("{:?}", verifier.algorithm)).collect();
        algorithms.sort();
        algorithms.dedup();
        json!({
            "issuer": self.issuer(), "jwks_uri": jwks_uri, "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": algorithms,
        })
    }

    /// Whose token this is, and for which of the wanted audiences. `None` if it is not a token of this issuer at all.
    pub async fn verify(&self, token: &str, wanted: &[String]) -> Result<Option<Reviewed>, Rejected> {
        let Some(signed) = self.signed(token)? else { return Ok(None) };
        match &*signed {
            Signed::Bound(claims) => self.verify_bound(claims, wanted).await,
            Signed::Legacy(claims) => self.verify_legacy(token, claims, wanted).await,
        }
        .map(Some)
    }

    async fn verify_bound(&self, claims: &Claims, wanted: &[String]) -> Result<Reviewed, Rejected> {
        let now = Timestamp::now().as_second();
        if claims.exp <= now {
            return Err(reject("service account token has expired"));
        }
        if claims.nbf > now + 1 {
            return Err(reject("service account token is not valid yet"));
        }
        let audiences = common(claims.aud.as_slice(), wanted)?;
        self.check_alive(&claims.private, now).await?;
        Ok(Reviewed { user: user_of(claims), audiences })
    }

    /// The claims of a token with a good signature and issuer.
    pub(crate) fn signed(&self, token: &str) -> Result<Option<Arc<Signed>>, Rejected> {
        // Tokens of other kinds (static ones) have no such shape.
        if token.split('.').count() != 3 {
            return Ok(None);
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.good.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(Some(known.clone()));
        }
        let Ok(header) = jsonwebtoken::decode_header(token) else { return Ok(None) };
        let candidates =
            self.keys.verifiers.iter().filter(|verifier| header.kid.as_ref().is_none_or(|id| *id == verifier.id));
        for verifier in candidates {
            let mut validation = Validation::new(verifier.algorithm);
            validation.validate_exp = false;
            validation.validate_aud = false;
            validation.required_spec_claims.clear();
            let Ok(read) = jsonwebtoken::decode::<Value>(token, &verifier.key, &validation) else { continue };
            let signed = match read.claims["iss"].as_str() {
                Some(LEGACY_ISSUER) => from_value(read.claims).map(Signed::Legacy),
                Some(issuer) if self.issuers.iter().any(|known| known == issuer) => {
                    from_value(read.claims).map(Signed::Bound)
                }
                _ => return Ok(None),
            };
            let Ok(signed) = signed.map(Arc::new) else { continue };
            self.remember(digest, &signed);
            return Ok(Some(signed));
        }
        Err(reject("invalid bearer token"))
    }

    fn remember(&self, digest: [u8; 32], signed: &Arc<Signed>) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= REMEMBERED {
            let now = Timestamp::now().as_second();
            good.retain(|_, known| matches!(&**known, Signed::Bound(claims) if claims.exp > now));
            if good.len() >= REMEMBERED {
                good.clear();
            }
        }
        good.insert(digest, signed.clone());
    }

    async fn check_account(&self, namespace: &str, account: &Reference, now: i64) -> Result<(), Rejected> {
        let found = object_in(&self.accounts, namespace, &account.name).await?;
        let missing = || reject(&format!("serviceaccounts {:?} not found", account.name));
        let found = found.ok_or_else(missing)?;
        if is_gone(&found, now) {
            return Err(reject(&format!("service account {namespace}/{} has been deleted", account.name)));
        }
        if found.uid() != account.uid {
            let (is, was) = (found.uid(), &account.uid);
            return Err(reject(&format!("service account UID ({is}) does not match claim ({was})")));
        }
        Ok(())
    }

    /// Refuses tokens that have outlived their account or what they are bound to.
    async fn check_alive(&self, private: &Private, now: i64) -> Result<(), Rejected> {
        let namespace = private.namespace.as_str();
        self.check_account(namespace, &private.serviceaccount, now).await?;
        let bound = [
            (&private.secret, &self.secrets, namespace, "secret"),
            (&private.pod, &self.pods, namespace, "pod"),
            (&private.node, &self.nodes, "", "node"),
        ];
        for (reference, cache, namespace, what) in bound {
            // Which node a pod's token names does not matter.
            let Some(reference) = reference.as_ref().filter(|_| what != "node" || private.pod.is_none()) else {
                continue;
            };
            let found = object_in(cache, namespace, &reference.name).await?.filter(|object| !is_gone(object, now));
            let found = found.ok_or_else(|| reject("service account token has been invalidated"))?;
            if found.uid() != reference.uid {
                let (is, was) = (found.uid(), &reference.uid);
                let why = format!("{what} UID ({is}) does not match service account {what} ref claim ({was})");
                return Err(reject(&why));
            }
        }
        Ok(())
    }
}

/// The audiences of a token that are among the wanted.
fn common(its: &[String], wanted: &[String]) -> Result<Vec<String>, Rejected> {
    let common: Vec<String> = its.iter().filter(|audience| wanted.contains(audience)).cloned().collect();
    if common.is_empty() {
        let list = |audiences: &[String]| {
            audiences.iter().map(|audience| format!("{audience:?}")).collect::<Vec<_>>().join(" ")
        };
        let (its, theirs) = (list(its), list(wanted));
        return Err(reject(&format!("token audiences [{its}] is invalid for the target audiences [{theirs}]")));
    }
    Ok(common)
}

/// An object as this server has acknowledged it last.
async fn object_in(cache: &ResourceCache, namespace: &str, name: &str) -> Result<Option<Object>, Rejected> {
    cache.settle().await.map_err(|err| reject(&err.to_string()))?;
    Ok(cache.get(&cache.key(namespace, name)).map(|cached| cached.object()))
}

/// Whether the deletion began so long ago that nobody ought to use its tokens any more.
fn is_gone(object: &Object, now: i64) -> bool {
    let deleted = object.text(&["metadata", "deletionTimestamp"]).parse::<Timestamp>();
    deleted.is_ok_and(|deleted| deleted.as_second() + AFTER_DELETION < now)
}

/// The user that a token stands for.
fn user_of(claims: &Claims) -> User {
    let private = &claims.private;
    let mut extra = Vec::new();
    let mut note = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.push((format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]));
        }
    };
    if !claims.jti.is_empty() {
        note("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(node) = &private.node {
        note("node-name", &node.name);
        note("node-uid", &node.uid);
    }
    if let Some(pod) = &private.pod {
        note("pod-name", &pod.name);
        note("pod-uid", &pod.uid);
    }
    User {
        name: format!("{PREFIX}{}:{}", private.namespace, private.serviceaccount.name),
        uid: private.serviceaccount.uid.clone(),
        groups: groups_of(&private.namespace),
        extra,
    }
}

fn reject(reason: &str) -> Rejected {
    Rejected::because(reason)
}

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, request: &Parts) -> Result<Option<User>, Rejected> {
        let Some(token) = bearer(request)? else { return Ok(None) };
        Ok(self.verify(&token, &self.audiences).await?.map(|reviewed| reviewed.user))
    }

    async fn review(&self, token: &str, audiences: &[String]) -> Result<Option<Reviewed>, Rejected> {
        self.verify(token, audiences).await
    }
}
