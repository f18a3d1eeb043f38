//! Connections that this server makes: to kubelets, pods, webhooks and aggregated servers.

pub(crate) mod dial;
pub(crate) mod expiring;
pub(crate) mod kubeconfig;
pub(crate) mod kubelets;
pub mod review_version;
pub(crate) mod services;
pub mod webhooks;
