//! Tokens by which machines join (upstream: `pkg/controller/bootstrap`): [`signer`] lets those who have one believe where the
//! cluster is, [`cleaner`] removes those that have expired. Both run only when they are asked for by name, as upstream's do.
//!
//! A token is a Secret of the type `bootstrap.kubernetes.io/token` in `kube-system`, named after the token's public half.

pub(crate) mod cleaner;
pub(crate) mod signer;

use std::time::Duration;

use client::Informer;
use facts::pods;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::context::Context;

const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";

fn secrets(context: &Context) -> Informer<Secret> {
    context.informers.with_fields::<Secret>("type=bootstrap.kubernetes.io/token")
}

/// A text of a Secret; `None` where it is missing or no text.
fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
}

/// How long a token is still good: zero when it has expired, or says of its end what nobody can read; `None` when it has none.
fn left(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let end = text(secret, "expiration").filter(|end| !end.is_empty())?;
    Some(end.parse().map_or(Duration::ZERO, |end| pods::until(end, now)))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn a_token_without_end_is_good_and_one_with_a_strange_end_is_not() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |end: &str| {
            let data = [("expiration".to_owned(), ByteString(end.as_bytes().to_vec()))].into_iter().collect();
            left(&Secret { data: Some(data), ..Secret::default() }, now)
        };
        assert_eq!(at(""), None);
        assert_eq!(at("2026-01-01T00:01:00Z"), Some(Duration::from_secs(60)));
        assert_eq!(at("2026-01-01T01:01:00+01:00"), Some(Duration::from_secs(60)));
        for end in ["2025-12-31T23:59:59Z", "soon", "2026-01-01"] {
            assert_eq!(at(end), Some(Duration::ZERO), "{end}");
        }
        assert_eq!(left(&Secret::default(), now), None);
    }
}
