//! The `jwt` part of an `AuthenticationConfiguration` as the file has it.

use serde::Deserialize;

use crate::strict::Shape;

const ISSUER: Shape = Shape::Fields(&[
    ("url", Shape::Any),
    ("discoveryURL", Shape::Any),
    ("certificateAuthority", Shape::Any),
    ("audiences", Shape::Any),
    ("audienceMatchPolicy", Shape::Any),
    ("egressSelectorType", Shape::Any),
]);
const PREFIXED: Shape = Shape::Fields(&[("claim", Shape::Any), ("prefix", Shape::Any), ("expression", Shape::Any)]);
const MAPPINGS: Shape = Shape::Fields(&[
    ("username", PREFIXED),
    ("groups", PREFIXED),
    ("uid", Shape::Fields(&[("claim", Shape::Any), ("expression", Shape::Any)])),
    ("extra", Shape::List(&Shape::Fields(&[("key", Shape::Any), ("valueExpression", Shape::Any)]))),
]);
const CLAIM_RULE: Shape = Shape::Fields(&[
    ("claim", Shape::Any),
    ("requiredValue", Shape::Any),
    ("expression", Shape::Any),
    ("message", Shape::Any),
]);
const USER_RULE: Shape = Shape::Fields(&[("expression", Shape::Any), ("message", Shape::Any)]);
/// The fields of one issuer.
pub(in crate::authn) const SHAPE: Shape = Shape::Fields(&[
    ("issuer", ISSUER),
    ("claimValidationRules", Shape::List(&CLAIM_RULE)),
    ("claimMappings", MAPPINGS),
    ("userValidationRules", Shape::List(&USER_RULE)),
]);

/// An issuer as a file has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::authn) struct JwtAuthenticator {
    pub(super) issuer: Issuer,
    pub(super) claim_validation_rules: Vec<ClaimValidationRule>,
    pub(super) claim_mappings: ClaimMappings,
    pub(super) user_validation_rules: Vec<UserValidationRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Issuer {
    pub(super) url: String,
    #[serde(rename = "discoveryURL")]
    pub(super) discovery_url: String,
    pub(super) certificate_authority: String,
    pub(super) audiences: Vec<String>,
    pub(super) audience_match_policy: String,
    pub(super) egress_selector_type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ClaimValidationRule {
    pub(super) claim: String,
    pub(super) required_value: String,
    pub(super) expression: String,
    pub(super) message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ClaimMappings {
    pub(super) username: ClaimOrExpression,
    pub(super) groups: ClaimOrExpression,
    pub(super) uid: ClaimOrExpression,
    pub(super) extra: Vec<ExtraMapping>,
}

/// A uid has no prefix.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClaimOrExpression {
    pub(super) claim: String,
    pub(super) prefix: Option<String>,
    pub(super) expression: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ExtraMapping {
    pub(super) key: String,
    pub(super) value_expression: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UserValidationRule {
    pub(super) expression: String,
    pub(super) message: String,
}
