//! OpenAPI documents: the index of groups, and one document a group and version.

use api::ApiError;

use crate::handler::Call;
use crate::response::{self, Answer};

/// Answers a path below `/openapi/`.
pub(crate) fn answer(_call: &Call<'_>) -> Result<Answer, ApiError> {
    Ok(response::page_not_found())
}
