//! Why a configuration cannot be applied, in the words of the reference.

use thiserror::Error;

use crate::status::{ApiError, Cause, Details};

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As error texts name the manager: `"a" using apps/v1`.
    pub manager: String,
    /// `.spec.replicas`.
    pub path: String,
}

/// Why a configuration cannot be applied.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ApplyError {
    #[error("invalid object type: {0}")]
    WrongKind(String),
    #[error("metadata.managedFields must be nil")]
    ManagedFieldsGiven,
    /// The configuration does not fit the schema; the first field names the object.
    #[error("failed to create typed patch object ({0}): {1}")]
    Untyped(String, String),
    /// What came of the merge is no object of its kind.
    #[error("failed to convert new object to proper version: unable to convert unstructured object to {kind}: {why}")]
    Unconvertible { kind: String, why: String },
    #[error("failed to decode managed fields: {0}")]
    BadManagedFields(String),
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        match error {
            ApplyError::WrongKind(_) | ApplyError::ManagedFieldsGiven => Self::bad_request(message),
            ApplyError::Untyped(..) | ApplyError::Unconvertible { .. } | ApplyError::BadManagedFields(_) => {
                Self::unclassified(message)
            }
            ApplyError::Conflicts(conflicts) => {
                let causes = conflicts.into_iter().map(|conflict| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: format!("conflict with {}", conflict.manager),
                    field: conflict.path,
                });
                let details = Details { causes: causes.collect(), ..Details::default() };
                Self::new(409, "Conflict", message).with_details(details)
            }
        }
    }
}

/// Conflicts are grouped by manager, which they arrive ordered by.
fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.path);
    }
    let mut lines = Vec::new();
    for group in conflicts.chunk_by(|a, b| a.manager == b.manager) {
        lines.extend(group.first().map(|first| format!("conflicts with {}:", first.manager)));
        lines.extend(group.iter().map(|conflict| format!("- {}", conflict.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
