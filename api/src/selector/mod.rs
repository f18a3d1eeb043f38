//! Selectors: labels (`app in (a, b), !x`) and fields (`spec.nodeName=n1`), parsed and worded as apimachinery does.

mod fields;
mod labels;
mod parse;
#[cfg(test)]
mod tests;

pub use fields::{FieldRequirement, FieldSelector};
pub use labels::{LabelSelector, Operator, Requirement};

/// Why a selector is refused: the text of a 400 answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl From<Error> for crate::status::ApiError {
    fn from(error: Error) -> Self {
        Self::bad_request(error.0)
    }
}
