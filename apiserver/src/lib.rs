//! The API server: HTTP, authentication, authorisation, admission, the one registry, the watch cache and discovery.
//!
//! A request passes the stages in this order, each a module:
//!
//! ```text
//! http -> request_info -> authn -> authz -> intake -> flow_control -> negotiate -> decode -> admission -> registry
//!      -> watch_cache -> response -> sending
//! ```
//!
//! Invariant: only [`registry`] writes to the store.
#![forbid(unsafe_code)]

pub mod admission;
mod aggregator;
mod args;
mod audit;
pub mod authn;
pub mod authz;
mod blocking;
mod bootstrap;
mod call;
mod command;
mod config;
mod conversion;
mod core;
mod definitions;
mod documents;
mod encryption;
mod error;
mod field_managers;
mod flow_control;
pub mod fuzzing;
mod handler;
pub mod http;
mod impersonate;
mod metrics;
pub mod outbound;
mod proxy;
pub mod registry;
pub mod request;
mod response;
mod routes;
mod runtime_config;
mod server;
pub mod service_addresses;
mod stamps;
mod store_error;
mod strict;
mod subresources;
pub mod testing;
pub mod watch_cache;

pub use args::{Args, StoreArgs};
pub use audit::{
    AuditConfig, AuditLogConfig, AuditWebhookConfig, Batch as AuditBatch, Delivery as AuditDelivery,
    Format as AuditFormat, Mode as AuditMode, Rotation as AuditRotation, Throttle as AuditThrottle,
    Truncate as AuditTruncate,
};
pub use authn::{AuthenticationConfig, OidcArgs, TokenWebhookConfig};
pub use authz::{AuthorizationConfig, FailurePolicy, ReviewVersion, WebhookConfig};
pub use command::Command;
pub use config::{Config, ConfigMapKey, FrontProxies};
pub use encryption::EncryptionConfig;
pub use error::Error;
pub use flow_control::Limits;
pub use runtime_config::Served;
pub use server::ApiServer;
