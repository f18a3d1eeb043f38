//! What a Kubernetes object *is*: the resource catalog, schemas, defaulting, validation, patches, apply,
//! selectors, quantities, encodings, table printing and `Status`.
//!
//! Invariant: pure. No tokio, no I/O, no clock, no randomness: time and chance arrive as arguments.
#![forbid(unsafe_code)]

pub mod apply;
pub mod catalog;
pub mod codec;
pub mod cron;
pub mod custom;
pub mod discovery;
pub mod expression;
pub mod field;
pub mod jsonpath;
pub mod kinds;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod quota;
pub mod resource;
pub mod rules;
pub mod scale;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod table;
mod text;
pub mod validate;
pub mod volumes;

use facts::quantity;

pub use field::{FieldError, Path};
pub use object::Object;
pub use resource::Resource;
pub use status::ApiError;
pub use strategy::Strategy;
