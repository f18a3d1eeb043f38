//! A profile: which plugins run where, and with which arguments (upstream: `pkg/scheduler/profile`).

mod arguments;
mod error;
mod model;
mod slot;

pub(crate) use self::arguments::typed;
pub use self::error::ConfigError;
pub(crate) use self::error::{args_field, field_of, invalid};
pub(crate) use self::model::default_scheduler;
pub use self::model::{PluginConfig, PluginRef, PluginSet, Plugins, ProfileConfig};
pub use self::slot::Handles;
pub(crate) use self::slot::{PluginSpec, Slot};
