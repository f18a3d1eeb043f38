//! The versions of `TokenReview` and `SubjectAccessReview`.

use std::str::FromStr;

/// The version of reviews that a webhook speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVersion {
    V1,
    V1beta1,
}

impl ReviewVersion {
    /// As in `apiVersion`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }
}

impl FromStr for ReviewVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "v1" => Ok(Self::V1),
            "v1beta1" => Ok(Self::V1beta1),
            _ => Err(format!("unsupported webhook version {text:?}, supported versions are \"v1\", \"v1beta1\"")),
        }
    }
}
