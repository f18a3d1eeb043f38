//! What plugins know of claims.

/// The annotation that named a class before there was a field.
pub(super) const LEGACY_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
