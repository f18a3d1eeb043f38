//! What a ServiceAccount token says, in upstream's words.

use serde::{Deserialize, Serialize};

/// The issuer that tokens in Secrets name.
pub(super) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// The claims of a token that lies in a Secret, and is good as long as it lies there (upstream: `legacyPrivateClaims`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LegacyClaims {
    pub(super) sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub(super) namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub(super) secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub(super) account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub(super) account_uid: String,
}

/// What a token with a good signature says.
#[expect(clippy::large_enum_variant, reason = "it is looked at where it is made")]
#[derive(Clone, Debug)]
pub(crate) enum Signed {
    /// One that was asked for, and ends.
    Bound(Claims),
    /// One of a Secret.
    Legacy(LegacyClaims),
}

/// The claims of a token that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(default)]
    pub aud: Audiences,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    #[serde(default)]
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub private: Private,
    pub nbf: i64,
    pub sub: String,
}

/// A list, or one alone as other issuers write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audiences {
    Many(Vec<String>),
    One(String),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Audiences {
    /// As a list.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::Many(all) => all,
            Self::One(one) => std::slice::from_ref(one),
        }
    }
}

/// Who the token is for, and what it ends with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Private {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// One object, for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}
