//! The three patch formats that change a document: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7386) and
//! Kubernetes' strategic merge patch. Server-side apply is [`crate::apply`].
//!
//! Patches come from clients: every function is bounded in time, memory and recursion, and errors carry the words and
//! HTTP codes of the reference server.

#[cfg(test)]
mod any;
mod go;
mod json;
mod merge;
mod order;
mod strategic;
mod strict;

pub use go::go_format;
pub(crate) use go::go_syntax;
pub use json::json_patch;
pub use merge::merge_patch;
pub use strategic::strategic_merge;
pub use strict::strict_findings;

use serde_json::Value;
use thiserror::Error;

use crate::field::{FieldError, Path};
use crate::schema::SchemaRef;
use crate::status::{ApiError, Details, Qualified};

/// JSON patches with more operations are refused, as upstream refuses them.
pub const MAX_OPERATIONS: usize = 10_000;

/// Documents that nest deeper after a patch are refused: they could not be read back.
const MAX_DEPTH: usize = 120;

/// The format of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    /// A configuration of server-side apply.
    Apply,
}

impl PatchType {
    /// The document that a patch of this format makes of another one; a configuration is merged as it is.
    pub fn merged(self, document: Value, patch: &[u8], schema: SchemaRef<'_>) -> Result<Value, PatchError> {
        match self {
            Self::Json => json_patch(document, patch),
            Self::Strategic => strategic_merge(document, patch, schema),
            Self::Merge | Self::Apply => merge_patch(document, patch),
        }
    }
}

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatchError {
    /// The patch is not JSON of the right shape.
    #[error("{0}")]
    Malformed(String),
    /// A JSON patch has this many operations.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// What a JSON patch tests is not so.
    #[error("operation {operation}: the test failed")]
    TestFailed { operation: usize },
    /// An operation of a JSON patch failed: a missing path, an unknown operation, too much growth.
    #[error("operation {operation}: {why}")]
    Rejected { operation: usize, why: String },
    /// A strategic merge patch contradicts itself or the schema: a directive that is unknown, an element without key.
    #[error("{0}")]
    Directive(String),
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(why) => Self::bad_request(why),
            PatchError::TooManyOperations(_) => Self::too_large(format!("Request entity too large: {error}")),
            // The reference does not tell the client which operation failed, and clients compare this text.
            PatchError::Rejected { .. } | PatchError::TestFailed { .. } => {
                Self::new(422, "Invalid", "the server rejected our request due to an error in our request")
                    .with_details(Details::default())
            }
            PatchError::Directive(why) => Self::unclassified(why),
        }
    }
}

/// The 422 for a patched document that does not decode: `shown` is the whole patched document for JSON and merge
/// patches, and the patch in Go's notation ([`go_format`]) for strategic merge patches.
pub fn undecodable(shown: &str, why: &str) -> ApiError {
    let error = FieldError::invalid(&Path::new("patch"), shown, why);
    let mut refused = ApiError::invalid(Qualified { group: "", resource: "" }, "", &[error]);
    // An object without kind and name is named by a blank and an empty string.
    let status = refused.status_mut();
    if !status.message.starts_with(' ') {
        status.message.insert(0, ' ');
    }
    refused
}

/// Whether a value nests deeper than `limit`; looks no deeper than that.
fn deeper_than(value: &Value, limit: usize) -> bool {
    let Some(rest) = limit.checked_sub(1) else { return value.is_object() || value.is_array() };
    match value {
        Value::Object(map) => map.values().any(|child| deeper_than(child, rest)),
        Value::Array(list) => list.iter().any(|child| deeper_than(child, rest)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_the_statuses_of_the_reference() {
        let status = ApiError::from(PatchError::Rejected { operation: 0, why: "path".into() }).to_value();
        assert_eq!(status["code"], 422);
        assert_eq!(status["details"], serde_json::json!({}));
        let status = ApiError::from(PatchError::Directive("why".into())).to_value();
        assert_eq!(status.get("reason"), None);
        assert_eq!(
            undecodable("map[a:1]", "cannot restore map from string").to_string(),
            r#" "" is invalid: patch: Invalid value: "map[a:1]": cannot restore map from string"#
        );
    }
}
