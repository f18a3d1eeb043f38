//! Signs the ConfigMap `kube-public/cluster-info` with every token that may (upstream: `Signer`): who has a token knows by that
//! that the cluster of the token has written it, and needs no hash of its CA (`kubeadm join --token`).
//!
//! A signature is a JSON Web Signature without its content, which stands beside it, under `jws-kubeconfig-<id>`.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Informer, ObjectKey, WorkQueue, clock, write};
use daemon::sign_detached;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::PostParams;

use super::{PREFIX, left, text};
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "bootstrap-signer-controller",
    aliases: &["bootstrapsigner"],
    // One object is written.
    start: |start| start.drive("bootstrap_signer_queue", Signer::new(start.context), 1),
};

/// What is signed, and where.
const CONTENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";
/// More signatures than this do not fit into a ConfigMap with room to spare.
const MOST: usize = 1000;

struct Signer {
    client: kube::Client,
    maps: Informer<ConfigMap>,
    secrets: Informer<Secret>,
}

fn map_key() -> ObjectKey {
    ObjectKey::new("kube-public", "cluster-info")
}

impl Signer {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let maps = context.informers.with_fields::<ConfigMap>("metadata.name=cluster-info");
        let changed = queue.clone();
        maps.on_event(move |event| {
            if event.key() == map_key() {
                changed.add(event.key());
            }
        });
        let secrets = super::secrets(context);
        let changed = queue.clone();
        secrets.on_event(move |event| {
            if event.key().namespace == super::NAMESPACE {
                changed.add(map_key());
            }
        });
        (Self { client: context.client.clone(), maps, secrets }, queue)
    }
}

impl Controller for Signer {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(map) = self.maps.get(&key) else { return Ok(None) };
        let Some(content) = map.data.as_ref().and_then(|data| data.get(CONTENT)) else { return Ok(None) };
        let (secrets, now) = (self.secrets.list_in(super::NAMESPACE), clock::now());
        let tokens: Vec<Token<'_>> = secrets.iter().filter_map(|secret| Token::of(secret, now)).take(MOST).collect();
        let again = tokens.iter().filter_map(|token| token.left).min();
        let mut data = map.data.clone().unwrap_or_default();
        data.retain(|name, _| !name.starts_with(SIGNATURE));
        data.extend(signatures(content, &tokens)?);
        if map.data.as_ref() != Some(&data) {
            let signed = ConfigMap { data: Some(data), ..(*map).clone() };
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.namespace);
            write::ignore_not_found(api.replace(&key.name, &PostParams::default(), &signed).await)?;
        }
        Ok(again)
    }
}

/// A token that may sign.
struct Token<'a> {
    id: &'a str,
    secret: &'a str,
    left: Option<Duration>,
}

impl<'a> Token<'a> {
    /// Reads a Secret; `None` where it may not, or has expired.
    fn of(secret: &'a Secret, now: Timestamp) -> Option<Self> {
        let (id, left) = (text(secret, "token-id")?, left(secret, now));
        let is_named = secret.metadata.name.as_deref().and_then(|name| name.strip_prefix(PREFIX)) == Some(id);
        let may = text(secret, "usage-bootstrap-signing") == Some("true") && left != Some(Duration::ZERO);
        let key = text(secret, "token-secret").filter(|secret| !secret.is_empty())?;
        (is_named && may && secret.metadata.deletion_timestamp.is_none()).then_some(Self { id, secret: key, left })
    }
}

fn signatures(content: &str, tokens: &[Token<'_>]) -> Result<BTreeMap<String, String>, Failure> {
    let sign = |token: &Token<'_>| {
        let signed = sign_detached(content, token.id, token.secret).map_err(|err| Failure::Sign(Box::new(err)))?;
        Ok((format!("{SIGNATURE}{}", token.id), signed))
    };
    tokens.iter().map(sign).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn token(name: &str, change: &[(&str, &str)]) -> Secret {
        let mut data: BTreeMap<&str, &str> =
            [("token-id", "abcdef"), ("token-secret", "0123456789abcdef"), ("usage-bootstrap-signing", "true")].into();
        data.extend(change.iter().copied());
        let data = data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())));
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        Secret { metadata, data: Some(data.collect()), ..Secret::default() }
    }

    #[test]
    fn only_good_tokens_that_may_sign_do() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let may = |name: &str, change: &[(&str, &str)]| Token::of(&token(name, change), now).is_some();
        assert!(may("bootstrap-token-abcdef", &[]));
        assert!(may("bootstrap-token-abcdef", &[("expiration", "2026-01-02T00:00:00Z")]));
        for change in [
            ("expiration", "2025-01-02T00:00:00Z"),
            ("expiration", "never"),
            ("usage-bootstrap-signing", "false"),
            ("token-secret", ""),
            ("token-id", "fedcba"),
        ] {
            assert!(!may("bootstrap-token-abcdef", &[change]), "{change:?}");
        }
        assert!(!may("other", &[]));
    }

    #[test]
    fn a_signature_is_what_anybody_else_makes_of_the_same_secret() {
        // By Python's hmac and base64.
        let signed = sign_detached("kind: Config\n", "abcdef", "0123456789abcdef").unwrap();
        assert_eq!(signed, "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..3ZR7IfHD4V0NLYjj9trDyCFIZSwMzkyMpnxx9vCiSPI");
    }
}
