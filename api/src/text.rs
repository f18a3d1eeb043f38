//! Names that are static for built-in kinds and read for custom ones.

use std::borrow::Cow;

/// Text that is static for built-in kinds and owned for CRDs.
pub type Text = Cow<'static, str>;

/// Group and version of an `apiVersion`; `None` when it has more than one slash.
pub fn split_api_version(api_version: &str) -> Option<(&str, &str)> {
    match api_version.split_once('/') {
        None => Some(("", api_version)),
        Some((_, version)) if version.contains('/') => None,
        parts => parts,
    }
}
