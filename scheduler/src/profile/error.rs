//! What is wrong with a configuration.

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    File(#[from] daemon::ConfigFileError),
    #[error("{field}: {reason}")]
    Invalid { field: String, reason: String },
}

pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { field: field.to_owned(), reason: reason.into() }
}

/// The field of an extension point.
pub(crate) fn field_of(point: &str) -> String {
    format!("profiles[].plugins.{point}")
}

/// The field that holds the arguments of the plugin that is configured at this place.
pub(crate) fn args_field(at: usize) -> String {
    format!("profiles[].pluginConfig[{at}].args")
}
