//! The doors: which part answers a path (upstream's `server/routes`).

pub(crate) mod discovery;
pub(crate) mod health;
pub(crate) mod openapi;
pub(crate) mod pages;
