//! The API server: upstream's `kube-apiserver` with the libraries that it is made of (`k8s.io/apiserver`,
//! `apiextensions-apiserver`, `kube-aggregator`).
//!
//! # The walk of a request
//!
//! ```text
//! http                    TLS, HTTP/1.1 and HTTP/2; who is at the other end
//! server::pipeline        the deed is read from the request line (request::info); the deadline begins
//!   authn                 who it is from
//!   audit                 from here on it stands around the rest
//!   impersonate           in whose name
//!   flow_control          what class of request it is
//!   authz                 whether the user may
//!   request::intake       the body is read,
//!   flow_control          before there is a seat
//! routes                  another server's (proxy::aggregated), a resource, or a page; for resources the verb
//!   handler               a verb    (subresources, proxy: what lies below objects, what lies on nodes)
//!     request::decode     bytes to an object: media type, schema, field validation; then defaults
//! registry                the frame of every write, repeated when somebody else was faster. It calls
//!   field_managers        who owns which field
//!   admission             mutating plugins
//!   api::Strategy         prepare
//!   service_addresses     addresses and ports, of Services
//!   api::Strategy         validate
//!   admission             validating plugins; quota is booked last
//!   store                 compare-and-swap, through encryption::Sealed and metrics::Measured
//! watch_cache             the commit comes back as an event, and is shown to reads and watches
//! handler::encode         the answer: version, shape, encoding
//! flow_control::sending   keeps the seat until the client has read it
//! ```
//!
//! # The floors
//!
//! A part knows those below it and none above; on one line, none knows another unless an arrow says so.
//!
//! ```text
//! server                                     puts together, runs, listens, lets requests in
//! routes                                     which door
//! subresources -> handler, proxy             the doors
//! call                 bootstrap             a request that was let in    what must be there
//! core                                       the parts of a running server
//! aggregator  definitions  documents  flow_control      follow objects, by the registry
//! registry -> service_addresses              who writes to the store; nobody else does
//! admission -> audit    impersonate          checks
//! authz -> authn        conversion
//! usage -> outbound                          what nodes and pods use    connections that this server makes
//! watch_cache -> encryption
//! response, metrics -> request    http       and single files: error, store_error, stamps, strict, ...
//! ```
//!
//! [`Config`] is plain values, made of what each part says that it can be told, and given to whatever is made from it.
//!
//! # How to add
//!
//! * **a stage**: a file with one function over what it needs, and its line in `server::pipeline` (smallest:
//!   `impersonate`).
//! * **an admission plugin**: see [`admission`].
//! * **a subresource**: its entry in the resource's row (`api::catalog`). If it is a part of the object, a line in
//!   `registry::narrow` says which; if it is an object of its own, a file in `subresources/` and an arm in
//!   `subresources::answer` (smallest: `binding`). What leads to a node goes by `proxy`.
//! * **a path that is no resource**: a file in `routes/` whose `answer` says `None` to other paths, and its line in
//!   `routes::other` (smallest: `pages`).
//! * **a verb's behaviour**: what clients see is `handler`'s, what is stored is the file of that verb in `registry/`.
//! * **a follower of objects**: beside `definitions`; it is started in `server::run`.
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
mod fencing;
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
mod usage;
pub mod watch_cache;

pub use admission::{AdmissionConfig, ConfigMapKey, DefaultTolerationSeconds};
pub use args::{Args, EtcdArgs, StoreArgs};
pub use audit::{
    AuditConfig, AuditLogConfig, AuditWebhookConfig, Batch as AuditBatch, Delivery as AuditDelivery,
    Format as AuditFormat, Mode as AuditMode, Rotation as AuditRotation, Throttle as AuditThrottle,
    Truncate as AuditTruncate,
};
pub use authn::{AuthenticationConfig, OidcArgs, TokenWebhookConfig};
pub use authz::{AuthorizationConfig, FailurePolicy, ReviewVersion, WebhookConfig};
pub use command::Command;
pub use config::{Config, EndpointReconciler, FrontProxies};
pub use encryption::EncryptionConfig;
pub use error::Error;
pub use flow_control::Limits;
pub use runtime_config::Served;
pub use server::ApiServer;
